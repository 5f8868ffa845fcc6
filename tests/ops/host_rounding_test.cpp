// What an op computes beside its loops, on the thread that calls it, does not depend on how that thread rounds.
#include <gtest/gtest.h>

#include <vector>

#include "gpt/ops/dropout.h"
#include "gpt/ops/loss.h"
#include "gpt/ops/optimizer.h"
#include "gpt/ops/softmax.h"
#include "support/random_tensor.h"
#include "support/rounding_upward.h"

namespace gpt::ops {
namespace {

using test::random_tensor;
using test::same_bits;

/// Results of every op that computes there.
struct Results {
  std::vector<double> log_probs, losses, squares;
  std::vector<Tensor> tensors;
};

class HostRounding : public testing::Test {
 protected:
  Results compute() {
    Results r{std::vector<double>(labels_.size()), std::vector<double>(labels_.size()), {}, {}};
    for (const Tensor& t : {logits_, x_, x_, Tensor::zeros(x_.shape()), x_}) r.tensors.push_back(t.clone());
    Tensor &logits = r.tensors[0], &parameter = r.tensors[1], &m = r.tensors[2], &v = r.tensors[3];
    token_log_probs(logits, labels_, r.log_probs);
    row_losses(CrossEntropy(0.1), logits, rows_, labels_, 0.3f, r.losses);
    for (std::int64_t step = 1; step < 20; ++step) {
      adamw(parameter, x_, m, v, {.beta2 = 0.95, .gradient_scale = 0.7, .step = step});
      r.squares.push_back(sum_of_squares(parameter));
    }
    dropout(x_, {0.2f, 7, 9}, {},
            r.tensors[4]);  // 1 / (1 - 0.2f) is another float32 upward, that of 0.3f is not
    return r;
  }

 private:
  const Tensor logits_ = random_tensor({7, 50}, 1, DType::f32, 5.0f), x_ = random_tensor({20'003}, 2);
  const std::vector<TokenId> labels_{0, 49, 3, 11, 8, 8, 20};
  const std::vector<std::int64_t> rows_{0, 1, 2, 3, 4, 5, 6};
};

TEST_F(HostRounding, ChangesNoBit) {
  const Results expected = compute();
  const Results got = [&] {
    const test::RoundingUpward host;
    return compute();
  }();
  EXPECT_EQ(got.log_probs, expected.log_probs);
  EXPECT_EQ(got.losses, expected.losses);
  EXPECT_EQ(got.squares, expected.squares);
  for (std::size_t i = 0; i < expected.tensors.size(); ++i)
    EXPECT_TRUE(same_bits(got.tensors[i], expected.tensors[i])) << i;
}

}  // namespace
}  // namespace gpt::ops
