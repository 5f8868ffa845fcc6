#include <gtest/gtest.h>

#include "gpt/core/error.h"
#include "gpt/text/tokenizer.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "text/byte_map.h"
#include "text/small_bpe.h"
#include "text/tokenizer_files.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;
using test::expect_error;
using test::TempDir;
using test::write_file;

constexpr std::string_view kVocabJson = R"({"a": 0, "b": 1, "ab": 2, "Ġ": 3, "<|endoftext|>": 4, "Ġa": 5})";
constexpr std::string_view kMerges = "#version: 0.2\na b\nĠ a\n";

// Files over those of a plain GPT-2 tokenizer.
std::shared_ptr<const Tokenizer> load(
    std::initializer_list<std::pair<std::string_view, std::string_view>> files) {
  const TempDir dir;
  write_file(dir / "vocab.json", kVocabJson);
  write_file(dir / "merges.txt", kMerges);
  for (const auto& [name, text] : files) write_file(dir / name, text);
  return load_tokenizer(dir.path());
}

TEST(LoadTokenizer, TakesEndOfTextForBosEosAndUnkWhenNothingIsSaid) {
  const auto tokenizer = load({});
  EXPECT_EQ(tokenizer->encode("ab<|endoftext|>"), (Ids{2, 4}));
  EXPECT_EQ(tokenizer->bos_token_id(), 4);
  EXPECT_EQ(tokenizer->eos_token_id(), 4);
  EXPECT_EQ(tokenizer->unk_token_id(), 4);
  EXPECT_EQ(tokenizer->pad_token_id(), std::nullopt);
  EXPECT_TRUE(tokenizer->is_special(4));
}

TEST(LoadTokenizer, PrefersTokenizerJson) {
  const auto tokenizer = load({{"tokenizer.json", test::small_tokenizer_json()}});
  EXPECT_EQ(tokenizer->vocab_size(), 258);
  EXPECT_EQ(tokenizer->eos_token_id(), std::nullopt);
}

TEST(LoadTokenizer, HonoursSpecialTokensMap) {
  const auto tokenizer =
      load({{"special_tokens_map.json",
             R"({"eos_token": {"content": "<eos>", "lstrip": true}, "pad_token": "<pad>", "unk_token": null,
                                    "additional_special_tokens": ["<more>"]})"}});
  EXPECT_EQ(tokenizer->eos_token_id(), 6);
  EXPECT_EQ(tokenizer->pad_token_id(), 7);
  EXPECT_EQ(tokenizer->unk_token_id(), std::nullopt);
  EXPECT_EQ(tokenizer->bos_token_id(), 4);
  EXPECT_EQ(tokenizer->encode("a <eos><more>"), (Ids{0, 6, 8}));
  EXPECT_TRUE(tokenizer->is_special(8));
}

TEST(LoadTokenizer, HonoursAddedTokens) {
  const auto tokenizer = load({{"added_tokens.json", R"({"<n>": 9, "<|endoftext|>": 4})"}});
  EXPECT_EQ(tokenizer->encode("a<n>"), (Ids{0, 9}));
  EXPECT_FALSE(tokenizer->is_special(9));
  EXPECT_TRUE(tokenizer->is_special(4));
  EXPECT_EQ(tokenizer->vocab_size(), 10);
}

TEST(LoadTokenizer, HonoursTokenizerConfig) {
  const auto tokenizer =
      load({{"tokenizer_config.json",
             R"({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true, "add_bos_token": true,
                                    "model_max_length": 1024, "bos_token": "<s>",
                                    "added_tokens_decoder": {"6": {"content": "<s>", "special": true},
                                                             "7": {"content": "<r>", "rstrip": true}}})"}});
  EXPECT_EQ(tokenizer->encode("a<r> b"), (Ids{6, 5, 7, 3, 1}));
  EXPECT_EQ(tokenizer->encode("a", {.add_special_tokens = false}), (Ids{5}));
  EXPECT_EQ(tokenizer->bos_token_id(), 6);
  EXPECT_FALSE(tokenizer->is_special(7));
}

// As transformers from 5.7 on, which warns of it, too.
TEST(LoadTokenizer, LeavesTheSpacesOfAByteLevelBpeAndSaysSo) {
  const TempDir dir;
  write_file(dir / "tokenizer.json", test::small_tokenizer_json());
  const auto warnings_for = [&dir](std::string_view config) {
    write_file(dir / "tokenizer_config.json", config);
    std::vector<std::string> warnings;
    const auto tokenizer = load_tokenizer(dir.path(), [&](std::string_view w) { warnings.emplace_back(w); });
    const std::string text = "ab , it is n't a ' b . ?";
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
    EXPECT_EQ(load_tokenizer(dir.path())->decode(tokenizer->encode(text)), text);
    return warnings;
  };
  EXPECT_EQ(warnings_for(R"({"clean_up_tokenization_spaces": false})"), std::vector<std::string>());
  EXPECT_EQ(warnings_for(R"({"clean_up_tokenization_spaces": null})"), std::vector<std::string>());
  EXPECT_EQ(
      warnings_for(R"({"clean_up_tokenization_spaces": true})"),
      std::vector<std::string>{concat("[", (dir / "tokenizer_config.json").string(),
                                      "] clean_up_tokenization_spaces is true, which has no effect on a "
                                      "byte-level BPE, whose spaces are the text's own")});
  constexpr std::string_view kForced = R"({"clean_up_tokenization_spaces": true,
      "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": true})";
  expect_error<UnsupportedError>([&] { warnings_for(kForced); },
                                 {"tokenizer_config.json", "even_though_it_will_corrupt_output is true"});
}

TEST(LoadTokenizer, ConfigWinsOverTheOtherFiles) {
  const auto tokenizer = load({{"special_tokens_map.json", R"({"eos_token": "a"})"},
                               {"tokenizer_config.json", R"({"eos_token": "b", "add_eos_token": true})"}});
  EXPECT_EQ(tokenizer->eos_token_id(), 1);
  EXPECT_EQ(tokenizer->encode("ab"), (Ids{0, 1, 1}));  // both are special now, and found before BPE
}

TEST(LoadTokenizer, OtherClassesHaveNoDefaultTokens) {
  EXPECT_EQ(
      load({{"tokenizer_config.json", R"({"tokenizer_class": "PreTrainedTokenizerFast"})"}})->eos_token_id(),
      std::nullopt);
}

TEST(LoadTokenizer, RefusesByNameWhatItCannotHonour) {
  expect_error<UnsupportedError>(
      [] {
        load({{"tokenizer_config.json", R"({"tokenizer_class": "RobertaTokenizer"})"}});
      },
      {"tokenizer_config.json", "tokenizer_class", "RobertaTokenizer"});
  expect_error<UnsupportedError>(
      [] {
        load({{"tokenizer_config.json", R"({"split_special_tokens": true})"}});
      },
      {"tokenizer_config.json", "split_special_tokens"});
}

TEST(LoadTokenizer, NamesFileAndKeyOfMalformedSideFiles) {
  const auto expect_malformed = [](std::string_view file, std::string_view text,
                                   std::initializer_list<std::string_view> words) {
    SCOPED_TRACE(text);
    expect_error<FormatError>([&] { load({{file, text}}); }, words);
  };
  expect_malformed("tokenizer_config.json", "{", {"tokenizer_config.json", "JSON"});
  expect_malformed("tokenizer_config.json", "[]", {"tokenizer_config.json", "object"});
  expect_malformed("tokenizer_config.json", R"({"add_prefix_space": 1})",
                   {"tokenizer_config.json", "add_prefix_space"});
  expect_malformed("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "y"}}})",
                   {"added_tokens_decoder", "\"x\""});
  expect_malformed("tokenizer_config.json", R"({"added_tokens_decoder": {"9": {}}})",
                   {"added_tokens_decoder.9.content"});
  expect_malformed("tokenizer_config.json", R"({"added_tokens_decoder": {"9": {"content": "ab"}}})",
                   {"\"ab\"", "9", "2"});
  expect_malformed("tokenizer_config.json", R"({"add_bos_token": true, "bos_token": null})",
                   {"add_bos_token"});
  expect_malformed("special_tokens_map.json", R"({"eos_token": 3})",
                   {"special_tokens_map.json", "eos_token", "3"});
  expect_malformed("special_tokens_map.json", R"({"additional_special_tokens": "x"})",
                   {"additional_special_tokens"});
  expect_malformed("added_tokens.json", R"({"<n>": -1})", {"added_tokens.json", "<n>", "-1"});
  expect_malformed("added_tokens.json", R"({"<n>": 2147483648})",
                   {"added_tokens.json", "<n>", "has the id 2147483648, expected an integer from 0 to"});
  expect_malformed("added_tokens.json", R"({"<n>": 0})", {"added_tokens.json]", "<n>", "0", "\"a\""});
  expect_malformed("added_tokens.json", R"({"ab": 9})",
                   {"added_tokens.json]", "\"ab\" has the id 9, but 2 in ", "vocab.json"});
  expect_malformed("tokenizer_config.json", R"({"added_tokens_decoder": {"0": {"content": "<n>"}}})",
                   {"tokenizer_config.json]", "\"<n>\" has the id 0, which belongs to \"a\""});
  expect_malformed("tokenizer_config.json", R"({"added_tokens_decoder": {"99999999999": {"content": "y"}}})",
                   {"the key \"99999999999\", expected an integer from 0 to 2147483647"});
}

TEST(LoadTokenizer, NamesASideFileThatIsALinkToNowhere) {
  for (const char* name : {"added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"}) {
    const TempDir dir;
    write_file(dir / "vocab.json", kVocabJson);
    write_file(dir / "merges.txt", "");
    std::filesystem::create_symlink("nowhere", dir / name);
    expect_error<IoError>([&] { load_tokenizer(dir.path()); }, {name, "No such file"});
  }
}

TEST(LoadTokenizer, RefusesAVocabularyThatNothingMergesInto) {
  for (const std::string_view merges : {"", "\n\r\n", "#version: 0.2\n"})
    expect_error<FormatError>(
        [&] {
          load({{"merges.txt", merges}});
        },
        {"merges.txt", "no merge", "\"ab\"", "vocab.json"});
  const std::string json = test::small_tokenizer_json(R"(["a b"])", "[]");
  expect_error<FormatError>(
      [&] {
        load({{"tokenizer.json", json}});
      },
      {"tokenizer.json", "model.merges", "no merge", "\"ab\""});
}

TEST(LoadTokenizer, TakesBytesAloneAndTokensOfTheirOwnWithoutMerges) {
  const auto tokenizer = load({{"vocab.json", R"({"a": 0, "Ġ": 1, "é": 2, "<|endoftext|>": 3, "more": 4})"},
                               {"added_tokens.json", R"({"more": 4})"},
                               {"merges.txt", "#version: 0.2\n"}});
  EXPECT_EQ(tokenizer->encode("a a<|endoftext|>more"), (Ids{0, 1, 0, 3, 4}));
  EXPECT_EQ(load({{"vocab.json", R"({"a": 0, "<pad>": 1, "[MASK]": 2})"}, {"merges.txt", ""}})->encode("a"),
            (Ids{0}));
  // No merge makes PAD of its bytes where no two of them are a token, nor AB where B is none.
  EXPECT_EQ(load({{"vocab.json", R"({"A": 0, "D": 1, "P": 2, "PAD": 3, "AB": 4})"}, {"merges.txt", ""}})
                ->encode("PAD"),
            (Ids{2, 0, 1}));
  std::string json = test::small_tokenizer_json(R"(["a b"])", "[]");
  const std::string_view ignores = R"("ignore_merges": false)";
  json.replace(json.find(ignores), ignores.size(), R"("ignore_merges": true)");
  EXPECT_EQ(load({{"tokenizer.json", json}})->encode("ab"), (Ids{256}));
}

TEST(LoadTokenizer, ComparesFewTokensWhereManyAreAdded) {
  ByteBpeModel model = test::small_bpe_model();
  for (int i = 0; i < 2000; ++i) {
    const char bytes[] = {static_cast<char>(i / 256), static_cast<char>(i)};
    model.vocab.emplace_back(spell_bytes({bytes, 2}), 256 + i);
    model.added_tokens.push_back({.content = model.vocab.back().first});
  }
  std::size_t compared = 0;
  require_merges(model, &compared);
  // A red-black tree of 2000 is at most 2 log2 2001 < 22 deep, and each way into it and down it compares once more.
  EXPECT_LE(compared, 2 * 2000u * 23);
}

TEST(LoadTokenizer, SaysWhatIsMissing) {
  const TempDir dir;
  EXPECT_FALSE(has_tokenizer(dir.path()));
  expect_error<IoError>([&] { load_tokenizer(dir.path()); },
                        {dir.path().string(), "tokenizer.json", "merges.txt"});
  expect_error<IoError>([&] { load_tokenizer(dir / "absent"); }, {"absent"});
  write_file(dir / "vocab.txt", "[PAD]\n");
  EXPECT_TRUE(has_tokenizer(dir.path()));
  expect_error<FormatError>([&] { load_tokenizer(dir.path()); }, {dir.path().string(), "vocab.txt", "[UNK]"});
  write_file(dir / "vocab.json", kVocabJson);
  EXPECT_TRUE(has_tokenizer(dir.path()));
  expect_error<IoError>([&] { load_tokenizer(dir.path()); }, {"merges.txt"});
  std::filesystem::create_directory(dir / "merges.txt");
  expect_error<IoError>([&] { load_tokenizer(dir.path()); }, {"merges.txt", "directory"});
}

}  // namespace
}  // namespace gpt
