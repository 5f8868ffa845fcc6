// Quantizing networks: what is quantized, how errors are weighed, and what the result computes.
#include "gpt/models/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/core/parallel.h"
#include "gpt/models/model.h"
#include "gpt/ops/quantize.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/random_model.h"
#include "support/random_tensor.h"
#include "support/rounding_upward.h"

namespace gpt {
namespace {

using ops::WeightFormat;
using test::expect_error;
using test::random_network;
using test::same_bits;
using test::tiny_config;
using ::testing::ElementsAreArray;

constexpr ops::QuantizationFormat kInt4{.format = WeightFormat::int4, .group_size = 32};

Tensor logits_of(const Gpt2& network) {
  const std::int64_t ids[] = {3, 34, 65, 2, 90, 11}, mask[] = {1, 1, 1, 1, 1, 1};
  return logits_of_padded(network, ConstTensorView(ids, {1, 6}), ConstTensorView(mask, {1, 6}));
}

Gpt2Config untied_config() {
  Gpt2Config config = tiny_config();
  config.tie_word_embeddings = false;
  config.n_layer = 1;
  return config;
}

std::map<std::string, WeightFormat> formats_of(const Gpt2& network) {
  std::map<std::string, WeightFormat> out;
  network.visit_matrices([&](const std::string& name, const ops::Weight& w) { out[name] = w.format(); });
  return out;
}

/// The network with its quantized matrices written out as float32.
Gpt2 dequantized(Gpt2 network) {
  network.visit_matrices([](const std::string&, ops::Weight& w) {
    if (!w.quantized()) return;
    ops::Weight plain{.in = w.in, .out = w.out, .layout = w.file_layout};
    plain.values = ops::dequantize(w, w.file_layout);
    w = plain;
  });
  return network;
}

TEST(QuantizeModel, TakesAllMatricesButThePositions) {
  Gpt2 network = random_network(untied_config(), 1);
  const std::vector<QuantizedMatrix> report = quantize(network, {.format = kInt4});
  std::vector<std::string> names;
  for (const QuantizedMatrix& m : report) names.push_back(m.name);
  EXPECT_THAT(names, ElementsAreArray({"wte.weight", "h.0.attn.c_attn.weight", "h.0.attn.c_proj.weight",
                                       "h.0.mlp.c_fc.weight", "h.0.mlp.c_proj.weight", "lm_head.weight"}));
  for (const auto& [name, format] : formats_of(network))
    EXPECT_EQ(format, name == "wpe.weight" ? WeightFormat::f32 : WeightFormat::int4) << name;
  EXPECT_EQ(quantize(network, {.format = kInt4}).size(), 0u) << "they are quantized already";
}

TEST(QuantizeModel, DoesNotDependOnTheHostsRounding) {
  const std::vector<TokenId> text{3, 34, 65, 2, 90, 11, 7};  // whose mean squares are no round numbers
  Gpt2 network = random_network(untied_config(), 1), other = network;
  const QuantizeOptions options{.format = kInt4, .calibration = text};
  const auto expected = quantize(network, options);
  const auto got = [&] {
    const test::RoundingUpward host;
    return quantize(other, options);
  }();
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_EQ(got[i].relative_error, expected[i].relative_error) << got[i].name;
  EXPECT_TRUE(same_bits(logits_of(other), logits_of(network)));
}

TEST(QuantizeModel, LeavesEmbeddingsAndFollowsOverrides) {
  Gpt2 network = random_network(untied_config(), 1);
  const ops::QuantizationFormat int8{.format = WeightFormat::int8, .group_size = 0, .weight_only = true};
  quantize(network, {.format = kInt4,
                     .quantize_embeddings = false,
                     .overrides = {{"h.0.mlp.c_fc.weight", int8},
                                   {"h.0.mlp.c_proj.weight", std::nullopt},
                                   {"lm_head.weight", int8}}});
  const auto formats = formats_of(network);
  EXPECT_EQ(formats.at("wte.weight"), WeightFormat::f32);
  EXPECT_EQ(formats.at("lm_head.weight"), WeightFormat::int8);
  EXPECT_EQ(formats.at("h.0.attn.c_attn.weight"), WeightFormat::int4);
  EXPECT_EQ(formats.at("h.0.mlp.c_fc.weight"), WeightFormat::int8);
  EXPECT_EQ(formats.at("h.0.mlp.c_proj.weight"), WeightFormat::f32);
}

// Weight-only arithmetic is that of a float32 matrix with the same values: the bits must agree.
TEST(QuantizeModel, ComputesWithTheDequantizedWeights) {
  for (const bool packed : {false, true})
    for (const Gpt2Config& config : {tiny_config(), untied_config()}) {
      Gpt2 network = random_network(config, 1, DType::bf16);
      if (packed) network.pack();
      quantize(
          network,
          {.format = {
               .format = WeightFormat::int4, .group_size = 32, .symmetric = false, .weight_only = true}});
      EXPECT_TRUE(same_bits(logits_of(network), logits_of(dequantized(network))));
    }
}

TEST(QuantizeModel, ReportsSizesAndErrors) {
  const Gpt2 network = random_network(tiny_config(), 1);
  Gpt2 quantized = network;
  const auto report = quantize(quantized, {.format = kInt4});
  const QuantizedMatrix& m = report.at(1);
  ASSERT_EQ(m.name, "h.0.attn.c_attn.weight");
  EXPECT_EQ(m.format, kInt4);
  EXPECT_EQ(m.bytes_before, 16u * 48 * 4);
  EXPECT_EQ(m.bytes_after, 16u * 48 / 2 + 48 * 2);
  Tensor before, after;
  network.visit_matrices([&](const std::string& name, const ops::Weight& w) {
    if (name == m.name) before = w.values;
  });
  quantized.visit_matrices([&](const std::string& name, const ops::Weight& w) {
    if (name == m.name) after = ops::dequantize(w, w.file_layout);
  });
  double errors = 0, squares = 0;
  for (std::int64_t i = 0; i < before.numel(); ++i) {
    const auto w = static_cast<double>(before.data<float>()[i]);
    errors += std::pow(w - static_cast<double>(after.data<float>()[i]), 2);
    squares += w * w;
  }
  EXPECT_NEAR(m.relative_error, std::sqrt(errors / squares), 1e-12);  // 768 sums in double
}

TEST(QuantizeModel, WeighsErrorsByTheMeanSquaresOfInputs) {
  for (const Gpt2Config& config : {tiny_config(), untied_config()}) {
    const Gpt2 network = random_network(config, 1);
    std::vector<TokenId> text(75);  // two whole sequences of 32 tokens and a rest
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<TokenId>(i * i % 97);
    // The same sums, over the logits of all tokens.
    std::map<const ops::Weight*, std::vector<double>> squares;
    for (std::size_t at = 0; at < text.size(); at += 32) {
      Arena arena;
      const std::span<const TokenId> ids =
          std::span(text).subspan(at, std::min<std::size_t>(32, text.size() - at));
      nn::KvCache cache = network.make_cache();
      const Chunk chunk{ids, &cache};
      network.forward(
          {&chunk, 1}, arena,
          {.logits = LogitsRows::kAll, .on_product = [&](const ops::Weight& w, ConstTensorView x) {
             ASSERT_EQ(x.shape(), (Shape{static_cast<std::int64_t>(ids.size()), w.in}));
             std::vector<double>& sums = squares[&w];
             sums.resize(static_cast<std::size_t>(w.in));
             for (std::int64_t i = 0; i < x.numel(); ++i) {
               const auto v = static_cast<double>(x.data<float>()[i]);
               sums[static_cast<std::size_t>(i % w.in)] += v * v;
             }
           }});
    }
    ASSERT_EQ(squares.size(), static_cast<std::size_t>(4 * config.n_layer + 1));
    for (const int threads : {1, 3}) {
      const ThreadLimit limit(threads);
      Gpt2 quantized = network;
      quantize(quantized, {.format = kInt4, .calibration = text});
      std::map<std::string, const ops::Weight*> results;
      quantized.visit_matrices([&](const std::string& name, const ops::Weight& w) { results[name] = &w; });
      network.visit_matrices([&](const std::string& name, const ops::Weight& w) {
        if (name == "wpe.weight") return;
        std::vector<float> importance;
        if (squares.contains(&w))
          for (const double s : squares.at(&w)) importance.push_back(static_cast<float>(s / 75.0));
        const ops::Weight expected = ops::quantize(name, w, kInt4, importance);
        EXPECT_TRUE(same_bits(results.at(name)->values, expected.values)) << name;
        EXPECT_TRUE(same_bits(results.at(name)->scales, expected.scales)) << name;
      });
    }
  }
}

TEST(QuantizeModel, LeavesTheNetworkAsItWasWhenItIsStopped) {
  Gpt2 network = random_network(tiny_config(), 1);
  const Tensor before = logits_of(network);
  const std::vector<TokenId> text(40, 5);
  std::vector<std::string> seen;
  for (const bool calibrating : {false, true}) {
    std::stop_source source;
    expect_error<CancelledError>(
        [&] {
          quantize(network, {.format = kInt4,
                             .calibration = text,
                             .on_progress =
                                 [&](const QuantizeProgress& p) {
                                   seen.push_back(concat(p.matrix, " ", p.done, "/", p.total));
                                   if (p.matrix.empty() == calibrating) source.request_stop();
                                 },
                             .stop = source.get_token()});
        },
        {});
    EXPECT_TRUE(same_bits(logits_of(network), before));
  }
  EXPECT_THAT(seen, ElementsAreArray({" 32/40", " 40/40", "wte.weight 1/9", " 32/40"}));
}

TEST(QuantizeModel, NamesWhatItRefuses) {
  Gpt2 network = random_network(tiny_config(), 1);
  expect_error<ArgumentError>([&] { quantize(network, {.format = {.group_size = 31}}); },
                              {"group_size is 31"});
  expect_error<ArgumentError>(
      [&] {
        quantize(network, {.overrides = {{"h.7.mlp", kInt4}}});
      },
      {"\"h.7.mlp\""});
  expect_error<ArgumentError>(
      [&] {
        quantize(network, {.overrides = {{"wte.weight", ops::QuantizationFormat{.group_size = 1}}}});
      },
      {"group_size is 1"});
  const std::vector<TokenId> text = {1, 97};
  expect_error<ArgumentError>([&] { quantize(network, {.calibration = text}); }, {"token id 97"});
  network.visit([](const std::string& name, Tensor& t, const Shape&) {
    if (name == "h.1.mlp.c_fc.weight") t.data<float>()[3 * 64 + 5] = std::numeric_limits<float>::quiet_NaN();
  });
  // Whatever the calibration would make of it, and before any work.
  const std::vector<TokenId> good = {1, 2};
  const auto no_progress = [](const QuantizeProgress& p) { ADD_FAILURE() << p.matrix << ' ' << p.done; };
  for (const std::span<const TokenId> calibration : {std::span<const TokenId>(), std::span(good)})
    for (const bool packed : {false, true}) {
      Gpt2 broken = network;
      if (packed) broken.pack();
      expect_error<NumericError>(
          [&] { quantize(broken, {.calibration = calibration, .on_progress = no_progress}); },
          {"[h.1.mlp.c_fc.weight] element [3, 5] is nan, expected a finite number"});
    }
}

/// Mean negative log-likelihood of a text, in sequences of 128 tokens.
double nll(const Gpt2& network, std::span<const TokenId> ids) {
  constexpr std::size_t kLength = 128;
  double sum = 0;
  std::size_t count = 0;
  Arena arena;
  for (std::size_t at = 0; at + kLength < ids.size(); at += kLength) {
    arena.reset();
    nn::KvCache cache = network.make_cache();
    const Chunk chunk{ids.subspan(at, kLength), &cache};
    const ForwardOutput out = network.forward({&chunk, 1}, arena, {.logits = LogitsRows::kAll});
    const std::int64_t v = out.logits.dim(1);
    for (std::size_t t = 0; t < kLength; ++t, ++count) {
      const float* logits = out.logits.data<float>() + static_cast<std::int64_t>(t) * v;
      double total = 0;
      for (std::int64_t i = 0; i < v; ++i) total += std::exp(static_cast<double>(logits[i]));
      sum += std::log(total) - static_cast<double>(logits[ids[at + t + 1]]);
    }
  }
  return sum / static_cast<double>(count);
}

// The bounds are the library's promise for a model this small: perplexity within 0.3 % and 4 % of float32.
TEST(QuantizeModel, KeepsTheQualityOfTheDemoModel) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const Model model = Model::load(std::string(GPT_SOURCE_DIR) + "/examples/models/demo");
  const std::string text = read_text_file(std::string(GPT_SOURCE_DIR) + "/tests/golden/training/corpus.txt");
  const std::vector<TokenId> ids = model.tokenizer().encode(std::string_view(text).substr(150000, 1300));
  const std::vector<TokenId> calibration = model.tokenizer().encode(std::string_view(text).substr(0, 1000));
  ASSERT_GT(ids.size(), 128u * 3);
  const double expected = nll(model.network(), ids);
  const auto excess = [&](const ops::QuantizationFormat& f, std::span<const TokenId> text_ids) {
    Gpt2 network = model.network();
    quantize(network, {.format = f, .calibration = text_ids});
    return std::exp(nll(network, ids) - expected) - 1.0;
  };
  EXPECT_LT(excess({.format = WeightFormat::int8, .group_size = 64}, {}), 0.003);
  EXPECT_LT(excess({.format = WeightFormat::int4, .group_size = 32}, {}), 0.04);
  EXPECT_LT(excess({.format = WeightFormat::int4, .group_size = 64}, calibration), 0.04);
}

}  // namespace
}  // namespace gpt
