#include <gtest/gtest.h>

#include "gpt/core/error.h"
#include "gpt/text/byte_bpe.h"
#include "support/expect_error.h"
#include "text/small_bpe.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;
using test::expect_error;
using test::small_tokenizer_json;

ByteBpe read(std::string_view part = "", std::string_view replacement = "") {
  return ByteBpe(parse_tokenizer_json(small_tokenizer_json(part, replacement), "t.json"));
}

template <class E>
void expect_refused(std::string_view part, std::string_view replacement,
                    std::initializer_list<std::string_view> words) {
  SCOPED_TRACE(replacement);
  expect_error<E>([&] { read(part, replacement); }, words);
}

constexpr std::string_view kPreTokenizer =
    R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})";
constexpr std::string_view kPostProcessor =
    R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false})";
constexpr std::string_view kDecoder =
    R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true})";

TEST(TokenizerJson, IsReadWhole) {
  const ByteBpe tokenizer = read();
  EXPECT_EQ(tokenizer.vocab_size(), 258);
  EXPECT_EQ(tokenizer.encode("ab<end> \""), (Ids{256, 257, ' ', '"'}));
  EXPECT_TRUE(tokenizer.is_special(257));
}

TEST(TokenizerJson, TakesMergesAsPairs) {
  EXPECT_EQ(read(R"("merges": ["a b"])", R"("merges": [["a", "b"]])").encode("ab"), (Ids{256}));
}

TEST(TokenizerJson, TakesOlderFilesWithoutAModelType) {
  EXPECT_EQ(read(R"("type": "BPE", )", "").encode("ab"), (Ids{256}));
}

TEST(TokenizerJson, HonoursThePreTokenizersOptions) {
  EXPECT_EQ(read(kPreTokenizer, R"({"type": "ByteLevel", "add_prefix_space": true})").encode("ab"),
            (Ids{' ', 256}));
  EXPECT_EQ(read(kPreTokenizer, R"({"type": "ByteLevel"})").encode("ab"), (Ids{' ', 256}));
  EXPECT_EQ(
      read(kPreTokenizer,
           R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": true}]})")
          .encode("ab"),
      (Ids{' ', 256}));
  EXPECT_FALSE(
      parse_tokenizer_json(small_tokenizer_json(R"("use_regex": true)", R"("use_regex": false)")).use_regex);
}

TEST(TokenizerJson, HonoursTheTemplate) {
  constexpr std::string_view kTemplate = R"({"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "B", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [], "special_tokens": {"B": {"id": "B", "ids": [257], "tokens": ["<end>"]}}})";
  EXPECT_EQ(read(kPostProcessor, kTemplate).encode("ab"), (Ids{257, 256}));
  EXPECT_EQ(read(kPostProcessor,
                 concat(R"({"type": "Sequence", "processors": [)", kPostProcessor, ",", kTemplate, "]}"))
                .encode("ab"),
            (Ids{257, 256}));
  EXPECT_EQ(read(kPostProcessor, "null").encode("ab"), (Ids{256}));
  expect_refused<UnsupportedError>(kPostProcessor, R"({"type": "TemplateProcessing", "single": []})",
                                   {"post_processor.single"});
  expect_refused<UnsupportedError>(kPostProcessor, R"({"type": "RobertaProcessing"})",
                                   {"post_processor.type", "RobertaProcessing"});
}

// Each part is looked for among all special tokens, and may stand for many tokens each time.
TEST(TokenizerJson, RefusesATemplateThatIsLongerThanAny) {
  const auto with = [](int parts, int tokens) {
    std::string list, names = "\"<end>\"";
    for (int i = 0; i < parts; ++i) list += R"({"SpecialToken": {"id": "B"}}, )";
    for (int i = 1; i < tokens; ++i) names += ", \"<end>\"";
    return concat(R"({"type": "TemplateProcessing", "single": [)", list,
                  R"({"Sequence": {"id": "A"}}], "special_tokens": {"B": {"tokens": [)", names, "]}}}");
  };
  EXPECT_EQ(read(kPostProcessor, with(255, 1)).encode("ab").size(), 256u);
  expect_refused<UnsupportedError>(kPostProcessor, with(256, 1),
                                   {"post_processor.single has 257 parts, expected 256 at most"});
  EXPECT_EQ(read(kPostProcessor, with(16, 16)).encode("ab").size(), 257u);
  expect_refused<UnsupportedError>(kPostProcessor, with(17, 16),
                                   {"post_processor.single", "stands for more than 256 tokens"});
}

TEST(TokenizerJson, RefusesByNameWhatWouldChangeTheResult) {
  using U = UnsupportedError;
  expect_refused<U>(R"("type": "BPE")", R"("type": "WordPiece")", {"t.json", "model.type", "WordPiece"});
  expect_refused<U>(R"("dropout": null)", R"("dropout": 0.1)", {"model.dropout", "0.1"});
  expect_refused<U>(R"("fuse_unk": false)", R"("fuse_unk": true)", {"model.fuse_unk"});
  expect_refused<U>(R"("byte_fallback": false)", R"("byte_fallback": true)", {"model.byte_fallback"});
  expect_refused<U>(R"("end_of_word_suffix": "")", R"("end_of_word_suffix": "</w>")",
                    {"model.end_of_word_suffix", "</w>"});
  expect_refused<U>(R"("continuing_subword_prefix": "")", R"("continuing_subword_prefix": "##")",
                    {"continuing_subword_prefix", "##"});
  expect_refused<U>(R"("dropout": null)", R"("cleverness": 3)", {"model.cleverness"});
  expect_refused<U>(R"("normalizer": null)", R"("normalizer": {"type": "NFC"})", {"normalizer", "NFC"});
  expect_refused<U>(R"("version": "1.0")", R"("version": "2.0")", {"version", "2.0"});
  expect_refused<U>(R"("version": "1.0")", R"("novelty": 1)", {"novelty"});
  expect_refused<U>(kPreTokenizer, "null", {"pre_tokenizer"});
  expect_refused<U>(kPreTokenizer, R"({"type": "Metaspace"})", {"pre_tokenizer.type", "Metaspace"});
  expect_refused<U>(kPreTokenizer,
                    R"({"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}]})",
                    {"pre_tokenizer.pretokenizers[0].type", "Digits"});
  expect_refused<U>(
      kPreTokenizer,
      R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "ByteLevel"}]})",
      {"pre_tokenizer.pretokenizers"});
  expect_refused<U>(kPreTokenizer, R"({"type": "ByteLevel", "behaviour": 1})", {"pre_tokenizer.behaviour"});
  expect_refused<U>(kDecoder, "null", {"decoder"});
  expect_refused<U>(kDecoder, R"({"type": "Fuse"})", {"decoder.type", "Fuse"});
}

TEST(TokenizerJson, RefusesMalformedContent) {
  using F = FormatError;
  for (const char* key : {"add_prefix_space", "trim_offsets", "use_regex"})
    expect_refused<F>(kPreTokenizer, concat(R"({"type": "ByteLevel", ")", key, "\": null}"),
                      {concat("pre_tokenizer.", key, " is null, expected true or false")});
  expect_refused<F>(R"("merges": ["a b"])", R"("merges": ["ab"])", {"t.json", "model.merges[0]", "ab"});
  expect_refused<F>(R"("merges": ["a b"])", R"("merges": ["a b c"])", {"model.merges[0]"});
  expect_refused<F>(R"("merges": ["a b"])", R"("merges": ["a b", ["a", 1]])", {"model.merges[1]"});
  expect_refused<F>(R"("merges": ["a b"])", R"("merges": ["a q"])",
                    {"model.merges", "merge 1", "\"aq\"", "model.vocab"});
  expect_refused<F>(R"("merges": ["a b"])", R"("merges": {})", {"model.merges", "a list"});
  expect_refused<F>(R"(, "merges": ["a b"])", "", {"model.merges", "missing"});
  expect_refused<F>(R"("ab": 256)", R"("ab": 1e3)", {"model.vocab", "\"ab\"", "1000.0"});
  expect_refused<F>(R"("ab": 256)", R"("ab": -1)", {"\"ab\"", "-1"});
  expect_refused<F>(R"("ab": 256)", R"("ab": 99999999999999999999)", {"\"ab\""});
  expect_refused<F>(R"("ab": 256)", R"("ab": 4294967552)", {"\"ab\"", "4294967552"});
  expect_refused<F>(R"("ab": 256)", R"("ab": "256")", {"\"ab\"", "\"256\""});
  expect_refused<F>(R"("ab": 256)", R"("ab": 7)", {"\"ab\"", "same id 7"});
  expect_refused<F>(R"("ab": 256)", R"("ab": 256, "ab": 258)", {"\"ab\"", "twice"});
  expect_refused<F>(R"("id": 257)", R"("id": 256)", {"<end>", "256", "\"ab\""});
  expect_refused<F>(R"("id": 257, )", "", {"added_tokens[0].id is missing, expected an integer from 0 to"});
  expect_refused<F>(R"("id": 257, )", R"("id": -1, )",
                    {"added_tokens[0].id is -1, expected an integer from 0"});
  expect_refused<F>(R"("id": 257, )", R"("id": 3, )", {"added_tokens[0]", "has the id 3, which belongs to"});
  expect_refused<F>(R"("content": "<end>")", R"("content": 3)", {"added_tokens[0].content", "3"});
  expect_refused<F>(R"("special": true)", R"("special": "yes")", {"added_tokens[0].special", "yes"});
  expect_refused<F>(kPreTokenizer, "[]", {"pre_tokenizer", "object"});
  expect_refused<F>(kPreTokenizer, "{}", {"pre_tokenizer.type"});
  expect_error<F>([] { parse_tokenizer_json("{\"model\": [", "t.json"); }, {"t.json", "JSON"});
  expect_error<F>([] { parse_tokenizer_json("[]", "t.json"); }, {"t.json", "object"});
  expect_error<F>([] { parse_tokenizer_json("{}", "t.json"); }, {"t.json", "model"});
  expect_error<F>([] { parse_tokenizer_json(std::string(100000, '['), "t.json"); }, {"t.json"});
  expect_error<F>([] { parse_tokenizer_json("", "t.json"); }, {"t.json"});
}

TEST(VocabAndMerges, AreReadWithAndWithoutTheirVersionLine) {
  constexpr std::string_view kVocab = R"({"a": 0, "b": 7, "ab": 3, "#": 4, "##": 5})";
  for (const std::string_view merges :
       {"#version: 0.2\na b\n# #\n", "a b\n# #", "#version: 0.2\r\na b\r\n# #\r\n",
        "\xEF\xBB\xBF#version: 0.2\na b\n# #\n\n"}) {
    const ByteBpe tokenizer(parse_vocab_and_merges(kVocab, merges));
    EXPECT_EQ(tokenizer.encode("ab##"), (Ids{3, 5})) << merges;
  }
  EXPECT_EQ(ByteBpe(parse_vocab_and_merges(kVocab, "")).encode("ab"), (Ids{0, 7}));
}

TEST(VocabAndMerges, NameTheLineOrTheToken) {
  const auto read_both = [](std::string_view vocab, std::string_view merges) {
    return [=] { ByteBpe{parse_vocab_and_merges(vocab, merges, "v.json", "m.txt")}; };
  };
  expect_error<FormatError>(read_both(R"({"a": 0})", "#version: 0.2\na b c\n"), {"m.txt", "line 2", "a b c"});
  expect_error<FormatError>(read_both(R"({"a": 0})", "a a\naa\n"), {"m.txt", "line 2", "aa"});
  expect_error<FormatError>(read_both(R"({"a": 0})", " a\n"), {"m.txt", "line 1"});
  expect_error<FormatError>(read_both(R"({"a": 0})", "\xFE\xFF"), {"m.txt", "UTF-16"});
  expect_error<FormatError>(read_both(R"({"a": 0})", "a a\n"), {"m.txt", "merge 1", "\"aa\"", "v.json"});
  expect_error<FormatError>(read_both(R"({"a": null})", ""), {"v.json", "\"a\"", "null"});
  expect_error<FormatError>(read_both(R"({"a": 0, "a": 1})", ""), {"v.json", "\"a\"", "twice"});
  expect_error<FormatError>(read_both(R"({"a": 0, "b": 0})", ""), {"v.json", "\"a\"", "\"b\"", "id 0"});
  expect_error<FormatError>(read_both(R"(["a"])", ""), {"v.json"});
  expect_error<FormatError>(read_both(R"({"a": 0)", ""), {"v.json", "JSON"});
  expect_error<FormatError>(read_both("{\"\xFF\": 0}", ""), {"v.json"});
}

}  // namespace
}  // namespace gpt
