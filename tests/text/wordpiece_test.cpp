#include "gpt/text/wordpiece.h"

#include <gtest/gtest.h>

#include "gpt/core/error.h"
#include "gpt/text/stream_decoder.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "text/golden_files.h"
#include "text/streamed.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;
using test::expect_error;
using test::streamed;
using test::TempDir;
using test::write_file;

const std::filesystem::path kFolder = std::filesystem::path(GPT_SOURCE_DIR) / "tests/text/models/wordpiece";
constexpr EncodeOptions kPlain{.add_special_tokens = false};

WordPieceModel small_wordpiece() {
  WordPieceModel model;
  model.vocab = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able", "##a", "want",
                 "我",    "们",    ".",     "'",     "s",      "do", "not",   ",",      "é"};
  return model;
}

// vectors.jsonl is what huggingface/tokenizers 0.23 gives for vocab.txt; models/README.md has the program.
TEST(WordPiece, EqualsTheTokenizersLibrary) {
  for (const test::Json& row : test::read_rows(kFolder / "vectors.jsonl")) {
    WordPieceModel model = parse_wordpiece_vocab(test::read_file(kFolder / "vocab.txt"));
    model.do_lower_case = row.at("do_lower_case").get<bool>();
    const WordPiece tokenizer(std::move(model));
    const auto text = row.at("text").get<std::string>();
    const auto ids = row.at("ids").get<Ids>();
    EXPECT_EQ(tokenizer.encode(text, kPlain), ids) << text;
    EXPECT_EQ(tokenizer.decode(ids), row.at("decoded").get<std::string>()) << text;
    EXPECT_EQ(streamed(tokenizer, ids), row.at("decoded").get<std::string>()) << text;
    // Wherever the text is cut, the parts give the ids of the whole.
    for (std::size_t size = 1; size <= text.size(); ++size) {
      const std::size_t cut = tokenizer.last_cut(text.substr(0, size));
      Ids parts = tokenizer.encode(text.substr(0, cut), kPlain);
      const Ids rest = tokenizer.encode(text.substr(cut), kPlain);
      parts.insert(parts.end(), rest.begin(), rest.end());
      ASSERT_EQ(parts, ids) << text << ": " << cut;
    }
  }
}

TEST(WordPiece, TakesTheLongestPieceFromTheLeftOrNone) {
  const WordPiece tokenizer(small_wordpiece());
  EXPECT_EQ(tokenizer.encode("unaffable unaffa unaffx"), (Ids{5, 6, 7, 5, 6, 8, 1}));
  EXPECT_EQ(tokenizer.encode("want" + std::string(97, 'a')), (Ids{1}));
  EXPECT_EQ(tokenizer.encode("wanta"), (Ids{9, 8}));
  EXPECT_EQ(tokenizer.encode("\xFF WANT\xC3"), (Ids{9}));
}

TEST(WordPiece, PutsNothingBehindAPrompt) {
  WordPieceModel model = small_wordpiece();
  model.added_tokens = {{.content = "[CLS]"}, {.content = "[SEP]"}};
  model.prefix_tokens = {"[CLS]"};
  model.suffix_tokens = {"[SEP]"};
  const WordPiece tokenizer(model);
  EXPECT_EQ(tokenizer.encode("want"), (Ids{2, 9, 3}));
  EXPECT_EQ(tokenizer.encode("want", {.add_suffix_tokens = false}), (Ids{2, 9}));
  EXPECT_EQ(tokenizer.encode("want", {.add_special_tokens = false, .add_suffix_tokens = true}), (Ids{9}));
  EXPECT_EQ(tokenizer.encode_prompt("want"), (Ids{2, 9}));
  EXPECT_EQ(tokenizer.encode_prompt("[CLS] want"), (Ids{2, 9})) << "not twice";
  EXPECT_EQ(tokenizer.encode_prompt("[CLS]", false),
            tokenizer.encode("[CLS]", {.parse_special_tokens = false, .add_suffix_tokens = false}));
  EXPECT_EQ(tokenizer.encode_prompt(""), (Ids{2}));
}

TEST(WordPiece, PutsASpaceBeforeAnAddedTokenToo) {
  WordPieceModel model = small_wordpiece();
  model.added_tokens = {{.content = "<x>", .special = false}, {.content = "##y", .special = false}};
  const WordPiece tokenizer(model);
  EXPECT_EQ(tokenizer.decode(Ids{9, 19, 9, 20}), "want <x> wanty");
  EXPECT_EQ(tokenizer.decode(Ids{19, 19}), "<x> <x>");
  EXPECT_EQ(tokenizer.bytes_of(19), " <x>");
}

TEST(WordPiece, TakesAnyNumberOfAccents) {
  std::string accents;
  for (int i = 0; i < 200000; ++i)
    accents += i % 2 == 0 ? "\u0316" : "\u0301";  // below, then above: out of order
  const WordPiece tokenizer(small_wordpiece());
  EXPECT_EQ(tokenizer.encode("want" + accents + " un"), (Ids{9, 5}));
}

TEST(WordPiece, PutsTheMarksThatAreNoAccentsInOrder) {
  WordPieceModel model = small_wordpiece();
  // A stem (class 216) and a dot (226), spacing marks both; a nonspacing starter between them keeps their order.
  const std::string stem = "\U0001D165", dot = "\U0001D16D";
  model.vocab.push_back("a" + stem + dot);
  model.vocab.push_back("a" + dot + stem);
  const WordPiece tokenizer(model);
  EXPECT_EQ(tokenizer.encode("a" + dot + "\u0301" + stem), (Ids{19}));
  EXPECT_EQ(tokenizer.encode("a" + dot + "\u034F" + stem), (Ids{20}));
}

TEST(WordPiece, TakesALongTokenWithManySpaces) {
  std::string line;
  for (int i = 0; i < 300000; ++i) line += " .";
  WordPieceModel model = small_wordpiece();
  model.vocab.push_back("##" + line);
  EXPECT_EQ(WordPiece(model).bytes_of(19), std::string(300000, '.'));
}

TEST(WordPiece, HonoursItsSwitches) {
  WordPieceModel model = small_wordpiece();
  model.tokenize_chinese_chars = false;
  model.strip_accents = false;
  EXPECT_EQ(WordPiece(model).encode("我们 É"), (Ids{1, 18}));
  model = small_wordpiece();
  EXPECT_EQ(WordPiece(model).encode("我们 É"), (Ids{10, 11, 1}));
  model.do_lower_case = false;
  EXPECT_EQ(WordPiece(model).encode("want Want é"), (Ids{9, 1, 18}));
}

TEST(WordPiece, TidiesUpAcrossTokensOnRequest) {
  WordPieceModel model = small_wordpiece();
  const Ids ids{9, 13, 14, 16, 17, 15, 13, 9, 12};
  EXPECT_EQ(WordPiece(model).decode(ids), "want ' s not, do ' want.");
  model.clean_up_tokenization_spaces = true;
  const WordPiece tokenizer(model);
  // " ' " goes first, so that nothing is left of " 's".
  EXPECT_EQ(tokenizer.decode(ids), "want's not, do'want.");
  EXPECT_EQ(streamed(tokenizer, ids), tokenizer.decode(ids));
  StreamDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push(9), "want");
  EXPECT_EQ(decoder.push(13), "");  // " '" may become "'"
  EXPECT_EQ(decoder.flush(), " '");
}

TEST(WordPiece, KeepsAnUnmatchedStartAsItIs) {
  const WordPiece tokenizer(small_wordpiece());
  EXPECT_EQ(tokenizer.decode(Ids{6, 7, 5}), "##affable un");
  EXPECT_EQ(tokenizer.bytes_of(5), " un");
  EXPECT_EQ(tokenizer.token_of(6), "##aff");
  expect_error<ArgumentError>([&] { tokenizer.decode(Ids{19}); }, {"19", "0 to 18"});
}

TEST(WordPiece, TakesTheLastOfEqualTokens) {
  WordPieceModel model = small_wordpiece();
  model.vocab.push_back("want");
  const WordPiece tokenizer(std::move(model));
  EXPECT_EQ(tokenizer.encode("want"), (Ids{19}));
  EXPECT_EQ(tokenizer.decode(Ids{9, 19}), "want want");
}

TEST(WordPiece, RefusesWhatItCannotHonour) {
  WordPieceModel model = small_wordpiece();
  model.unk_token = "<unk>";
  expect_error<FormatError>([&] { WordPiece{model}; }, {"vocab.txt", "unk_token", "<unk>"});
  model = small_wordpiece();
  model.eos_token = "<eos>";
  expect_error<FormatError>([&] { WordPiece{model}; }, {"eos_token", "<eos>"});
  model = small_wordpiece();
  model.vocab[7] = "\xFF";
  expect_error<FormatError>([&] { WordPiece{model}; }, {"vocab.txt", "UTF-8"});
  model = small_wordpiece();
  model.added_tokens = {{.content = "Foo", .special = false, .normalized = true}};
  expect_error<UnsupportedError>([&] { WordPiece{model}; }, {"Foo", "normalized"});
  expect_error<FormatError>([] { parse_wordpiece_vocab(""); }, {"vocab.txt", "no tokens"});
}

TEST(WordPiece, ChangesItsFingerprintWithItsIds) {
  const WordPieceModel model = small_wordpiece();
  const std::uint64_t same = WordPiece(model).fingerprint();
  EXPECT_EQ(WordPiece(model).fingerprint(), same);
  WordPieceModel other = model;
  other.do_lower_case = false;
  EXPECT_NE(WordPiece(other).fingerprint(), same);
  other = model;
  other.vocab[9] = "wanted";
  EXPECT_NE(WordPiece(other).fingerprint(), same);
  other = model;
  other.suffix_tokens = {"[SEP]"};
  EXPECT_NE(WordPiece(other).fingerprint(), same);
}

std::shared_ptr<const Tokenizer> load_wordpiece(
    std::initializer_list<std::pair<std::string_view, std::string_view>> files) {
  const TempDir dir;
  write_file(dir / "vocab.txt", "[PAD]\r\n[UNK]\r\n[CLS]\n[SEP]\nwant\n我\n");
  for (const auto& [name, text] : files) write_file(dir / name, text);
  return load_tokenizer(dir.path());
}

TEST(LoadWordPiece, HasTheTokensOfBertWhenNothingIsSaid) {
  const auto tokenizer = load_wordpiece({});
  EXPECT_EQ(tokenizer->encode("Want [SEP] 我 [MASK]"), (Ids{2, 4, 3, 5, 6, 3}));
  EXPECT_EQ(tokenizer->vocab_size(), 7);  // [MASK] is not in the vocabulary, and gets the next id
  EXPECT_EQ(tokenizer->encode("want", kPlain), (Ids{4}));
  EXPECT_EQ(tokenizer->unk_token_id(), 1);
  EXPECT_EQ(tokenizer->pad_token_id(), 0);
  EXPECT_EQ(tokenizer->eos_token_id(), std::nullopt);
  EXPECT_TRUE(tokenizer->is_special(2));
  EXPECT_EQ(tokenizer->decode(Ids{2, 4, 5, 3}), "[CLS] want 我 [SEP]");
  EXPECT_EQ(tokenizer->decode(Ids{2, 4, 5, 3}, {.skip_special_tokens = true}), "want 我");
}

TEST(LoadWordPiece, HonoursItsFiles) {
  const auto tokenizer =
      load_wordpiece({{"tokenizer_config.json",
                       R"({"tokenizer_class": "BertTokenizer", "do_lower_case": false, "cls_token": null,
                                    "eos_token": "[SEP]", "bos_token": "[CLS]"})"},
                      {"special_tokens_map.json", R"({"sep_token": "<end>"})"}});
  EXPECT_EQ(tokenizer->encode("want Want"), (Ids{4, 1, 6}));
  EXPECT_EQ(tokenizer->eos_token_id(), 3);
  EXPECT_EQ(tokenizer->bos_token_id(), 2);
}

TEST(LoadWordPiece, RefusesByNameWhatItCannotHonour) {
  for (const auto& [key, config] :
       {std::pair("do_basic_tokenize", R"({"do_basic_tokenize": false})"),
        std::pair("never_split", R"({"never_split": ["x"]})"),
        std::pair("unk_token", R"({"unk_token": null})"),
        std::pair("tokenizer_class", R"({"tokenizer_class": "BertJapaneseTokenizer"})")}) {
    const char* const text = config;
    expect_error<UnsupportedError>(
        [&] {
          load_wordpiece({{"tokenizer_config.json", text}});
        },
        {"tokenizer_config.json", key});
  }
}

// The tokenizer.json that transformers writes beside load_wordpiece()'s vocab.txt, with one part replaced.
std::string json_of_the_same(std::string_view part = "", std::string_view replacement = "") {
  std::string text =
      R"({"added_tokens": [{"id": 6, "content": "[MASK]"}],)"
      R"("normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,)"
      R"( "strip_accents": null, "lowercase": true}, "pre_tokenizer": {"type": "BertPreTokenizer"},)"
      R"("post_processor": {"type": "TemplateProcessing"}, "model": {"type": "WordPiece", "unk_token": "[UNK]",)"
      R"( "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {"[PAD]": 0, "[UNK]": 1,)"
      R"( "[CLS]": 2, "[SEP]": 3, "want": 4, "我": 5}}})";
  const std::size_t at = text.find(part);
  EXPECT_NE(at, text.npos) << part;
  return text.replace(at, part.size(), replacement);
}

TEST(LoadWordPiece, RefusesATokenizerJsonThatSaysSomethingElse) {
  const auto refuses = [](std::string_view part, std::string_view replacement, std::string_view key) {
    SCOPED_TRACE(key);
    expect_error<UnsupportedError>(
        [&] {
          load_wordpiece({{"tokenizer.json", json_of_the_same(part, replacement)}});
        },
        {"tokenizer.json", key});
  };
  refuses(R"("want": 4)", R"("went": 4)", "model.vocab");
  refuses(R"(, "我": 5)", "", "model.vocab");
  refuses(R"("我": 5)", R"("我": 5, "more": 6)", "model.vocab");
  refuses(R"("unk_token": "[UNK]")", R"("unk_token": "[PAD]")", "model.unk_token");
  refuses(R"("##")", R"("@@")", "model.continuing_subword_prefix");
  refuses("100", "200", "model.max_input_chars_per_word");
  refuses(R"("lowercase": true)", R"("lowercase": false)", "normalizer.lowercase");
  refuses(R"("strip_accents": null)", R"("strip_accents": false)", "normalizer.strip_accents");
  refuses(R"("handle_chinese_chars": true)", R"("handle_chinese_chars": false)",
          "normalizer.handle_chinese_chars");
  refuses("BertNormalizer", "NFC", "normalizer.type");
  refuses("BertPreTokenizer", "Whitespace", "pre_tokenizer.type");
  refuses(R"({"type": "TemplateProcessing"})", "null", "post_processor");
  refuses(R"("id": 6)", R"("id": 7)", "added_tokens[0].id");
}

TEST(LoadWordPiece, PassesOverTheSameModelInTokenizerJson) {
  EXPECT_EQ(load_wordpiece({{"tokenizer.json", json_of_the_same()}})->encode("want", kPlain), (Ids{4}));
  // A tokenizer.json of another kind is what counts, and refused by its own parser.
  expect_error<UnsupportedError>(
      [] {
        load_wordpiece({{"tokenizer.json", R"({"model": {"type": "Unigram"}})"}});
      },
      {"tokenizer.json", "Unigram"});
}

TEST(LoadWordPiece, IsSavedAsItWasReadOrMade) {
  for (const bool clean_up : {false, true}) {
    const TempDir dir;
    WordPieceModel model = small_wordpiece();
    model.do_lower_case = false;
    model.clean_up_tokenization_spaces = clean_up;
    model.added_tokens = {{.content = "[PAD]"}, {.content = "<n>"}};
    model.eos_token = "<n>";
    const WordPiece tokenizer(std::move(model));
    write_file(dir / "tokenizer.json", "{}");  // of another tokenizer: it would be read first
    tokenizer.save(dir.path());
    const auto again = load_tokenizer(dir.path());
    EXPECT_EQ(again->encode("want <n> 我's Want"), tokenizer.encode("want <n> 我's Want"));
    EXPECT_EQ(again->decode(Ids{9, 13, 14}), clean_up ? "want's" : "want ' s");
    EXPECT_EQ(again->eos_token_id(), 19);
    const TempDir copy;
    again->save(copy.path());
    for (const char* name : {"vocab.txt", "tokenizer_config.json"})
      EXPECT_EQ(test::read_file(copy / name), test::read_file(dir / name)) << name;
  }
}

}  // namespace
}  // namespace gpt
