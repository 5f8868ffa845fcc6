// Texts as vectors.
#include "gpt/evaluate/embed.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "support/expect_error.h"
#include "support/random_model.h"
#include "support/random_tensor.h"

namespace gpt {
namespace {

using test::expect_error;
using test::random_network;
using test::same_bits;
using test::tiny_config;
using test::tokens;

TEST(Embed, PoolsTheFinalHiddenStates) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const std::vector<std::vector<TokenId>> sequences = {tokens(7), tokens(1, 9), tokens(32, 5)};
  const Tensor mean = embed(network, sequences),
               last = embed(network, sequences, {.pooling = Pooling::kLast});
  ASSERT_EQ(mean.shape(), Shape({3, 16}));
  ASSERT_EQ(last.shape(), Shape({3, 16}));
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const Chunk chunk{sequences[i]};
    Arena arena;
    const TensorView hidden =
        network.forward({&chunk, 1}, arena, {.logits = LogitsRows::kNone, .hidden_states = true})
            .hidden_states.back();
    const auto row = static_cast<std::int64_t>(i) * 16;
    for (std::int64_t c = 0; c < 16; ++c) {
      double sum = 0;
      for (std::int64_t t = 0; t < hidden.dim(0); ++t) sum += hidden.data<float>()[t * 16 + c];
      EXPECT_EQ(mean.data<float>()[row + c], static_cast<float>(sum / static_cast<double>(hidden.dim(0))));
      EXPECT_EQ(last.data<float>()[row + c], hidden.data<float>()[(hidden.dim(0) - 1) * 16 + c]);
    }
  }
}

TEST(Embed, GivesARowOfItsSequenceAlone) {
  const Gpt2 network = random_network(tiny_config(), 1);
  std::vector<std::vector<TokenId>> sequences;
  for (std::size_t i = 0; i < 200; ++i) sequences.push_back(tokens(1 + i % 32, i));  // several batches
  std::int64_t done = 0;
  const Tensor all = embed(network, sequences, {.on_progress = [&done](const EvaluationProgress& p) {
                             EXPECT_GT(p.done, done);
                             EXPECT_EQ(p.total, 200);
                             done = p.done;
                           }});
  EXPECT_EQ(done, 200);
  for (const std::size_t i : {0u, 77u, 199u}) {
    const Tensor alone = embed(network, std::span(sequences).subspan(i, 1));
    EXPECT_TRUE(same_bits(
        alone, ConstTensorView(all.data<float>() + static_cast<std::int64_t>(i) * 16, alone.shape())));
  }
}

TEST(Embed, RefusesWhatHasNoVector) {
  Gpt2 network = random_network(tiny_config(), 1);
  const auto refuse = [&](std::vector<std::vector<TokenId>> sequences, std::string_view part) {
    expect_error<ArgumentError>([&] { embed(network, sequences); }, {part});
  };
  refuse({}, "[embed] there are no sequences");
  refuse({{1}, {}}, "sequence 1 has 0 tokens, expected 1 to n_positions = 32");
  refuse({tokens(33)}, "sequence 0 has 33 tokens");
  refuse({{1, 97}}, "token id 97");
  std::stop_source stop;
  stop.request_stop();
  const std::vector<std::vector<TokenId>> one = {{1}};
  EXPECT_THROW(embed(network, one, {.stop = stop.get_token()}), CancelledError);
  network.visit([&](const std::string& name, Tensor& tensor, const Shape&) {
    if (name == "ln_f.bias") tensor.data<float>()[3] = std::numeric_limits<float>::infinity();
  });
  expect_error<NumericError>(
      [&] { embed(network, one); },
      {"[embed] element 3 of the vector of sequence 0 is inf; parameter ln_f.bias: element [3] is inf"});
}

}  // namespace
}  // namespace gpt
