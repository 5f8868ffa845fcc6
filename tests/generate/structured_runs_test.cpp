// Generations under a grammar beside other things: in a scheduler, past the context, by several threads, with real tokenizers.
#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "generate/grammar_support.h"
#include "generate/same_result.h"
#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "gpt/generate/grammar.h"
#include "gpt/generate/scheduler.h"
#include "gpt/text/bpe_trainer.h"
#include "gpt/text/byte_bpe.h"

namespace gpt {
namespace {

using test::expect_same;
using test::ListTokenizer;

const Grammar& person() {
  static const Grammar grammar = Grammar::from_json_schema(
      R"({"type": "object", "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}},
          "more": {"$ref": "#"}}, "required": ["name", "tags"]})");
  return grammar;
}

GenerateOptions drawing(std::shared_ptr<const CompiledGrammar> grammar, std::int64_t room,
                        std::uint64_t seed) {
  GenerateOptions options;
  options.max_new_tokens = room;
  options.do_sample = true;
  options.temperature = 1.5;
  options.top_k = 0;
  options.seed = seed;
  options.grammar = std::move(grammar);
  return options;
}

const std::vector<TokenId> kTo{'T', 'o', ':'};

TEST(StructuredRuns, InASchedulerThatTakesPlacesAwayHaveTheirBitsAlone) {
  const auto tokenizer = std::make_shared<const ListTokenizer>(test::json_tokens());
  const Model model = test::model_over(tokenizer);
  const auto grammar = std::make_shared<const CompiledGrammar>(person(), *tokenizer);
  const Gpt2Config& config = model.config();
  const auto page = static_cast<std::size_t>(2 * config.n_layer * config.n_embd * 16) * sizeof(float);
  Scheduler scheduler(model, {.max_batch = 6, .kv_cache_bytes = 14 * page});
  std::vector<RequestId> ids;
  for (std::uint64_t seed = 0; seed < 12; ++seed)
    ids.push_back(
        scheduler.submit(kTo, drawing(grammar, 80, seed), {.priority = static_cast<int>(seed % 3)}));
  scheduler.run();
  EXPECT_GT(scheduler.statistics().preemptions, 0);
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const GenerateResult result = scheduler.take(ids[seed])->result;
    EXPECT_TRUE(person().accepts(result.text)) << result.text;
    expect_same(result, Generator(model).generate(kTo, drawing(grammar, 80, seed)));
  }
}

TEST(StructuredRuns, GoOnPastTheContext) {
  const auto tokenizer = std::make_shared<const ListTokenizer>(test::json_tokens());
  const Model model = test::model_over(tokenizer, 32);
  const Grammar grammar =
      Grammar::from_json_schema(R"({"type": "array", "items": {"enum": ["ab", null]}, "minItems": 60})");
  GenerateOptions options = drawing(std::make_shared<const CompiledGrammar>(grammar, *tokenizer), 300, 1);
  options.sliding_window = true;
  const GenerateResult result = Generator(model).generate(kTo, options);
  EXPECT_GT(result.ids.size(), 100u);
  EXPECT_TRUE(grammar.accepts(result.text)) << result.text;
}

TEST(StructuredRuns, OfThreadsShareACompiledGrammar) {
  const auto tokenizer = std::make_shared<const ListTokenizer>(test::json_tokens());
  const Model model = test::model_over(tokenizer);
  const auto shared = std::make_shared<const CompiledGrammar>(person(), *tokenizer);
  std::vector<GenerateResult> results(8);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < results.size(); ++t)
    threads.emplace_back([&, t] { results[t] = Generator(model).generate(kTo, drawing(shared, 60, t)); });
  for (std::thread& thread : threads) thread.join();
  for (std::size_t t = 0; t < results.size(); ++t) {
    const auto own = std::make_shared<const CompiledGrammar>(person(), *tokenizer);
    expect_same(results[t], Generator(model).generate(kTo, drawing(own, 60, t)));
  }
}

TEST(StructuredRuns, GiveSeveralBeamsTheirTexts) {
  const auto tokenizer = std::make_shared<const ListTokenizer>(test::json_tokens());
  const Model model = test::model_over(tokenizer);
  GenerateOptions options;
  options.max_new_tokens = 40;
  options.num_beams = 4;
  options.num_return_sequences = 4;
  options.grammar = std::make_shared<const CompiledGrammar>(person(), *tokenizer);
  std::set<std::string> texts;
  const std::vector<std::vector<TokenId>> prompts{kTo, {'x'}};
  const auto results = Generator(model).generate(prompts, options);
  ASSERT_EQ(results.size(), 8u);
  for (const GenerateResult& result : results) {
    EXPECT_TRUE(person().accepts(result.text)) << result.text;
    texts.insert(result.text);
  }
  EXPECT_GT(texts.size(), 4u);
}

/// Two special tokens.
class TwoEnds final : public ListTokenizer {
 public:
  TwoEnds() : ListTokenizer({"a", "b", "<stop>"}) {}
  bool is_special(TokenId id) const override { return id >= 2; }
};

TEST(StructuredRuns, EndWithAnyOfSeveralEosTokens) {
  const auto tokenizer = std::make_shared<const TwoEnds>();
  const Model model = test::model_over(tokenizer, 32);
  std::set<TokenId> last;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    GenerateOptions options =
        drawing(std::make_shared<const CompiledGrammar>(Grammar::from_regex("ab|ba"), *tokenizer), 9, seed);
    options.eos_token_id = {{2, 3}};
    const GenerateResult result = Generator(model).generate(std::vector<TokenId>{0}, options);
    EXPECT_EQ(result.finish_reason, FinishReason::kEos);
    EXPECT_TRUE(result.text == "ab" || result.text == "ba") << result.text;
    last.insert(result.ids.back());
  }
  EXPECT_EQ(last, (std::set<TokenId>{2, 3}));
}

// From a prompt of text to texts that the grammar has.
void expect_texts_of(const std::shared_ptr<const Tokenizer>& tokenizer, TokenId eos, const Grammar& grammar,
                     const std::string& prompt) {
  Gpt2Config config = test::tiny_config();
  config.vocab_size = tokenizer->vocab_size();
  config.n_positions = 128;
  config.eos_token_id = {eos};
  const Model model(test::random_network(config, 1), HfConfig(), tokenizer);
  const auto compiled = std::make_shared<const CompiledGrammar>(grammar, *tokenizer);
  for (const std::int64_t room : {compiled->least_tokens(), compiled->least_tokens() + 3, std::int64_t{60}}) {
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      const GenerateResult result = Generator(model).generate(prompt, drawing(compiled, room, seed));
      EXPECT_TRUE(grammar.accepts(result.text)) << result.text;
    }
  }
}

TEST(StructuredRuns, WithATrainedByteLevelBpe) {
  const std::vector<std::string_view> texts{
      R"({"name": "the king", "tags": ["a", "the queen"]} the king and the queen, the name of the tags)",
      R"({"name": "the queen", "tags": ["the", "king"]} and so on, and the names)"};
  const auto tokenizer = std::make_shared<const ByteBpe>(train_byte_bpe(texts, {.vocab_size = 320}));
  ASSERT_GT(tokenizer->vocab_size(), 280);
  expect_texts_of(tokenizer, *tokenizer->eos_token_id(), person(), "A person: ");
}

TEST(StructuredRuns, WithSentencepiece) {
  for (const char* name : {"sentencepiece-bpe", "sentencepiece-unigram"}) {
    std::shared_ptr<const Tokenizer> tokenizer;
    try {
      tokenizer = load_tokenizer(std::filesystem::path(GPT_SOURCE_DIR) / "tests/text/models" / name);
    } catch (const UnsupportedError&) {
      GTEST_SKIP() << "built without sentencepiece";
    }
    ASSERT_TRUE(tokenizer->eos_token_id()) << name;
    expect_texts_of(tokenizer, *tokenizer->eos_token_id(), Grammar::from_regex("[a-z ]{3,20}"),
                    "Hello world");
  }
}

}  // namespace
}  // namespace gpt
