// DoRA's gradients, whose definition takes the lengths of the columns for constants; its dropout.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gpt/autograd/ops.h"
#include "gpt/models/language_model_loss.h"
#include "gpt/ops/elementwise.h"
#include "gpt/train/parameters.h"
#include "peft/methods.h"
#include "support/random_tensor.h"

namespace gpt {
namespace {

using test::random_network;
using test::tiny_config;
using test::tokens;

class Dora : public ::testing::Test {
 protected:
  Dora() {
    adapter_ = std::make_shared<LoraAdapter>(
        network_, LoraConfig{.r = 3, .target_modules = {"c_attn"}, .use_dora = true}, 1);
    std::uint64_t seed = 10;
    adapter_->visit([&](const std::string&, Tensor& tensor, const Shape& shape) {
      const Tensor noise = test::random_tensor(shape, seed++, DType::f32, 0.2f);
      for (std::int64_t i = 0; i < tensor.numel(); ++i) tensor.data<float>()[i] += noise.data<float>()[i];
    });
    network_.attach(adapter_);
  }

  /// |W + scaling (B A)^T| of each output of a layer's c_attn.
  std::vector<double> lengths(int layer) {
    const std::string name = "transformer.h." + std::to_string(layer) + ".attn.c_attn";
    Tensor a, b, w;
    adapter_->visit([&](const std::string& tensor, Tensor& value, const Shape&) {
      if (tensor == "base_model.model." + name + ".lora_A.weight") a = value;
      if (tensor == "base_model.model." + name + ".lora_B.weight") b = value;
    });
    network_.visit_matrices([&](const std::string& matrix, const ops::Weight& weight) {
      if ("transformer." + matrix == name + ".weight") w = weight.values;
    });
    std::vector<double> all(48);
    for (std::int64_t o = 0; o < 48; ++o) {
      for (std::int64_t i = 0; i < 16; ++i) {
        auto sum = static_cast<double>(w.data<float>()[i * 48 + o]);
        for (std::int64_t k = 0; k < 3; ++k)
          sum += adapter_->config().scaling() * static_cast<double>(b.data<float>()[o * 3 + k]) *
                 static_cast<double>(a.data<float>()[k * 16 + i]);
        all[static_cast<std::size_t>(o)] += sum * sum;
      }
      all[static_cast<std::size_t>(o)] = std::sqrt(all[static_cast<std::size_t>(o)]);
    }
    return all;
  }

  Gpt2 network_ = random_network(tiny_config(), 1);
  std::shared_ptr<LoraAdapter> adapter_;
};

TEST_F(Dora, HasGradientsThatAreSlopesWhereLengthsStayWhatTheyAre) {
  const auto ids = tokens(20);
  const LabelledSequence batch[] = {{ids}};
  const Parameters parameters(*adapter_);
  const auto loss = [&](Tape* tape) {
    Arena arena;
    const double sum = language_model_loss(network_, batch, arena, {.tape = tape}).sum;
    if (tape != nullptr) tape->backward();
    return sum;
  };
  Tape tape;
  parameters.watch(tape);
  loss(&tape);
  for (std::size_t p = 0; p < parameters.all().size(); ++p) {
    const Parameter& parameter = parameters.all()[p];
    const int layer = p < 3 ? 0 : 1;
    if (parameter.name.ends_with("lora_magnitude_vector")) continue;
    const auto magnitudes = parameters.all()[p < 3 ? 2 : 5].value.span<float>();
    const std::vector<float> at(parameter.value.span<float>().begin(), parameter.value.span<float>().end()),
        learned(magnitudes.begin(), magnitudes.end());
    const std::vector<double> before = lengths(layer);
    double squares = 0;
    for (const float g : parameter.gradient.span<float>())
      squares += static_cast<double>(g) * static_cast<double>(g);
    const double length = std::sqrt(squares);
    ASSERT_GT(length, 1e-2);
    const auto moved = [&](double by) {
      for (std::size_t i = 0; i < at.size(); ++i)
        parameter.value.span<float>()[i] =
            static_cast<float>(static_cast<double>(at[i]) +
                               by * static_cast<double>(parameter.gradient.span<float>()[i]) / length);
      // What is learned grows as the lengths do, so that their quotient stays.
      const std::vector<double> now = lengths(layer);
      for (std::size_t o = 0; o < now.size(); ++o)
        magnitudes[o] = static_cast<float>(static_cast<double>(learned[o]) * now[o] / before[o]);
      return loss(nullptr);
    };
    const auto slope = [&](double h) {
      const double above = moved(h);
      return (above - moved(-h)) / (2 * h);
    };
    constexpr double h = 1.0 / 64;
    EXPECT_NEAR((4 * slope(h) - slope(2 * h)) / 3, length, 2e-3 * length + 2e-3) << parameter.name;
    std::copy(at.begin(), at.end(), parameter.value.span<float>().begin());
    std::copy(learned.begin(), learned.end(), magnitudes.begin());
  }
}

// As PEFT: result + (m / |.| - 1) dropout(x) W + m / |.| scaling B A dropout(x).
TEST_F(Dora, DropsWhatItAddsAlone) {
  LoraConfig config = adapter_->config();
  config.lora_dropout = 0.5;
  LoraAdapter dropping(network_, config, 1);
  std::vector<Tensor> values;
  adapter_->visit([&](const std::string&, Tensor& tensor, const Shape&) { values.push_back(tensor); });
  std::size_t at = 0;
  dropping.visit([&](const std::string&, Tensor& tensor, const Shape&) { tensor = values[at++]; });
  nn::Linear layer(16, 48, ops::WeightLayout::kInOut, true);
  network_.visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
    const auto take = [&](const std::string& own, Tensor& place, const Shape&) {
      if (own == name) place = tensor;
    };
    layer.visit("h.0.attn.c_attn.", take);
  });
  const std::int64_t rows = 6;
  const Tensor x = test::random_tensor({rows, 16}, 3);
  Arena arena;
  nn::Context context{arena, {}};
  context.dropout = {.seed = 5, .on = true};
  const ops::Dropout mask = nn::DropoutState(context.dropout).take(0.5f);
  Tensor dropped = Tensor::empty(x.shape());
  ops::dropout(x, mask, {}, dropped);
  Tensor z = Tensor::empty({rows, 48});
  ops::linear(x, layer.weight(), {.bias = layer.bias()}, z, arena);
  const Tensor base = z.clone();
  const TensorView y = dropping.linear({0, nn::LinearPlace::kAttnCAttn})->output(context, layer, x, z);
  const std::vector<double> norms = lengths(0);
  const float *a = values[0].data<float>(), *b = values[1].data<float>(), *m = values[2].data<float>();
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t o = 0; o < 48; ++o) {
      double of_base = 0, product = 0;
      for (std::int64_t i = 0; i < 16; ++i) {
        const auto d = static_cast<double>(dropped.data<float>()[r * 16 + i]);
        of_base += d * static_cast<double>(layer.weight().values.data<float>()[i * 48 + o]);
        for (std::int64_t k = 0; k < 3; ++k)
          product += d * static_cast<double>(a[k * 16 + i]) * static_cast<double>(b[o * 3 + k]);
      }
      const double factor = static_cast<double>(m[o]) / norms[static_cast<std::size_t>(o)];
      const double expected = static_cast<double>(base.data<float>()[r * 48 + o]) + (factor - 1) * of_base +
                              factor * config.scaling() * product;
      EXPECT_NEAR(y.data<float>()[r * 48 + o], expected, 1e-5);
    }
}

// The slope of the loss along the gradient of magnitudes, which no definition takes for constants, is its length; and all gradients
// are those of blocks that are computed again.
TEST_F(Dora, HasTheGradientsOfWhatItDrops) {
  LoraConfig config = adapter_->config();
  config.lora_dropout = 0.5;
  const auto dropping = std::make_shared<LoraAdapter>(network_, config, 1);
  std::vector<Tensor> values;
  adapter_->visit([&](const std::string&, Tensor& tensor, const Shape&) { values.push_back(tensor); });
  std::size_t next = 0;
  dropping->visit([&](const std::string&, Tensor& tensor, const Shape&) { tensor = values[next++]; });
  network_.attach(dropping);
  const auto ids = tokens(20);
  const LabelledSequence sequence{ids};
  const Parameters parameters(*dropping);
  Tape tape;
  parameters.watch(tape);
  const auto loss = [&](Tape* on, bool recomputed) {
    Arena arena;
    const double sum =
        language_model_loss(network_, {&sequence, 1}, arena,
                            {.tape = on, .dropout = DropoutSeed{3, 0}, .gradient_checkpointing = recomputed})
            .sum;
    if (on != nullptr) tape.backward();
    return sum;
  };
  loss(&tape, true);
  std::vector<Tensor> recomputed;
  for (const Parameter& p : parameters.all()) {
    recomputed.push_back(Tensor::empty(p.gradient.shape()));
    std::ranges::copy(p.gradient.span<float>(), recomputed.back().data<float>());
    ops::zero(p.gradient);
  }
  loss(&tape, false);
  for (std::size_t i = 0; i < recomputed.size(); ++i) {
    const Parameter& p = parameters.all()[i];
    EXPECT_TRUE(test::same_bits(p.gradient, recomputed[i])) << p.name;
    if (!p.name.ends_with("lora_magnitude_vector")) continue;
    double squares = 0;
    for (const float g : p.gradient.span<float>()) squares += static_cast<double>(g) * static_cast<double>(g);
    const double length = std::sqrt(squares);
    const std::vector<float> at(p.value.span<float>().begin(), p.value.span<float>().end());
    const auto moved = [&](double by) {
      for (std::size_t j = 0; j < at.size(); ++j)
        p.value.span<float>()[j] = static_cast<float>(
            static_cast<double>(at[j]) + by * static_cast<double>(p.gradient.span<float>()[j]) / length);
      return loss(nullptr, false);
    };
    const auto slope = [&](double h) { return (moved(h) - moved(-h)) / (2 * h); };
    constexpr double h = 1.0 / 64;  // exact to h^4; a loss of some hundred nats is known to about 1e-5
    EXPECT_NEAR((4 * slope(h) - slope(2 * h)) / 3, length, 2e-3 * length + 2e-3) << p.name;
    std::ranges::copy(at, p.value.span<float>().begin());
  }
}

}  // namespace
}  // namespace gpt
