// Virtual tokens in everything that generates and scores.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/evaluate/embed.h"
#include "gpt/evaluate/score.h"
#include "gpt/generate/generator.h"
#include "gpt/generate/scheduler.h"
#include "gpt/models/language_model_loss.h"
#include "gpt/train/text_dataset.h"
#include "gpt/train/trainer.h"
#include "models/tiny_models.h"
#include "peft/methods.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"
#include "train/small_run.h"

namespace gpt {
namespace {

using test::expect_error;
using test::learned_adapter;
using test::logits_with;
using test::Method;
using test::same_bits;
using test::tokens;

std::vector<Method> with_virtual_tokens() {
  std::vector<Method> all = test::methods();
  std::erase_if(all, [](const Method& m) {
    return m.name != "prompt_tuning" && m.name != "prefix_tuning" && m.name != "stacked";
  });
  return all;
}

class VirtualTokens : public ::testing::TestWithParam<Method> {
 protected:
  VirtualTokens() { model_.network().attach(learned_adapter(GetParam(), model_.network(), 1)); }

  std::int64_t room() const { return model_.network().max_tokens(); }
  /// The most probable tokens, each from a pass over the whole sequence.
  std::vector<TokenId> greedy(std::vector<TokenId> ids, std::size_t count) const {
    std::vector<TokenId> made;
    for (; made.size() < count; ids.push_back(made.back())) {
      Arena arena;
      const Chunk chunk{ids};
      const auto logits = model_.network().forward({&chunk, 1}, arena).logits.span<float>();
      made.push_back(static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin()));
    }
    return made;
  }

  Model model_ = test::model_of(test::tiny_config());
};

INSTANTIATE_TEST_SUITE_P(Peft, VirtualTokens, ::testing::ValuesIn(with_virtual_tokens()),
                         [](const auto& method) { return method.param.name; });

TEST_P(VirtualTokens, StandBeforeWhatIsGenerated) {
  const std::vector<std::vector<TokenId>> prompts{tokens(4), tokens(9, 40), tokens(4, 60)};
  const Generator generator(model_);
  const auto together = generator.generate(prompts, {.max_new_tokens = 12});
  for (std::size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(together[i].ids, greedy(prompts[i], 12));
  const std::vector<TokenId> repeats{5, 6, 7, 5, 6, 7, 5};
  EXPECT_EQ(generator.generate(repeats, {.max_new_tokens = 12, .prompt_lookup_num_tokens = 3}).ids,
            greedy(repeats, 12));
  EXPECT_EQ(
      generator
          .generate(repeats, {.max_new_tokens = 12, .assistant_model = &model_, .num_assistant_tokens = 4})
          .ids,
      greedy(repeats, 12));
}

TEST_P(VirtualTokens, StandBeforeTheBeamsAndCandidatesOfASearch) {
  const auto prompt = tokens(6);
  const Generator generator(model_);
  const auto beams = generator.generate(std::vector<std::vector<TokenId>>{prompt}, {.max_new_tokens = 10,
                                                                                    .num_return_sequences = 3,
                                                                                    .num_beams = 3,
                                                                                    .length_penalty = 0.0,
                                                                                    .logprobs = 1});
  for (const GenerateResult& beam : beams) {  // fed again, and scored as a whole
    const double sum = std::accumulate(beam.logprobs.begin(), beam.logprobs.end(), 0.0);
    EXPECT_NEAR(*beam.score, sum, 1e-9);
    const ScoredContinuation pair{prompt, beam.ids};
    EXPECT_NEAR(continuation_log_probs(model_.network(), {&pair, 1}).front(), sum, 1e-4);
  }
  // Where nothing is penalized, and one token alone is looked at, contrastive search is greedy.
  EXPECT_EQ(generator.generate(prompt, {.max_new_tokens = 10, .top_k = 3, .penalty_alpha = 1e-12}).ids,
            greedy(prompt, 10));
}

TEST_P(VirtualTokens, ShareThePagesOfAScheduler) {
  const auto prompt = tokens(20);
  std::vector<TokenId> longer = prompt;
  longer.push_back(7);
  const std::size_t pages = 2;  // of 16 positions: a sequence alone
  const std::size_t page_bytes = model_.network().make_pool(~std::size_t{0}, 16).page_bytes();
  Scheduler scheduler(model_, {.max_tokens_per_step = 16, .kv_cache_bytes = 2 * pages * page_bytes});
  std::vector<RequestId> ids;
  std::vector<std::vector<TokenId>> prompts{prompt, longer, tokens(3), prompt, longer};
  for (const auto& p : prompts) ids.push_back(scheduler.submit(p, {.max_new_tokens = 4}));
  scheduler.run();
  for (std::size_t i = 0; i < prompts.size(); ++i)
    EXPECT_EQ(scheduler.take(ids[i])->get().ids, greedy(prompts[i], 4)) << i;
  EXPECT_GT(scheduler.statistics().prefix_hits, 0);
}

TEST_P(VirtualTokens, AreThoseOfEachRequest) {
  const std::shared_ptr<const nn::Adapter> mine = model_.network().adapter(),
                                           other = learned_adapter(GetParam(), model_.network(), 9),
                                           lora =
                                               learned_adapter(test::methods().front(), model_.network(), 3);
  const auto prompt = tokens(20);
  std::vector<std::vector<TokenId>> expected;
  for (const auto& adapter : {mine, other, lora}) {
    model_.network().attach(std::const_pointer_cast<nn::Adapter>(adapter));
    expected.push_back(greedy(prompt, 4));
  }
  EXPECT_NE(expected[0], expected[1]);
  for (const bool attached : {false, true}) {
    model_.network().attach(attached ? std::const_pointer_cast<nn::Adapter>(other) : nullptr);
    const Generator generator(model_);
    Scheduler scheduler(model_, {.max_tokens_per_step = 24});
    std::vector<RequestId> ids;
    for (int round = 0; round < 2; ++round)
      for (const auto& adapter : {mine, other, lora})
        ids.push_back(scheduler.submit(prompt, {.max_new_tokens = 4, .adapter = adapter}));
    scheduler.run();
    for (std::size_t i = 0; i < ids.size(); ++i)
      EXPECT_EQ(scheduler.take(ids[i])->get().ids, expected[i % 3]) << i;
    EXPECT_EQ(generator.generate(prompt, {.max_new_tokens = 4, .adapter = mine}).ids, expected[0]);
    const GenerateOptions beams{.max_new_tokens = 4, .adapter = lora, .num_beams = 3};
    GenerateOptions other_beams = beams;
    other_beams.adapter = mine;
    const auto of_lora = generator.generate(prompt, beams), of_mine = generator.generate(prompt, other_beams);
    EXPECT_NE(of_lora.ids, of_mine.ids);
    model_.network().attach(std::const_pointer_cast<nn::Adapter>(mine));
    EXPECT_EQ(generator.generate(prompt, {.max_new_tokens = 4, .num_beams = 3}).ids, of_mine.ids);
    EXPECT_EQ(
        generator.generate(prompt, {.max_new_tokens = 4, .top_k = 3, .penalty_alpha = 1e-12, .adapter = mine})
            .ids,
        expected[0]);
  }
}

TEST_P(VirtualTokens, LeaveARoomThatASequenceMayFill) {
  const Generator generator(model_);
  const auto prompt = tokens(static_cast<std::size_t>(room()) - 3);
  EXPECT_EQ(generator.generate(prompt, {.max_new_tokens = 4}).ids, greedy(prompt, 4));
  expect_error<ArgumentError>([&] { generator.generate(prompt, {.max_new_tokens = 5}); },
                              {"do not fit", "n_positions = 32, less", "virtual tokens"});
  Scheduler scheduler(model_);
  expect_error<ArgumentError>([&] { scheduler.submit(prompt, {.max_new_tokens = 5}); }, {"do not fit"});
  const auto too_long = tokens(static_cast<std::size_t>(room()) + 1);
  const Chunk chunk{too_long};
  Arena arena;
  expect_error<ArgumentError>(
      [&] {
        model_.network().forward({&chunk, 1}, arena);
      },
      {"virtual", "n_positions = 32"});
  // With a window that slides, both ways of running a request see the same tokens.
  const GenerateOptions slides{.max_new_tokens = 40, .sliding_window = true, .n_keep = 4};
  const auto id = scheduler.submit(prompt, slides);
  scheduler.run();
  EXPECT_EQ(scheduler.take(id)->get().ids, generator.generate(prompt, slides).ids);
}

TEST_P(VirtualTokens, StandBeforeWhatIsScoredAndEmbedded) {
  const auto ids = tokens(20);
  const auto log_probs = token_log_probs(model_.network(), ids);
  const Tensor logits = logits_with(model_.network(), nullptr, ids, 20);
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
    const auto row = logits.span<float>().subspan(t * 97, 97);
    double sum = 0;
    for (const float x : row) sum += std::exp(static_cast<double>(x));
    EXPECT_NEAR(log_probs[t], static_cast<double>(row[static_cast<std::size_t>(ids[t + 1])]) - std::log(sum),
                1e-5);
  }
  const std::vector<std::vector<TokenId>> texts{ids, tokens(3, 50)};
  const Tensor both = embed(model_.network(), texts, {.pooling = Pooling::kMean});
  Arena arena;
  const Chunk chunk{texts[1]};
  const auto hidden = model_.network()
                          .forward({&chunk, 1}, arena, {.logits = LogitsRows::kNone, .final_hidden = true})
                          .final_hidden;
  ASSERT_EQ(hidden.shape(), (Shape{3, 16}));
  for (std::int64_t c = 0; c < 16; ++c)
    EXPECT_NEAR(both.data<float>()[16 + c],
                (hidden.data<float>()[c] + hidden.data<float>()[16 + c] + hidden.data<float>()[32 + c]) / 3,
                1e-6f);
  const auto whole = tokens(100);
  EXPECT_TRUE(std::isfinite(perplexity(model_.network(), whole).value()));
  expect_error<ArgumentError>([&] { perplexity(model_.network(), whole, {.max_length = room() + 1}); },
                              {"max_length"});
}

TEST_P(VirtualTokens, LieInCachesOfEveryType) {
  const auto ids = tokens(20);
  for (const DType dtype : {DType::f16, DType::bf16, DType::i8}) {
    const Tensor whole = logits_with(model_.network(), nullptr, ids, 20, dtype);
    EXPECT_TRUE(same_bits(whole, logits_with(model_.network(), nullptr, ids, 3, dtype)));
    EXPECT_FALSE(same_bits(whole, logits_with(model_.network(), nullptr, ids, 20)));
  }
}

TEST_P(VirtualTokens, NeedCachesThatAreMadeForThem) {
  nn::KvCache cache(nn::KvShape{2, 2, 8}, 8);
  const auto ids = tokens(3);
  const Chunk chunk{ids, &cache};
  Arena arena;
  expect_error<ArgumentError>(
      [&] {
        model_.network().forward({&chunk, 1}, arena);
      },
      {"made for 0 virtual tokens"});
  EXPECT_EQ(cache.length(), 0);
  nn::KvCache fits = model_.network().make_cache();
  EXPECT_EQ(fits.capacity(), room());
  model_.network().attach(nullptr);
  const Chunk without{ids, &fits};
  expect_error<ArgumentError>(
      [&] {
        model_.network().forward({&without, 1}, arena);
      },
      {"virtual tokens, expected 0"});
}

TEST_P(VirtualTokens, AreShownWhereTheyAreAskedFor) {
  const auto ids = tokens(4), others = tokens(3, 20);
  const std::int64_t n = model_.network().virtual_tokens();
  const Chunk batch[] = {{ids}, {others}};
  Arena arena;
  const auto logits = [&](std::int64_t rows) {
    return model_.network().forward(batch, arena, {.logits = LogitsRows::kAll, .virtual_rows = rows}).logits;
  };
  const TensorView none = logits(0), one = logits(1), all = logits(n), more = logits(n + 5);
  EXPECT_EQ(none.dim(0), 7);
  EXPECT_EQ(one.dim(0), 9);
  EXPECT_EQ(all.dim(0), 7 + 2 * n);
  EXPECT_TRUE(same_bits(all, more));
  const auto row = [](ConstTensorView x, std::int64_t r) {
    return ConstTensorView(x.data<float>() + r * 97, {97});
  };
  EXPECT_TRUE(same_bits(row(none, 0), row(one, 1)));
  EXPECT_TRUE(same_bits(row(none, 6), row(one, 8)));
  EXPECT_TRUE(same_bits(row(one, 5), row(all, n + 4 + n - 1)));  // the last virtual one of the second
}

// As in PEFT, where the embeddings of a prompt predict the first token, and keys and values predict nothing.
TEST_P(VirtualTokens, PredictTheFirstTokenWhereTheyAreEmbeddings) {
  Gpt2& network = model_.network();
  const auto ids = tokens(5);
  const LabelledSequence sequence{ids};
  Arena arena;
  const auto count = [&](bool first_tokens) {
    return language_model_loss(network, {&sequence, 1}, arena, {.first_tokens = first_tokens}).count;
  };
  EXPECT_EQ(count(false), 4);
  const bool embeds = GetParam().name == "prompt_tuning" || GetParam().name == "stacked";
  EXPECT_EQ(count(true), embeds ? 5 : 4);
  // The training counts the same labels.
  TrainingArguments arguments = test::arguments();
  arguments.max_steps = 1;
  arguments.per_device_train_batch_size = 1;
  arguments.gradient_accumulation_steps = 1;
  const TextDataset data = TextDataset::from_tokens(ids, {.block_size = 4});
  const double mean = Trainer(model_, arguments).evaluate(data).eval_loss;
  const LabelledSequence fed{std::span(ids).first(data.at(0).ids.size())};
  EXPECT_EQ(mean, language_model_loss(network, {&fed, 1}, arena, {.first_tokens = true}).mean());
}

TEST(PromptTuning, BeginsAsTheEmbeddingsOfAText) {
  const Gpt2 network = test::random_network(test::tiny_config(), 1);
  const TokenId text[] = {4, 9};
  PromptTuning prompt(network, {.num_virtual_tokens = 5}, text);
  Tensor embeddings;
  network.visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
    if (name == "wte.weight") embeddings = tensor.clone();
  });
  prompt.visit([&](const std::string&, Tensor& tensor, const Shape&) {
    for (std::int64_t i = 0; i < 5; ++i)
      for (std::int64_t c = 0; c < 16; ++c)
        EXPECT_EQ(tensor.data<float>()[i * 16 + c], embeddings.data<float>()[text[i % 2] * 16 + c]);
  });
  // Virtual tokens that are tokens are those tokens.
  const std::vector<TokenId> ids{30, 31}, before{4, 9, 4, 9, 4, 30, 31};
  const Tensor with = logits_with(network, &prompt, ids, 2), tail = logits_with(network, nullptr, before, 7);
  EXPECT_TRUE(same_bits(with, ConstTensorView(tail.data<float>() + 5 * 97, {2, 97})));
}

TEST(PromptTuning, RefusesWhatItCannotBe) {
  const Gpt2 network = test::random_network(test::tiny_config(), 1);
  expect_error<ArgumentError>([&] { PromptTuning(network, {.num_virtual_tokens = 0}); },
                              {"num_virtual_tokens is 0"});
  expect_error<ArgumentError>([&] { PromptTuning(network, {.num_virtual_tokens = 32}); }, {"1 to 31"});
  expect_error<ArgumentError>([&] { PromptTuning(network, {}, std::span<const TokenId>()); }, {"no tokens"});
  const TokenId bad[] = {97};
  expect_error<ArgumentError>([&] { PromptTuning(network, {}, bad); }, {"97"});
}

}  // namespace
}  // namespace gpt
