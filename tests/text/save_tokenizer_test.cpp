#include <gtest/gtest.h>

#include "gpt/core/error.h"
#include "gpt/text/byte_bpe.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "text/small_bpe.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;
using test::read_file;
using test::TempDir;
using test::write_file;

const std::filesystem::path kDemo = std::filesystem::path(GPT_SOURCE_DIR) / "examples/models/demo";
constexpr std::string_view kSample = "ROMEO:\nIt's 42 <|endoftext|> naïve <x> \xFF";

ByteBpeModel rich_model() {
  ByteBpeModel model = test::small_bpe_model({{"a", "b"}, {" ", "ab"}});
  model.added_tokens = {{.content = "<s>"},
                        {.content = "<n>", .id = 400, .special = false, .lstrip = true, .single_word = true}};
  model.add_prefix_space = true;
  model.ignore_merges = true;
  model.use_regex = false;
  model.bos_token = model.eos_token = "<s>";
  model.prefix_tokens = {"<s>"};
  model.suffix_tokens = {"<n>"};
  return model;
}

TEST(SaveTokenizer, KeepsVocabAndMergesOfGpt2) {
  const TempDir dir;
  const auto tokenizer = load_tokenizer(kDemo);
  tokenizer->save(dir.path());
  EXPECT_EQ(read_file(dir / "merges.txt"), read_file(kDemo / "merges.txt"));
  const auto original = parse_vocab_and_merges(read_file(kDemo / "vocab.json"), "");
  EXPECT_EQ(parse_vocab_and_merges(read_file(dir / "vocab.json"), "").vocab, original.vocab);
  for (const bool with_tokenizer_json : {true, false}) {
    if (!with_tokenizer_json) std::filesystem::remove(dir / "tokenizer.json");
    const auto again = load_tokenizer(dir.path());
    EXPECT_EQ(again->encode(kSample), tokenizer->encode(kSample));
    EXPECT_EQ(again->eos_token_id(), tokenizer->eos_token_id());
    EXPECT_EQ(again->vocab_size(), tokenizer->vocab_size());
  }
}

TEST(SaveTokenizer, WritesTheFilesItWasReadFromUnchanged) {
  const TempDir from, to;
  const std::string json = test::small_tokenizer_json() + "\n \n";
  const std::string config = R"({"chat_template": "kept", "eos_token": "<end>"})",
                    map = R"({ "pad_token":"<end>" })";
  write_file(from / "tokenizer.json", json);
  write_file(from / "tokenizer_config.json", config);
  write_file(from / "special_tokens_map.json", map);
  load_tokenizer(from.path())->save(to.path());
  EXPECT_EQ(read_file(to / "tokenizer.json"), json);
  EXPECT_EQ(read_file(to / "tokenizer_config.json"), config);
  EXPECT_EQ(read_file(to / "special_tokens_map.json"), map);
  EXPECT_TRUE(std::filesystem::exists(to / "vocab.json"));
  EXPECT_FALSE(std::filesystem::exists(to / "added_tokens.json"));
  EXPECT_EQ(load_tokenizer(to.path())->eos_token_id(), 257);
}

TEST(SaveTokenizer, WritesWithoutMergesWhatCanBeReadAgainOrNothing) {
  ByteBpeModel model = test::small_bpe_model();
  model.vocab.emplace_back("PAD", 256);
  model.vocab.emplace_back("OK", 257);
  const TempDir dir;
  write_file(dir / "vocab.txt", "another's");
  test::expect_error<FormatError>([&] { ByteBpe(model).save(dir.path()); },
                                  {"merges", "has no merge", "\"OK\"", "added tokens"});
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
  ByteBpeModel added = model;
  added.added_tokens = {{.content = "OK"}};
  ByteBpeModel used = model;
  used.pad_token = "OK";
  ByteBpeModel without = model;
  without.vocab.pop_back();
  for (const ByteBpeModel& good : {added, used, without}) {
    const ByteBpe tokenizer(good);
    tokenizer.save(dir.path());
    const auto again = load_tokenizer(dir.path());
    EXPECT_EQ(again->encode("PAD"), (Ids{'P', 'A', 'D'}));
    EXPECT_EQ(again->vocab_size(), tokenizer.vocab_size());
    std::filesystem::remove(dir / "tokenizer.json");
    EXPECT_EQ(load_tokenizer(dir.path())->vocab_size(), tokenizer.vocab_size());
  }
}

TEST(SaveTokenizer, WritesATokenizerMadeInMemory) {
  const TempDir dir;
  const ByteBpe tokenizer(rich_model());
  tokenizer.save(dir.path());
  // vocab.json and merges.txt could not say that merges are ignored.
  EXPECT_FALSE(std::filesystem::exists(dir / "vocab.json"));
  const auto again = load_tokenizer(dir.path());
  for (const std::string_view text : {"", "ab", "ab ab <s>ab", "x <n> y<n>", "\xFF é"}) {
    EXPECT_EQ(again->encode(text), tokenizer.encode(text)) << text;
    EXPECT_EQ(again->decode(again->encode(text)), tokenizer.decode(tokenizer.encode(text))) << text;
  }
  EXPECT_EQ(again->eos_token_id(), 258);
  EXPECT_EQ(again->vocab_size(), 401);
  EXPECT_FALSE(again->is_special(400));
}

TEST(SaveTokenizer, RemovesTheFilesOfAnotherTokenizerAndNoMore) {
  const TempDir dir;
  const std::vector<std::string> others{"added_tokens.json", "special_tokens_map.json",
                                        "vocab.txt",         "tokenizer.model",
                                        "spiece.model",      "vocab.json",
                                        "merges.txt"};
  const std::vector<std::string> kept{"config.json", "generation_config.json", "model.safetensors",
                                      "notes.txt", "vocab.txt.bak"};
  for (const auto& names : {others, kept})
    for (const std::string& name : names) write_file(dir / name, "another's");
  const ByteBpe tokenizer(rich_model());  // which vocab.json and merges.txt could not say
  tokenizer.save(dir.path());
  for (const std::string& name : others) EXPECT_FALSE(std::filesystem::exists(dir / name)) << name;
  for (const std::string& name : kept) EXPECT_EQ(read_file(dir / name), "another's") << name;
  EXPECT_EQ(load_tokenizer(dir.path())->fingerprint(), tokenizer.fingerprint());
}

TEST(SaveTokenizer, NamesAFileItCannotWrite) {
  const TempDir dir;
  const ByteBpe tokenizer(rich_model());
  test::expect_error<IoError>([&] { tokenizer.save(dir / "absent"); }, {"absent", "tokenizer.json"});
  std::filesystem::create_directory(dir / "tokenizer.json");
  test::expect_error<IoError>([&] { tokenizer.save(dir.path()); }, {"tokenizer.json"});
}

}  // namespace
}  // namespace gpt
