#include "gpt/train/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/ops/bfloat16.h"
#include "support/expect_error.h"
#include "support/random_model.h"
#include "support/random_tensor.h"
#include "support/rounding_upward.h"

namespace gpt {
namespace {

using gpt::test::message_of;

TEST(Parameters, AreFloat32AndTheNetworksOwn) {
  Gpt2 network = test::random_network(test::tiny_config(), 1, DType::f16);
  const Parameters parameters(network);
  network.visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
    EXPECT_EQ(tensor.dtype(), DType::f32) << name;
  });
  parameters.all().front().value.data<float>()[0] = 5;
  float seen = 0;
  network.visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
    if (name == "wte.weight") seen = tensor.data<float>()[0];
  });
  EXPECT_EQ(parameters.all().front().name, "wte.weight");
  EXPECT_EQ(seen, 5);
}

TEST(Parameters, AreThoseThatLearn) {
  Gpt2 network = test::random_network(test::tiny_config(), 1, DType::f32);
  const Parameters biases(network, [](std::string_view name) { return name.ends_with("c_fc.bias"); });
  for (const Parameter& p : biases.all()) EXPECT_TRUE(p.name.ends_with("mlp.c_fc.bias"));
  EXPECT_EQ(biases.all().size(), static_cast<std::size_t>(test::tiny_config().n_layer));
  EXPECT_EQ(message_of<ArgumentError>([&] { Parameters(network, [](std::string_view) { return false; }); }),
            "[train] no parameter is to be learned");
  network.pack();
  EXPECT_THROW(Parameters{network}, UnsupportedError);
}

TEST(Parameters, AreSplitWhereTheNetworkComputesInBfloat16) {
  Gpt2 network = test::random_network(test::tiny_config(), 1);
  std::vector<Tensor> before;
  network.visit(
      [&](const std::string&, const Tensor& tensor, const Shape&) { before.push_back(tensor.clone()); });
  {
    const Parameters parameters(network, {}, DType::bf16);
    ASSERT_EQ(parameters.all().size(), before.size());
    std::size_t i = 0;
    network.visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
      EXPECT_TRUE(test::same_bits(tensor, before[i].to(DType::bf16))) << name;
      EXPECT_EQ(parameters.all()[i].value.raw(), std::as_const(tensor).view().raw()) << name;
      EXPECT_EQ(parameters.all()[i++].rest.dtype(), DType::i16) << name;
    });
  }
  std::size_t i = 0;
  network.visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
    Tensor value = Tensor::empty(tensor.shape(), DType::bf16),
           rest = Tensor::empty(tensor.shape(), DType::i16);
    ops::split(before[i], value, rest);
    ops::join(value, rest, before[i]);  // where a half loses a unit
    EXPECT_TRUE(test::same_bits(tensor, before[i++])) << name;
  });
  EXPECT_EQ(message_of<ArgumentError>([&] { Parameters(network, {}, DType::f16); }),
            "[train] weights are to be float16, expected float32 or bfloat16");
}

class AdamWOptimizer : public testing::Test {
 protected:
  Gpt2 network_ = test::random_network(test::tiny_config(), 1);
  Parameters parameters_{network_};
};

TEST_F(AdamWOptimizer, DecaysMatricesAlone) {
  AdamW optimizer(parameters_, {.weight_decay = 0.5});
  std::vector<float> before;
  for (const Parameter& p : parameters_.all()) before.push_back(p.value.data<float>()[1]);
  optimizer.step(0.1);  // gradients of zero: nothing but decay
  for (std::size_t i = 0; i < before.size(); ++i) {
    const Parameter& p = parameters_.all()[i];
    const float factor = p.value.shape().rank() == 2 ? static_cast<float>(1 - 0.1 * 0.5) : 1.0f;
    EXPECT_EQ(p.value.data<float>()[1], before[i] * factor) << p.name;
  }
  EXPECT_EQ(optimizer.steps(), 1);
}

TEST_F(AdamWOptimizer, RefusesOptionsOutOfRange) {
  EXPECT_EQ(message_of<ArgumentError>([&] { AdamW(parameters_, {.adam_beta2 = 1.0}); }),
            "[adamw] adam_beta2 is 1, expected 0 or more, and less than 1");
  EXPECT_EQ(message_of<ArgumentError>([&] { AdamW(parameters_, {.weight_decay = -1.0}); }),
            "[adamw] weight_decay is -1, expected 0 or more");
  EXPECT_THROW(AdamW(parameters_, {.adam_epsilon = std::nan("")}), ArgumentError);
}

TEST(ClipFactor, IsTorchs) {
  EXPECT_EQ(clip_factor(0.5, 1.0), 1.0);
  EXPECT_EQ(clip_factor(4.0, 1.0), 1.0 / (4.0 + 1e-6));
  EXPECT_EQ(clip_factor(4.0, 0.0), 1.0);
}

TEST(ClipFactor, IsTheSameWhateverTheRoundingOfTheHost) {
  const auto factors = [] {
    std::vector<double> all;
    for (const double norm : {3.7, 1.1, 1e3, 0.999999}) all.push_back(clip_factor(norm, 1.0));
    return all;
  };
  const std::vector<double> expected = factors();
  const test::RoundingUpward host;
  EXPECT_EQ(factors(), expected);
}

}  // namespace
}  // namespace gpt
