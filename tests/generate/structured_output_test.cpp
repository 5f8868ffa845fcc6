// Generations under a grammar: every text is one of its own, whatever room there is.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "generate/grammar_support.h"
#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "gpt/generate/grammar.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/wordpiece.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/json_schema.h"

namespace gpt {
namespace {

using test::expect_error;
using test::ListTokenizer;

struct Fixture {
  std::shared_ptr<const ListTokenizer> tokenizer = std::make_shared<const ListTokenizer>(test::json_tokens());
  Model model = test::model_over(tokenizer);
  Generator generator{model};

  std::shared_ptr<const CompiledGrammar> compile(const Grammar& grammar) const {
    return std::make_shared<const CompiledGrammar>(grammar, *tokenizer);
  }
};

const Fixture& fixture() {
  static const Fixture all;
  return all;
}

constexpr const char* kSchemas[] = {
    R"({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 120}}, "required": ["name", "age"]})",
    R"({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 5})",
    R"({"type": "string", "minLength": 3, "maxLength": 9})",
    R"({"type": "number", "exclusiveMinimum": -2.5, "maximum": 17.25})",
    R"({"type": "integer", "minimum": -300, "exclusiveMaximum": 4500})",
    R"({"enum": ["red", "green", "blue", 3, null, {"a": [1, 2]}]})",
    R"({"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}, "c": {"type": "string", "maxLength": 4}}, "additionalProperties": false})",
    R"({"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"], "additionalProperties": {"type": "string"}})",
    R"({"type": "string", "format": "date"})",
    R"({"type": "string", "format": "date-time"})",
    R"({"type": "string", "format": "uuid"})",
    R"({"type": "string", "format": "email"})",
    R"({"type": "string", "format": "ipv4"})",
    R"({"type": "string", "pattern": "^(AB|C-)[0-9]{3}$"})",
    R"({"type": "string", "pattern": "x[a-f]+y"})",
    R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, "required": ["value"]}}})",
    R"({"anyOf": [{"type": "string", "maxLength": 5}, {"type": "array", "items": {"type": "boolean"}}, {"type": "null"}]})",
    R"({"oneOf": [{"type": "object", "properties": {"kind": {"const": "circle"}, "radius": {"type": "number", "minimum": 0}}, "required": ["kind", "radius"]}, {"type": "object", "properties": {"kind": {"const": "square"}, "side": {"type": "number", "minimum": 0}}, "required": ["kind", "side"]}]})",
    R"({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"properties": {"b": {"type": "string", "maxLength": 3}}, "required": ["b"]}]})",
    R"({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": {"type": "null"}, "minItems": 2})",
    R"({"type": ["object", "array"], "minItems": 1, "items": {"type": "number"}})",
    R"({"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string", "maxLength": 3}}})",
    R"({"type": "object", "properties": {"matrix": {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 3}, "maxItems": 3}}, "required": ["matrix"]})",
    R"({"type": "object", "properties": {"\u00e9\"": {"const": "\u20ac\n"}, "list": {"type": "array", "items": {"enum": [1, 2]}}}, "required": ["\u00e9\""]})",
    R"({"type": "object"})",
    R"({"type": "number", "maximum": 9007199254740991})",
    R"({"type": "array", "items": {"type": "number", "minimum": -1e15, "exclusiveMaximum": 1e15}, "minItems": 3})",
    R"({"type": "string", "pattern": "^.{3,9}$"})",
    R"({"type": "string", "pattern": "^[^\\s]{3,9}$"})",
    R"({"type": "string", "pattern": "^[^a-z\\S]{1,3}[^\\d\\s]+$"})",
    R"({"oneOf": [{"type": "null"}, {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"type": "string", "maxLength": 4}, {"enum": [1, 2.5, true]}]})",
    R"({"type": "string", "format": "hostname"})",
};

TEST(StructuredOutput, TextsAreValidWhateverRoomThereIs) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  int count = 0, ended = 0;
  for (const char* text : kSchemas) {
    const auto schema = nlohmann::json::parse(text);
    const auto grammar = fixture().compile(Grammar::from_json_schema(text));
    const std::int64_t least = grammar->least_tokens();
    for (const std::int64_t room : {least, least + 1, least + 7, std::int64_t{80}}) {
      GenerateOptions options;
      options.max_new_tokens = room;
      options.do_sample = true;
      options.temperature = 1.5;
      options.top_k = 0;
      options.num_return_sequences = 10;
      options.seed = static_cast<std::uint64_t>(room);
      options.grammar = grammar;
      const std::vector<std::vector<TokenId>> prompts{{'T', 'o', ':'}};
      for (const GenerateResult& result : fixture().generator.generate(prompts, options)) {
        ++count;
        ended += result.finish_reason == FinishReason::kEos ? 1 : 0;
        const auto value = nlohmann::json::parse(result.text, nullptr, false);
        ASSERT_FALSE(value.is_discarded()) << text << "\n" << result.text;
        EXPECT_EQ(test::why_invalid(value, schema, schema), "") << text << "\n" << result.text;
      }
    }
  }
  EXPECT_EQ(count, static_cast<int>(std::size(kSchemas)) * 40);
  EXPECT_GE(count, 1000);
  EXPECT_GT(ended, 100);  // others end with their room
}

TEST(StructuredOutput, TheTestsOwnValidatorSeesFaults) {
  const auto why = [](const char* value, const char* schema) {
    const auto parsed = nlohmann::json::parse(schema);
    return test::why_invalid(nlohmann::json::parse(value), parsed, parsed);
  };
  EXPECT_NE(why("121", R"({"maximum": 120})"), "");
  EXPECT_NE(why(R"({"a": 1})", R"({"required": ["b"]})"), "");
  EXPECT_NE(why(R"({"a": 1})", R"({"properties": {}, "additionalProperties": false})"), "");
  EXPECT_NE(why(R"("2023-02-29")", R"({"format": "date"})"), "");
  EXPECT_NE(why("[1]", R"({"items": {"type": "string"}})"), "");
  EXPECT_NE(why("1", R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})"), "");
  EXPECT_NE(why("1", R"({"not": {}})"), "");
  EXPECT_NE(why("1e99", R"({"maximum": 9007199254740991})"), "");
  EXPECT_NE(why(R"("a\u00a0")", R"({"pattern": "^[^\\s]+$"})"), "");
  EXPECT_NE(why(R"("\u2028")", R"({"pattern": "^.$"})"), "");
  EXPECT_EQ(why(R"("\u20ac")", R"({"pattern": "^.$"})"), "");
  EXPECT_NE(why(R"("ab--c.d")", R"({"format": "hostname"})"), "");
}

GenerateOptions sampling(const Grammar& grammar, std::int64_t room, double temperature = 2.0) {
  GenerateOptions options;
  options.max_new_tokens = room;
  options.do_sample = true;
  options.temperature = temperature;
  options.top_k = 0;
  options.grammar = fixture().compile(grammar);
  return options;
}

const std::vector<TokenId> kAbc{'a', 'b', 'c'};

TEST(StructuredOutput, HoldsForRegexesAndGrammarsAtAnyRoom) {
  const Grammar grammars[] = {
      Grammar::from_regex("([A-Z][a-z]+ ){2,}\\d{4}"), Grammar::from_regex("\\p{L}{3}(, .)*"),
      Grammar::from_gbnf("root ::= expr\nexpr ::= term ([-+*/] term)*\nterm ::= [0-9]+ | \"(\" expr \")\""),
      Grammar::json_object()};
  for (const Grammar& grammar : grammars) {
    GenerateOptions options = sampling(grammar, 1);
    const std::int64_t least = options.grammar->least_tokens();
    for (std::int64_t room = std::max<std::int64_t>(least, 1); room < least + 30; ++room) {
      options.max_new_tokens = room;
      options.seed = static_cast<std::uint64_t>(room);
      const GenerateResult result = fixture().generator.generate(kAbc, options);
      EXPECT_TRUE(grammar.accepts(result.text)) << room << ": " << result.text;
    }
  }
}

TEST(StructuredOutput, EndsWhereOnlyTheEndIsPossible) {
  GenerateOptions options = sampling(Grammar::from_regex("yes|no"), 20);
  const GenerateResult drawn = fixture().generator.generate(kAbc, options);
  EXPECT_TRUE(drawn.text == "yes" || drawn.text == "no") << drawn.text;
  EXPECT_EQ(drawn.finish_reason, FinishReason::kEos);
  EXPECT_EQ(drawn.ids.back(), fixture().tokenizer->end());
  options = {};
  options.grammar = fixture().compile(Grammar::from_regex("yes|no"));
  EXPECT_EQ(fixture().generator.generate(kAbc, options).finish_reason, FinishReason::kEos);
}

TEST(StructuredOutput, WorksWithEveryStrategy) {
  const Grammar grammar = Grammar::from_json_schema(kSchemas[0]);
  std::vector<std::pair<const char*, GenerateOptions>> cases;
  const auto add = [&](const char* name) -> GenerateOptions& {
    GenerateOptions& options = cases.emplace_back(name, GenerateOptions()).second;
    options.max_new_tokens = 30;
    options.grammar = fixture().compile(grammar);
    return options;
  };
  add("greedy");
  add("beams").num_beams = 4;
  GenerateOptions& groups = add("groups of beams");
  groups.num_beams = 4;
  groups.num_beam_groups = 2;
  groups.diversity_penalty = 1.0;
  GenerateOptions& drawn = add("drawn beams");
  drawn.num_beams = 3;
  drawn.do_sample = true;
  add("contrastive").penalty_alpha = 0.6;
  add("guidance").guidance_scale = 1.5;
  GenerateOptions& mirostat = add("mirostat");
  mirostat.do_sample = true;
  mirostat.mirostat = 2;
  GenerateOptions& filters = add("filters");
  filters.do_sample = true;
  filters.top_p = 0.9;
  filters.typical_p = 0.9;
  filters.min_p = 0.01;
  filters.repetition_penalty = 1.3;
  for (const auto& [name, options] : cases) {
    const GenerateResult result = fixture().generator.generate(kAbc, options);
    EXPECT_TRUE(grammar.accepts(result.text)) << name << ": " << result.text;
  }
}

TEST(StructuredOutput, SpeculationAndBatchesChangeNoBit) {
  const Grammar grammar = Grammar::from_json_schema(kSchemas[15]);
  for (const bool draws : {false, true}) {
    GenerateOptions options = sampling(grammar, 60, 1.2);
    if (!draws) {
      options.do_sample = std::nullopt;
      options.temperature = std::nullopt;
      options.top_k = std::nullopt;
    }
    const GenerateResult alone = fixture().generator.generate(kAbc, options);
    GenerateOptions guessing = options;
    guessing.prompt_lookup_num_tokens = 4;
    EXPECT_EQ(fixture().generator.generate(kAbc, guessing).ids, alone.ids);
    guessing.prompt_lookup_num_tokens = std::nullopt;
    guessing.assistant_model = &fixture().model;
    EXPECT_EQ(fixture().generator.generate(kAbc, guessing).ids, alone.ids);
    const std::vector<std::vector<TokenId>> prompts{{'x'}, kAbc, {'1', '2'}};
    EXPECT_EQ(fixture().generator.generate(prompts, options)[1].ids, alone.ids);
    std::vector<TokenId> streamed;
    for (const Piece& piece : fixture().generator.stream(kAbc, options)) streamed.push_back(piece.id);
    EXPECT_EQ(streamed, alone.ids);
  }
}

TEST(StructuredOutput, SaysHowMuchRoomIsNeeded) {
  GenerateOptions options = sampling(Grammar::from_json_schema(kSchemas[10]), 3);  // a UUID
  const std::int64_t least = options.grammar->least_tokens();
  expect_error<ArgumentError>(
      [&] { fixture().generator.generate(kAbc, options); },
      {"room for 3 new tokens", "grammar needs " + std::to_string(least), "max_new_tokens"});
  options.num_beams = 2;
  expect_error<ArgumentError>([&] { fixture().generator.generate(kAbc, options); },
                              {"room for 3 new tokens"});
  options.num_beams = std::nullopt;
  options = sampling(Grammar::from_regex("x{40}"), 40);
  options.max_new_tokens = std::nullopt;
  expect_error<ArgumentError>([&] { fixture().generator.generate(kAbc, options); },
                              {"room for 20 new tokens"});
}

TEST(StructuredOutput, RefusesByNameWhatItDoesNotGoWith) {
  const auto expect = [](auto&& change, std::initializer_list<std::string_view> parts) {
    GenerateOptions options = sampling(Grammar::from_regex("a+"), 5);
    change(options);
    expect_error<UnsupportedError>([&] { fixture().generator.check(options); }, parts);
  };
  expect([](GenerateOptions& o) { o.stop_strings = {"x"}; }, {"stop_strings", "grammar"});
  expect([](GenerateOptions& o) { o.forced_bos_token_id = 1; }, {"forced_bos_token_id", "grammar"});
  expect([](GenerateOptions& o) { o.forced_eos_token_id = {{1}}; }, {"forced_eos_token_id", "grammar"});
  expect([](GenerateOptions& o) { o.eos_token_id = {{'x'}}; }, {"eos_token_id 120", "has text", "grammar"});
  // The tokenizer's own eos, which it does not call special: it would stand in the text.
  ByteBpeModel parts;
  parts.vocab = {{"a", 0}, {"<end>", 1}};
  parts.eos_token = "<end>";
  const ByteBpe plain(parts);
  ASSERT_FALSE(plain.is_special(1));
  const auto compiled = std::make_shared<const CompiledGrammar>(Grammar::from_regex("a+"), plain);
  expect_error<UnsupportedError>([&] { GrammarConstrained(compiled, plain, {1}); },
                                 {"eos_token_id 1", "has text"});
  GenerateOptions options = sampling(Grammar::from_regex("a+"), 5);
  options.eos_token_id = std::vector<TokenId>();
  expect_error<ArgumentError>([&] { fixture().generator.check(options); }, {"grammar needs an eos_token_id"});
  expect([](GenerateOptions& o) { o.no_repeat_ngram_size = 2; }, {"no_repeat_ngram_size", "grammar"});
  expect([](GenerateOptions& o) { o.bad_words_ids = {{{'a'}}}; }, {"bad_words_ids", "grammar"});
  expect([](GenerateOptions& o) { o.min_length = 4; }, {"min_length", "grammar"});
  expect([](GenerateOptions& o) { o.min_new_tokens = 4; }, {"min_new_tokens", "grammar"});
  expect([](GenerateOptions& o) { o.suppress_tokens = {{'a'}}; }, {"suppress_tokens", "grammar"});
  expect([](GenerateOptions& o) { o.begin_suppress_tokens = {{'a'}}; }, {"begin_suppress_tokens", "grammar"});
  expect(
      [](GenerateOptions& o) {
        o.prefix_allowed_tokens_fn = [](std::size_t, std::span<const TokenId>) {
          return std::vector<TokenId>{'b'};
        };
      },
      {"prefix_allowed_tokens_fn", "grammar"});
  options = sampling(Grammar::from_regex("a{2}"), 5);
  options.logits_processor = [](std::span<double> scores, const DecodingStep&) { scores['a'] = -HUGE_VAL; };
  expect_error<ArgumentError>([&] { fixture().generator.generate(kAbc, options); },
                              {"position 3", "dropped every token that grammar admits"});
  const auto other = std::make_shared<const ListTokenizer>(std::vector<std::string>{"a", "b"});
  options = sampling(Grammar::from_regex("a+"), 5);
  options.grammar = std::make_shared<const CompiledGrammar>(Grammar::from_regex("a+"), *other);
  expect_error<ArgumentError>([&] { fixture().generator.check(options); }, {"another tokenizer"});
  const Model bare(test::random_network(test::tiny_config(), 1), HfConfig());
  expect_error<UnsupportedError>([&] { Generator(bare).check(options); }, {"grammar needs a tokenizer"});
}

// The tokenizer has a token more, with which least_tokens would be 1.
TEST(StructuredOutput, LeavesOutTokensThatTheNetworkDoesNotHave) {
  ByteBpeModel parts;
  parts.vocab = {{"a", 0}, {"<end>", 1}, {"aa", 2}};
  parts.added_tokens = {{.content = "<end>"}};
  parts.eos_token = "<end>";
  const auto tokenizer = std::make_shared<const ByteBpe>(parts);
  Gpt2Config config = test::tiny_config();
  config.vocab_size = 2;
  config.eos_token_id = {1};
  const Model model(test::random_network(config, 1), HfConfig(), tokenizer);
  const Grammar grammar = Grammar::from_regex("(aa)+");
  GenerateOptions options;
  options.max_new_tokens = 3;
  options.grammar = std::make_shared<const CompiledGrammar>(grammar, *tokenizer);
  const std::vector<TokenId> prompt{0};
  expect_error<ArgumentError>([&] { Generator(model).generate(prompt, options); },
                              {"the id 2", "vocab_size = 2", "compile it"});
  options.grammar = std::make_shared<const CompiledGrammar>(grammar, *tokenizer, 2);
  EXPECT_EQ(options.grammar->least_tokens(), 2);
  EXPECT_EQ(Generator(model).generate(prompt, options).text, "aa");
  expect_error<ArgumentError>([&] { CompiledGrammar(grammar, *tokenizer, 0); }, {"vocab_size is 0"});
}

// Of two texts, beams that are drawn find no third.
TEST(StructuredOutput, GivesNoResultThatIsNoTextOfTheGrammar) {
  const Grammar grammar = Grammar::from_regex("yes|no");
  GenerateOptions options = sampling(grammar, 20);
  options.num_beams = 4;
  options.num_return_sequences = 4;
  const std::vector<std::vector<TokenId>> prompts{kAbc};
  expect_error<ArgumentError>([&] { fixture().generator.generate(prompts, options); },
                              {"num_return_sequences is 4", "texts of grammar"});
  options.num_return_sequences = 2;
  for (const bool draws : {true, false}) {
    if (!draws) {
      options.do_sample = std::nullopt;
      options.temperature = std::nullopt;
      options.top_k = std::nullopt;
      options.num_return_sequences = 4;
    }
    for (const GenerateResult& result : fixture().generator.generate(prompts, options))
      EXPECT_TRUE(grammar.accepts(result.text)) << result.text;
  }
}

TEST(StructuredOutput, IsForTokenizersWithTheSameTokensAlone) {
  std::vector<std::string> tokens(300, "x");
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] += std::to_string(i);
  const ListTokenizer tokenizer(tokens), same(tokens), copy(tokenizer);
  const CompiledGrammar grammar(Grammar::from_regex("(x\\d+)*"), tokenizer);
  EXPECT_TRUE(grammar.is_for(tokenizer));
  EXPECT_TRUE(grammar.is_for(same));
  EXPECT_TRUE(grammar.is_for(copy));
  for (std::size_t i = 0; i < tokens.size();
       i += 7) {  // one that differs in a single token, of the same length
    std::vector<std::string> others = tokens;
    others[i][0] = 'y';
    EXPECT_FALSE(grammar.is_for(ListTokenizer(others))) << i;
  }
}

// Words that WordPiece writes with a space before them, and pieces without.
TEST(StructuredOutput, TakesTheTextOfWordPieceTokensBehindText) {
  WordPieceModel model;
  model.vocab = {"[UNK]", "[SEP]", "red", "green", "##s", ".", "word"};
  model.eos_token = "[SEP]";
  model.added_tokens = {{.content = "[SEP]"}, {.content = "[UNK]"}};
  const auto tokenizer = std::make_shared<const WordPiece>(model);
  const auto grammar =
      std::make_shared<const CompiledGrammar>(Grammar::from_regex("( (red|green)s?)+\\."), *tokenizer);
  EXPECT_EQ(grammar->least_tokens(), 2);
  const GrammarConstrained processor(grammar, *tokenizer, {1});
  const auto scores = test::scores_after(processor, 7, {6}, 1, 10);
  for (std::size_t id = 0; id < 7; ++id) EXPECT_EQ(scores[id] == 0.0, id == 2 || id == 3) << id;
  const auto later = test::scores_after(processor, 7, {6, 2}, 1, 10);
  for (std::size_t id = 0; id < 7; ++id) EXPECT_EQ(later[id] == 0.0, id >= 2 && id <= 5) << id;
  // Behind a special token alone a word has no space before it.
  expect_error<UnsupportedError>([&] { test::scores_after(processor, 7, {1}, 1, 10); },
                                 {"the prompt does not end with text"});
  model.clean_up_tokenization_spaces = true;
  model.vocab.push_back("'");
  const WordPiece cleaning(model);
  expect_error<UnsupportedError>([&] { CompiledGrammar(Grammar::from_regex(" red"), cleaning); },
                                 {"tokens beside it"});
}

}  // namespace
}  // namespace gpt
