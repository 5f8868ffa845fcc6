// The loss and its gradients: law 1 in training. Their values are compared with PyTorch's by golden_check.
#include "gpt/models/language_model_loss.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "gpt/core/parallel.h"
#include "gpt/ops/softmax.h"
#include "gpt/train/parameters.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/random_model.h"
#include "support/random_tensor.h"

namespace gpt {
namespace {

using test::message_of;
using test::random_network;
using test::same_bits;
using test::tiny_config;
using test::tokens;
using ::testing::HasSubstr;

// The loss of a batch and the gradients of all parameters.
struct Learned {
  LossSum loss;
  std::vector<Tensor> gradients;
  std::size_t memory;   // that the forward pass needed, in bytes
  std::size_t scratch;  // that gradients needed beside it

  Learned(Gpt2& network, std::span<const LabelledSequence> batch, LossOptions options = {.scale = 0.1}) {
    const Parameters parameters(network);
    Tape tape;
    parameters.watch(tape);
    Arena arena;
    options.tape = &tape;
    loss = language_model_loss(network, batch, arena, options);
    tape.backward();
    memory = arena.peak();
    scratch = tape.scratch().peak();
    for (const Parameter& p : parameters.all()) {
      gradients.push_back(Tensor::empty(p.gradient.shape()));
      std::ranges::copy(p.gradient.span<float>(), gradients.back().data<float>());
    }
  }
};

bool same(const Learned& a, const Learned& b) {
  for (std::size_t i = 0; i < a.gradients.size(); ++i)
    if (!same_bits(a.gradients[i], b.gradients[i])) return false;
  return a.loss.sum == b.loss.sum && a.loss.count == b.loss.count;
}

TEST(Gpt2WithoutACache, GivesTheBitsOfOneWithACache) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(21, 3), others = tokens(9, 8);
  nn::KvCache cache = network.make_cache();
  Arena arena, other;
  const Chunk with[] = {{ids, &cache}}, without[] = {{others}, {ids}};
  const TensorView a = network.forward(with, arena, {.logits = LogitsRows::kAll}).logits;
  const TensorView b = network.forward(without, other, {.logits = LogitsRows::kAll}).logits;
  EXPECT_TRUE(same_bits(a, ConstTensorView(b.data<float>() + 9 * 97, a.shape())));
}

TEST(LanguageModelLoss, IsThatOfTheLogits) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(20, 3);
  auto labels = ids;
  labels[4] = labels[19] = kIgnoredLabel;
  labels[7] = 11;
  Arena arena;
  const LabelledSequence sequence{ids, labels};
  const LossSum loss = language_model_loss(network, {&sequence, 1}, arena);
  EXPECT_EQ(loss.count, 17);
  EXPECT_EQ(count_labels(sequence), 17);
  EXPECT_EQ(count_labels({ids}), 19);
  const Chunk chunk{ids};
  const TensorView logits = network.forward({&chunk, 1}, arena, {.logits = LogitsRows::kAll}).logits;
  double expected = 0;
  for (std::size_t t = 1; t < 20; ++t) {
    if (labels[t] == kIgnoredLabel) continue;
    double log_prob = 0;
    ops::token_log_probs(
        ConstTensorView(logits.data<float>() + static_cast<std::int64_t>(t - 1) * 97, Shape{1, 97}),
        {&labels[t], 1}, {&log_prob, 1});
    expected -= log_prob;
  }
  EXPECT_EQ(loss.sum, expected);
}

TEST(LanguageModelLoss, AndItsGradientsDoNotDependOnThreadsOrOnBeingRecorded) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  Gpt2Config config = tiny_config();
  config.vocab_size = 700;
  config.n_embd = 64;
  Gpt2 network = random_network(config, 1);
  std::vector<std::vector<TokenId>> ids{tokens(33, 1), tokens(2, 5), tokens(30, 9)};
  std::vector<LabelledSequence> batch;
  for (const auto& row : ids) batch.push_back({row});
  for (const DType activations : {DType::f32, DType::bf16}) {
    const LossOptions options{.scale = 0.1, .activations = activations};
    set_num_threads(1);
    const Learned alone(network, batch, options);
    for (const int threads : {2, 5}) {
      set_num_threads(threads);
      EXPECT_TRUE(same(alone, Learned(network, batch, options))) << threads;
    }
    set_num_threads(0);
    Arena arena;
    EXPECT_EQ(language_model_loss(network, batch, arena, options).sum, alone.loss.sum);
  }
}

TEST(LanguageModelLoss, OfRecomputedBlocksIsTheSameInLessMemory) {
  Gpt2Config config = tiny_config();
  config.n_layer = 8;
  config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.2f;
  Gpt2 network = random_network(config, 1);
  const auto ids = tokens(33, 3), others = tokens(9, 8);
  const LabelledSequence batch[] = {{ids}, {others}};
  for (const DType activations : {DType::f32, DType::bf16}) {
    LossOptions options{.dropout = DropoutSeed{7}, .activations = activations};
    const Learned kept(network, batch, options);
    options.gradient_checkpointing = true;
    const Learned recomputed(network, batch, options);
    EXPECT_TRUE(same(recomputed, kept));
    EXPECT_LT(recomputed.memory, kept.memory / (activations == DType::f32 ? 3 : 2));  // bfloat16 leaves less
  }
}

// 16 to 32 rows, beside 256 features: their attention is computed again.
TEST(LanguageModelLoss, OfShortSequencesIsTheSameInLessMemory) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const ThreadLimit one(1);  // each thread has space of its own
  Gpt2Config config = tiny_config();
  config.n_embd = 256;
  config.n_layer = 4;
  config.n_positions = 64;
  config.attn_pdrop = 0.2f;
  const auto ids = tokens(34, 3);
  const std::span<const TokenId> all(ids);
  const LabelledSequence short_ones[] = {{all.first(33)}, {all.first(17)}, {all.first(30)}},
                         a_long_one[] = {{all}, {all.first(17)}, {all.first(29)}},
                         tiny_ones[] = {{all.first(16)}, {all.first(2)}, {all.first(2)}};
  for (const bool pruned : {false, true}) {
    if (pruned) config.pruned_heads = {{0, {1}}};  // a narrower result, then wider ones
    Gpt2 network = random_network(config, 1);
    for (const DType activations : {DType::f32, DType::bf16}) {
      const LossOptions kept{.dropout = DropoutSeed{7}, .activations = activations};
      LossOptions recomputed = kept;
      recomputed.gradient_checkpointing = true;
      for (const auto& batch : {std::span<const LabelledSequence>(short_ones), {a_long_one}, {tiny_ones}})
        EXPECT_TRUE(same(Learned(network, batch, kept), Learned(network, batch, recomputed)));
      // The heads of some blocks are where those of another are, of 77 rows of as many sequences.
      const auto memory_of = [&](std::span<const LabelledSequence> batch) {
        const Learned learned(network, batch, kept);
        return learned.memory + learned.scratch;
      };
      const std::size_t saved = 77 * (pruned ? 128 + 3 * 256 - (128 + 256) : 3 * 256) * size_of(activations),
                        less = memory_of(short_ones), more = memory_of(a_long_one), block = 77 * 256 * 4;
      EXPECT_GE(more + block / 2, less + saved) << pruned;
      EXPECT_LE(more, less + saved + block / 2) << pruned;
    }
  }
}

TEST(LanguageModelLoss, OfBfloat16ActivationsIsNearlyTheSameInLessMemory) {
  const ThreadLimit one(1);  // each thread has space of its own, which is not compared here
  Gpt2Config config = tiny_config();
  config.n_layer = 8;
  Gpt2 network = random_network(config, 1);
  const auto ids = tokens(33, 3), others = tokens(9, 8);
  const LabelledSequence batch[] = {{ids}, {others}};
  const Learned whole(network, batch), half(network, batch, {.scale = 0.1, .activations = DType::bf16});
  // Of the 10 features a token and block has kept (3 of qkv, 1 of heads, 4 of the mlp, 2 of sums) 8 take half.
  EXPECT_LT(half.memory, whole.memory * 3 / 4);
  EXPECT_NE(half.loss.sum, whole.loss.sum);
  // Every rounding is one of 2^-9; the errors of some 50 of them in a row add up by chance.
  EXPECT_NEAR(half.loss.mean(), whole.loss.mean(), 0x1p-9 * 8 * whole.loss.mean());
  for (std::size_t i = 0; i < whole.gradients.size(); ++i) {
    double product = 0, squares = 0, others_squares = 0;
    for (std::size_t j = 0; j < whole.gradients[i].span<float>().size(); ++j) {
      const auto a = static_cast<double>(whole.gradients[i].span<float>()[j]),
                 b = static_cast<double>(half.gradients[i].span<float>()[j]);
      product += a * b;
      squares += a * a;
      others_squares += b * b;
    }
    EXPECT_GT(product, 0.99 * std::sqrt(squares * others_squares)) << i;
  }
  Arena arena;
  EXPECT_EQ(message_of<ArgumentError>(
                [&] { language_model_loss(network, batch, arena, {.activations = DType::f16}); }),
            "[gpt2] activations are float16, expected float32 or bfloat16");
}

TEST(LanguageModelLoss, HasItsLogitsWhereGradientsWillBe) {
  Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(12, 3);
  const LabelledSequence sequence{ids};
  const Learned expected(network, {&sequence, 1});

  Parameters parameters(network);
  Tape tape;
  parameters.watch(tape);
  parameters.lend_gradients(tape);
  const float *const first = parameters.all().front().gradient.data<float>(),
                     *const last = parameters.all().back().gradient.data<float>();
  std::atomic<int> inside = 0;
  const auto loss = [&](const ops::LossRow& row) {
    if (row.logits.data() >= first && row.logits.data() < last) ++inside;
    return ops::CrossEntropy()(row);
  };
  Arena arena;
  EXPECT_EQ(
      language_model_loss(network, {&sequence, 1}, arena, {.tape = &tape, .scale = 0.1, .loss = loss}).sum,
      expected.loss.sum);
  EXPECT_EQ(inside, 11);
  for (const Parameter& p : parameters.all()) {
    const bool is_zero = std::ranges::all_of(p.gradient.span<float>(), [](float g) { return g == 0; });
    EXPECT_EQ(is_zero, p.name != "wte.weight") << p.name;  // the head's
  }
  tape.backward();
  for (std::size_t i = 0; i < expected.gradients.size(); ++i)
    EXPECT_TRUE(same_bits(parameters.all()[i].gradient, expected.gradients[i])) << parameters.all()[i].name;
}

TEST(LanguageModelLoss, IsAUsersOwnOverAllRowsThatAreFed) {
  Gpt2 network = random_network(tiny_config(), 1);
  const auto first = tokens(12, 3), second = tokens(5, 8);
  auto labels = second;
  labels[2] = kIgnoredLabel;
  const std::vector<LabelledSequence> batch{{first}, {second, labels}};
  std::vector<TokenId> seen(15, kIgnoredLabel);
  const Learned plain(network, batch),
      own(network, batch, {.scale = 0.1, .loss = [&](const ops::LossRow&row) {
                             seen[static_cast<std::size_t>(row.index)] = row.label;
                             return ops::CrossEntropy()(row);
                           }});
  EXPECT_TRUE(same(plain, own));
  std::vector<TokenId> expected(first.begin() + 1, first.end());
  expected.insert(expected.end(), labels.begin() + 1, labels.end());
  EXPECT_EQ(seen, expected);
  EXPECT_FALSE(same(plain, Learned(network, batch, {.scale = 0.1, .loss = ops::CrossEntropy(0.1)})));
}

TEST(LanguageModelLoss, DoesNotDependOnWhereTheRowsWithALabelAre) {
  Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(12, 3), more = tokens(2, 3);
  auto labels = ids;
  std::fill(labels.begin() + 8, labels.end(), kIgnoredLabel);
  const LabelledSequence beginning{ids, labels};
  const Learned in_place(network, {&beginning, 1});
  // A row apart from them, from which nothing is learned, has them gathered.
  const std::vector<LabelledSequence> apart{beginning, {more}};
  Learned gathered(network, apart, {.scale = 0.1, .loss = [](const ops::LossRow& row) {
                                      if (row.index != 11) return ops::CrossEntropy()(row);
                                      std::ranges::fill(row.logits, 0.0f);
                                      return 0.0;
                                    }});
  EXPECT_EQ(gathered.loss.count--, 8);
  EXPECT_TRUE(same(in_place, gathered));
}

TEST(LanguageModelLoss, OfIgnoredLabelsIsNothing) {
  Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(12, 3);
  const std::vector<TokenId> labels(12, kIgnoredLabel);
  const LabelledSequence sequence{ids, labels};
  const Learned learned(network, {&sequence, 1});
  EXPECT_EQ(learned.loss.count, 0);
  for (const Tensor& gradient : learned.gradients)
    for (const float g : gradient.span<float>()) ASSERT_EQ(g, 0.0f);
}

TEST(LanguageModelLoss, RefusesWhatItCannotLearnFrom) {
  Gpt2 network = random_network(tiny_config(), 1);
  Arena arena;
  const auto ids = tokens(12, 3), one = tokens(1, 3), many = tokens(34, 3);
  const auto refused = [&](const LabelledSequence& s) {
    return message_of<ArgumentError>([&] { language_model_loss(network, {&s, 1}, arena); });
  };
  EXPECT_THAT(refused({one}), HasSubstr("sequence 0 has 1 tokens, expected 2 or more"));
  EXPECT_THAT(refused({ids, one}), HasSubstr("sequence 0 has 1 labels for 12 tokens"));
  EXPECT_THAT(refused({many}), HasSubstr("n_positions = 32"));
  auto labels = ids;
  labels[5] = 97;
  EXPECT_THAT(refused({ids, labels}), HasSubstr("label 97 at row 4 is outside [0, 97)"));
  nn::KvCache cache = network.make_cache();
  const Chunk chunk{ids, &cache};
  Tape tape;
  EXPECT_THAT(message_of<ArgumentError>([&] {
                network.forward({&chunk, 1}, arena, {.tape = &tape});
              }),
              HasSubstr("a cache beside a tape"));
}

}  // namespace
}  // namespace gpt
