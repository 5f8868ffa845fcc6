#include "gpt/text/sentencepiece.h"

#include <gtest/gtest.h>
#ifdef GPT_TEST_SENTENCEPIECE
#include <sentencepiece_processor.h>
#endif

#include "gpt/core/error.h"
#include "gpt/generate/grammar.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "text/streamed.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;
using test::expect_error;
using test::read_file;
using test::streamed;
using test::TempDir;
using test::write_file;

const std::filesystem::path kModels = std::filesystem::path(GPT_SOURCE_DIR) / "tests/text/models";
const std::filesystem::path kUnigram = kModels / "sentencepiece-unigram";  // spiece.model
const std::filesystem::path kBpe = kModels / "sentencepiece-bpe";  // tokenizer.model, with byte pieces

#ifndef GPT_TEST_SENTENCEPIECE

TEST(SentencePiece, NamesTheOptionThatTheBuildLacks) {
  expect_error<UnsupportedError>([] { load_tokenizer(kUnigram); },
                                 {"spiece.model", "GPT_WITH_SENTENCEPIECE=ON"});
  expect_error<UnsupportedError>([] { load_tokenizer(kBpe); },
                                 {"tokenizer.model", "GPT_WITH_SENTENCEPIECE=ON"});
  expect_error<UnsupportedError>([] { make_sentencepiece({}); },
                                 {"tokenizer.model", "GPT_WITH_SENTENCEPIECE=ON"});
}

#else

constexpr std::string_view kTexts[] = {"",
                                       " ",
                                       "今天天气很好，Hello  world！42 naïve 😀",
                                       "  The quick brown fox. 我们学习 models ",
                                       "字 new\nline\ttab 春天来了，花开了。",
                                       "unseen: ŵ ж 龘 <s> </s> <unk>",
                                       "a<sep>b <sep> c",
                                       "　全角ＡＢ１ "};

// The file and what it becomes with a tokenizer_config.json.
struct Loaded {
  TempDir dir;
  std::shared_ptr<const Tokenizer> tokenizer;
};
std::unique_ptr<Loaded> load_sentencepiece(const std::filesystem::path& file, std::string_view config) {
  auto loaded = std::make_unique<Loaded>();
  std::filesystem::copy_file(file, loaded->dir / file.filename().string());
  write_file(loaded->dir / "tokenizer_config.json", config);
  loaded->tokenizer = load_tokenizer(loaded->dir.path());
  return loaded;
}

TEST(SentencePiece, SegmentsAndJoinsAsTheLibrary) {
  for (const auto& file : {kUnigram / "spiece.model", kBpe / "tokenizer.model"}) {
    sentencepiece::SentencePieceProcessor reference;
    ASSERT_TRUE(reference.Load(file.string()).ok());
    const auto tokenizer = load_tokenizer(file.parent_path());
    EXPECT_EQ(tokenizer->vocab_size(), reference.GetPieceSize());
    for (const std::string_view text : kTexts) {
      const std::vector<int> expected = reference.EncodeAsIds(text);
      const Ids ids = tokenizer->encode(text, {.parse_special_tokens = false});
      EXPECT_EQ(ids, Ids(expected.begin(), expected.end())) << text;
      // Where the reference writes an unknown piece as U+2047, this is its spelling.
      std::string joined = reference.DecodeIds(expected);
      for (std::size_t at = joined.find(" ⁇ "); at != joined.npos; at = joined.find(" ⁇ "))
        joined.replace(at, std::string_view(" ⁇ ").size(), "<unk>");
      EXPECT_EQ(tokenizer->decode(ids), joined) << text;
      EXPECT_EQ(streamed(*tokenizer, ids), joined) << text;
    }
  }
}

// The ids that Debian's spm_encode printed.
TEST(SentencePiece, GivesTheIdsOfSpmEncode) {
  constexpr std::string_view kText = "今天天气很好，Hello  world！42 naïve 😀";
  EXPECT_EQ(load_tokenizer(kUnigram)->encode(kText),
            (Ids{3,  104, 34, 34, 121, 38, 52, 22, 75, 40, 47, 28, 4,
                 18, 57,  8,  41, 42,  44, 3,  7,  6,  66, 31, 3,  0}));
}

TEST(SentencePiece, IsLosslessWithBytePieces) {
  const auto tokenizer = load_tokenizer(kBpe);
  for (const std::string_view text : kTexts) {
    const Ids ids = tokenizer->encode(text);
    EXPECT_EQ(tokenizer->decode(ids), text);
    EXPECT_EQ(streamed(*tokenizer, ids), text);
  }
  StreamDecoder decoder(*tokenizer);
  const Ids ids = tokenizer->encode("😀");
  ASSERT_EQ(ids.size(), 5u);  // U+2581 and four bytes
  for (int i = 0; i < 4; ++i) EXPECT_EQ(decoder.push(ids[static_cast<std::size_t>(i)]), "");
  EXPECT_EQ(decoder.push(ids[4]), "😀");
}

TEST(SentencePiece, TakesItsSpecialTokensFromTheModelWithoutAClass) {
  const auto tokenizer = load_tokenizer(kUnigram);
  EXPECT_EQ(tokenizer->unk_token_id(), 0);
  EXPECT_EQ(tokenizer->bos_token_id(), 1);
  EXPECT_EQ(tokenizer->eos_token_id(), 2);
  EXPECT_EQ(tokenizer->pad_token_id(), std::nullopt);
  EXPECT_EQ(tokenizer->encode("</s>"), (Ids{2}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("Hello</s>world")), "Hello</s>world");
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("Hello</s>"), {.skip_special_tokens = true}), "Hello");
  EXPECT_TRUE(tokenizer->is_special(1));
  EXPECT_FALSE(tokenizer->is_special(3));
}

TEST(SentencePiece, AddsWhatTheClassAdds) {
  const auto bare = load_tokenizer(kUnigram)->encode("Hello");
  Ids with_eos = bare, with_bos = bare;
  with_eos.push_back(2);
  with_bos.insert(with_bos.begin(), 1);

  const auto t5 = load_sentencepiece(kUnigram / "spiece.model", R"({"tokenizer_class": "T5Tokenizer"})");
  const std::int64_t pieces = load_tokenizer(kUnigram)->vocab_size();
  EXPECT_EQ(t5->tokenizer->encode("Hello"), with_eos);
  EXPECT_EQ(t5->tokenizer->encode("Hello", {.add_special_tokens = false}), bare);
  EXPECT_EQ(t5->tokenizer->vocab_size(), pieces + 101);  // <pad> is no piece of this model
  EXPECT_EQ(t5->tokenizer->id_of("<extra_id_0>"), pieces + 99);
  EXPECT_EQ(t5->tokenizer->encode(" <extra_id_99> ", {.add_special_tokens = false}),
            (Ids{static_cast<TokenId>(pieces)}));
  const auto few =
      load_sentencepiece(kUnigram / "spiece.model", R"({"tokenizer_class": "T5Tokenizer", "extra_ids": 0,
                                                       "pad_token": null, "bos_token": "<s>"})");
  EXPECT_EQ(few->tokenizer->vocab_size(), pieces);
  EXPECT_EQ(few->tokenizer->bos_token_id(), 1);

  const auto llama =
      load_sentencepiece(kUnigram / "spiece.model", R"({"tokenizer_class": "LlamaTokenizer"})");
  EXPECT_EQ(llama->tokenizer->encode("Hello"), with_bos);
  const auto neither = load_sentencepiece(kUnigram / "spiece.model",
                                          R"({"tokenizer_class": "LlamaTokenizer", "add_bos_token": false})");
  EXPECT_EQ(neither->tokenizer->encode("Hello"), bare);
}

// As transformers from 5.7 on: of a unigram model the spaces go, of any other they are the text's own.
TEST(SentencePiece, CleansUpTheSpacesOfAUnigramModelAlone) {
  const TempDir dir;
  std::vector<std::string> warnings;
  const auto load = [&](const std::filesystem::path& file, std::string_view config) {
    std::filesystem::remove_all(dir.path());
    std::filesystem::create_directory(dir.path());
    std::filesystem::copy_file(file, dir / file.filename().string());
    write_file(dir / "tokenizer_config.json", config);
    warnings.clear();
    return load_tokenizer(dir.path(), [&](std::string_view w) { warnings.emplace_back(w); });
  };
  constexpr std::string_view kOn = R"({"clean_up_tokenization_spaces": true})",
                             kOff = R"({"clean_up_tokenization_spaces": false})";
  const std::string spaced = "The fox . It is n't , he 's 'm !", clean = "The fox. It isn't, he's'm!";
  const auto unigram = load(kUnigram / "spiece.model", kOn);
  const Ids ids = unigram->encode(spaced);
  EXPECT_EQ(unigram->decode(ids), clean);
  EXPECT_EQ(streamed(*unigram, ids), clean);
  EXPECT_EQ(unigram->decode(ids), clean);  // nothing is left of the text before
  EXPECT_EQ(warnings, std::vector<std::string>());
  expect_error<UnsupportedError>([&] { CompiledGrammar(Grammar::from_regex("[a-z ]+"), *unigram); },
                                 {"tokens beside it"});
  const auto made = make_sentencepiece(
      {.model = read_file(kUnigram / "spiece.model"), .clean_up_tokenization_spaces = true});
  EXPECT_EQ(made->decode(ids), clean);
  const TempDir saved;
  made->save(saved.path());
  EXPECT_EQ(load_tokenizer(saved.path())->decode(ids), clean);
  EXPECT_EQ(load(kUnigram / "spiece.model", kOff)->decode(ids), spaced);

  const auto bpe = load(kBpe / "tokenizer.model", kOn);
  EXPECT_EQ(bpe->decode(bpe->encode(spaced)), spaced);
  EXPECT_EQ(warnings, std::vector<std::string>{concat(
                          "[", (dir / "tokenizer_config.json").string(),
                          "] clean_up_tokenization_spaces is true, which has no effect on a sentencepiece "
                          "model that is not unigram, whose spaces are the text's own")});
  load(kBpe / "tokenizer.model", kOff);
  EXPECT_EQ(warnings, std::vector<std::string>());
  expect_error<UnsupportedError>(
      [] {
        make_sentencepiece(
            {.model = read_file(kBpe / "tokenizer.model"), .clean_up_tokenization_spaces = true});
      },
      {"tokenizer.model", "not unigram", "clean_up_tokenization_spaces"});
}

TEST(SentencePiece, RefusesByNameWhatItCannotHonour) {
  for (const auto& [key, config] :
       {std::pair("tokenizer_class", R"({"tokenizer_class": "XLNetTokenizer"})"),
        std::pair("legacy", R"({"tokenizer_class": "LlamaTokenizer", "legacy": false})"),
        std::pair("add_prefix_space", R"({"add_prefix_space": false})"),
        std::pair("sp_model_kwargs", R"({"sp_model_kwargs": {"enable_sampling": true}})")}) {
    const char* const text = config;
    expect_error<UnsupportedError>([&] { load_sentencepiece(kUnigram / "spiece.model", text); },
                                   {"tokenizer_config.json", key});
  }
  expect_error<FormatError>(
      [] { load_sentencepiece(kUnigram / "spiece.model", R"({"add_eos_token": true, "eos_token": null})"); },
      {"add_eos_token", "eos_token"});
  expect_error<FormatError>(
      [] {
        load_sentencepiece(kUnigram / "spiece.model",
                           R"({"tokenizer_class": "T5Tokenizer", "extra_ids": -1})");
      },
      {"extra_ids", "-1"});
  // trainer_spec (2) with treat_whitespace_as_suffix (24), and a denormalizer_spec (5) with a map (2)
  const std::string model = read_file(kUnigram / "spiece.model");
  expect_error<UnsupportedError>(
      [&] { make_sentencepiece({.model = model + std::string("\x12\x03\xC0\x01\x01", 5)}); },
      {"tokenizer.model", "treat_whitespace_as_suffix"});
}

TEST(SentencePiece, NamesAFileThatIsNoModel) {
  const std::string model = read_file(kUnigram / "spiece.model");
  for (const std::string& bytes : {std::string(), std::string("{}"), model.substr(0, model.size() / 2)})
    expect_error<FormatError>([&] { make_sentencepiece({.model = bytes, .source = "dir/x.model"}); },
                              {"dir/x.model", "sentencepiece"});
}

// libsentencepiece would read outside of its tables, or compare scores that are no numbers.
TEST(SentencePiece, RefusesADamagedModelBeforeTheLibraryBelievesIt) {
  const auto expect_refused = [](std::string_view fields, std::string_view word) {
    const std::string model = read_file(kUnigram / "spiece.model");
    expect_error<FormatError>([&] { make_sentencepiece({.model = model + std::string(fields)}); },
                              {"tokenizer.model", word});
  };
  using namespace std::string_view_literals;
  expect_refused("\x0A\x08\x0A\x01x\x15\x00\x00\xC0\x7F"sv, "score");  // a piece "x" whose score is NaN
  expect_refused("\x0A\x02\x0A\x00"sv, "without text");
  expect_refused("\x1A\x0B\x12\x09\x04\x00\x00\x00\x00\x04\x00\x00\x00"sv, "precompiled_charsmap");
  expect_refused("\x0A\x7F"sv, "malformed");
}

TEST(SentencePiece, IsSavedAsItWasReadOrMade) {
  const auto loaded =
      load_sentencepiece(kBpe / "tokenizer.model",
                         R"({"tokenizer_class": "LlamaTokenizer", "additional_special_tokens": ["<n>"]})");
  const TempDir dir;
  loaded->tokenizer->save(dir.path());
  for (const char* name : {"tokenizer.model", "tokenizer_config.json"})
    EXPECT_EQ(read_file(dir / name), read_file(loaded->dir / name)) << name;
  SentencePieceModel model{.model = read_file(kBpe / "tokenizer.model")};
  model.added_tokens = {{.content = "<n>"}, {.content = "</s>"}};
  model.eos_token = "</s>";
  model.suffix_tokens = {"</s>"};
  const auto made = make_sentencepiece(model);
  const TempDir other;
  write_file(other / "vocab.json", "{}");  // of another tokenizer: it would be read first
  made->save(other.path());
  const auto again = load_tokenizer(other.path());
  EXPECT_EQ(again->encode("Hello<n>天"), made->encode("Hello<n>天"));
  EXPECT_EQ(again->eos_token_id(), made->eos_token_id());
  EXPECT_EQ(again->decode(again->encode("Hello<n>天")), "Hello<n>天</s>");
  EXPECT_NE(again->fingerprint(), load_tokenizer(kBpe)->fingerprint());
}

#endif

}  // namespace
}  // namespace gpt
