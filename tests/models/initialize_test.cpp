#include "gpt/models/initialize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "gpt/core/parallel.h"
#include "gpt/core/rng.h"
#include "support/random_model.h"
#include "support/random_tensor.h"
#include "support/trapping.h"

namespace gpt {
namespace {

std::map<std::string, Tensor> initialized(const Gpt2Config& config, std::uint64_t seed) {
  Gpt2 network(config);
  initialize(network, seed);
  std::map<std::string, Tensor> all;
  network.visit(
      [&](const std::string& name, const Tensor& tensor, const Shape&) { all.emplace(name, tensor); });
  return all;
}

TEST(Initialize, HasTransformersDeviations) {
  Gpt2Config config = test::tiny_config();
  config.n_layer = 8;
  config.n_embd = 64;
  for (const auto& [name, tensor] : initialized(config, 1)) {
    double sum = 0, squares = 0;
    for (const float x : tensor.span<float>()) {
      sum += static_cast<double>(x);
      squares += static_cast<double>(x) * static_cast<double>(x);
    }
    const auto n = static_cast<double>(tensor.numel());
    if (tensor.shape().rank() < 2) {
      EXPECT_EQ(sum, name.ends_with("weight") ? n : 0.0) << name;
      continue;
    }
    const double expected = name.ends_with("c_proj.weight") ? 0.02 / 4 : 0.02;
    // Five standard deviations of what n numbers give.
    EXPECT_NEAR(sum / n, 0, 5 * expected / std::sqrt(n)) << name;
    EXPECT_NEAR(std::sqrt(squares / n), expected, 5 * expected / std::sqrt(2 * n)) << name;
  }
}

TEST(Initialize, DependsOnTheSeedAlone) {
  const auto one = initialized(test::tiny_config(), 1), other = initialized(test::tiny_config(), 2);
  set_num_threads(3);
  const auto again = initialized(test::tiny_config(), 1);
  set_num_threads(0);
  for (const auto& [name, tensor] : one) {
    EXPECT_TRUE(test::same_bits(tensor, again.at(name))) << name;
    if (tensor.shape().rank() == 2) {
      EXPECT_FALSE(test::same_bits(tensor, other.at(name))) << name;
    }
  }
}

TEST(Initialize, EndsNoHostThatTrapsWhatIsInexact) {
  Gpt2Config config = test::tiny_config();
  config.n_layer = 3;
  Gpt2 network(config);
  const test::Trapping host;
  if (!host.traps()) GTEST_SKIP() << "floating-point exceptions cannot be trapped here";
  initialize(network, 1);
  EXPECT_NE(CounterRng(1).normal(1), 0.0);
}

}  // namespace
}  // namespace gpt
