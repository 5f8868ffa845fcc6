// Methods whose adapters can become part of the network, and what is particular to each.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/io/safetensors.h"
#include "gpt/models/quantize.h"
#include "gpt/peft/load_adapter.h"
#include "gpt/peft/merge.h"
#include "peft/methods.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using test::learned_adapter;
using test::logits_with;
using test::Method;
using test::random_network;
using test::same_bits;
using test::tiny_config;
using test::tokens;

double difference(const Tensor& a, const Tensor& b) {
  double largest = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i)
    largest = std::max(largest, static_cast<double>(std::abs(a.data<float>()[i] - b.data<float>()[i])));
  return largest;
}

std::vector<Method> mergeable() {
  std::vector<Method> all = test::methods();
  std::erase_if(all, [](const Method& m) {
    return m.name != "lora" && m.name != "dora" && m.name != "adalora" && m.name != "ia3" &&
           m.name != "bitfit";
  });
  return all;
}

class Mergeable : public ::testing::TestWithParam<Method> {};

INSTANTIATE_TEST_SUITE_P(Peft, Mergeable, ::testing::ValuesIn(mergeable()),
                         [](const auto& method) { return method.param.name; });

// Merged, a weight is rounded once more: 2^-24 of about 1, for some thirty products of size 1 in a row of two layers.
TEST_P(Mergeable, ComputesTheSameWhenMerged) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Gpt2 network = random_network(tiny_config(), 1, dtype);
    const auto adapter = learned_adapter(GetParam(), network, 1);
    const auto ids = tokens(20);
    const Tensor attached = logits_with(network, adapter.get(), ids, 20),
                 before = logits_with(network, nullptr, ids, 20);
    EXPECT_GT(difference(attached, before), 1e-2);
    for (const bool packed : {false, true}) {
      if (packed) network.pack();
      Originals originals = merge_adapter(*adapter, network);
      EXPECT_LT(difference(logits_with(network, nullptr, ids, 20), attached), 1e-4);
      restore(network, std::move(originals));
      EXPECT_TRUE(same_bits(before, logits_with(network, nullptr, ids, 20)));
    }
  }
}

TEST_P(Mergeable, IsMergedIntoItsOwnNetworkAlone) {
  Gpt2Config other = tiny_config();
  other.n_layer = 3;
  Gpt2 larger = random_network(other, 1), network = random_network(tiny_config(), 1);
  const auto adapter = learned_adapter(GetParam(), network, 1);
  expect_error<ArgumentError>([&] { merge_adapter(*adapter, larger); }, {"another shape"});
  quantize(network, {});
  const auto ids = tokens(9);
  const Tensor attached = logits_with(network, adapter.get(), ids, 9);
  if (GetParam().name != "bitfit") {
    expect_error<UnsupportedError>([&] { merge_adapter(*adapter, network); }, {"h.0.attn", "quantized"});
    return;
  }
  merge_adapter(*adapter, network);
  // Where a sum's last bit is another, an activation may be rounded to the next of 2^16 steps.
  EXPECT_LT(difference(logits_with(network, nullptr, ids, 9), attached), 1e-3);
}

TEST(LoraWithDora, BeginsAsTheNetworkAndKeepsTheLengthsItHas) {
  Gpt2 network = random_network(tiny_config(), 1);
  const LoraAdapter fresh(network, {.r = 4, .target_modules = {"all-linear"}, .use_dora = true}, 7);
  const auto ids = tokens(20);
  EXPECT_LT(difference(logits_with(network, &fresh, ids, 20), logits_with(network, nullptr, ids, 20)), 1e-5);
  const auto learned = learned_adapter(test::methods()[3], network, 2);
  std::map<std::string, Tensor> lengths;
  learned->visit([&](const std::string& name, Tensor& tensor, const Shape&) {
    if (name.ends_with("lora_magnitude_vector")) lengths.emplace(name, tensor.clone());
  });
  ASSERT_EQ(lengths.size(), 8u);
  merge_adapter(*learned, network);
  network.visit_matrices([&](const std::string& name, const ops::Weight& weight) {
    const auto found =
        lengths.find("base_model.model.transformer." +
                     name.substr(0, name.size() - std::string("weight").size()) + "lora_magnitude_vector");
    if (found == lengths.end()) return;
    for (std::int64_t o = 0; o < weight.out; ++o) {
      double squares = 0;
      for (std::int64_t i = 0; i < weight.in; ++i)
        squares += std::pow(static_cast<double>(weight.values.data<float>()[i * weight.out + o]), 2);
      EXPECT_NEAR(std::sqrt(squares), std::abs(found->second.data<float>()[o]), 1e-5) << name;
    }
  });
}

TEST(Lora, TakesRanksAndScalesOfPatterns) {
  const test::TempDir dir;
  const Gpt2 network = random_network(tiny_config(), 1);
  LoraConfig config{.r = 4, .target_modules = {"c_attn", "c_proj"}};
  config.rank_pattern = {{"mlp.c_proj", 2}, {"transformer.h.1.attn.c_attn", 7}};
  config.alpha_pattern = {{"c_attn", 16}};
  LoraAdapter adapter(network, config, 1);
  std::map<std::string, Shape> shapes;
  adapter.visit([&](const std::string& name, Tensor&, const Shape& shape) { shapes.emplace(name, shape); });
  const std::string prefix = "base_model.model.transformer.h.";
  EXPECT_EQ(shapes.at(prefix + "0.attn.c_attn.lora_A.weight"), (Shape{4, 16}));
  EXPECT_EQ(shapes.at(prefix + "1.attn.c_attn.lora_A.weight"), (Shape{7, 16}));
  EXPECT_EQ(shapes.at(prefix + "1.attn.c_proj.lora_A.weight"), (Shape{4, 16}));
  EXPECT_EQ(shapes.at(prefix + "0.mlp.c_proj.lora_B.weight"), (Shape{16, 2}));
  adapter.save(dir / "adapter");
  const auto loaded = LoraAdapter::load(network, dir / "adapter");
  EXPECT_EQ(loaded->config().rank_pattern, config.rank_pattern);
  EXPECT_EQ(loaded->config().alpha_pattern, config.alpha_pattern);
  EXPECT_EQ(loaded->describe(), adapter.describe());
  config.rank_pattern = {{"c_attn", 0}};
  expect_error<ArgumentError>([&] { LoraAdapter(network, config, 1); }, {"r is 0"});
}

TEST(Ia3, HasPeftsNamesAndShapesAndRefusesWhatItCannotBe) {
  const test::TempDir dir;
  const Gpt2 network = random_network(tiny_config(), 1);
  const Ia3Adapter adapter(network, {});
  const auto ids = tokens(20);
  EXPECT_LT(difference(logits_with(network, &adapter, ids, 20), logits_with(network, nullptr, ids, 20)),
            1e-5);
  adapter.save(dir / "adapter");
  const SafetensorsFile file(dir / "adapter" / "adapter_model.safetensors");
  EXPECT_EQ(file.names().size(), 4u);
  EXPECT_EQ(file.info("base_model.model.transformer.h.0.attn.c_attn.ia3_l").shape, (Shape{48, 1}));
  EXPECT_EQ(file.info("base_model.model.transformer.h.1.mlp.c_proj.ia3_l").shape, (Shape{1, 64}));
  expect_error<ArgumentError>([&] { Ia3Adapter(network, {.target_modules = {"q_proj"}}); }, {"q_proj"});
  expect_error<ArgumentError>([&] { Ia3Adapter(network, {.target_modules = {"c_attn"}}); },
                              {"mlp.c_proj", "none of target_modules"});
}

TEST(Bottleneck, ChangesNothingAtFirstAndRefusesWhatItCannotBe) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const BottleneckAdapter adapter(network, {.bottleneck_size = 4});
  const auto ids = tokens(20);
  EXPECT_LT(difference(logits_with(network, &adapter, ids, 20), logits_with(network, nullptr, ids, 20)),
            1e-5);
  expect_error<ArgumentError>([&] { BottleneckAdapter(network, {.bottleneck_size = 0}); },
                              {"bottleneck_size is 0"});
  expect_error<ArgumentError>([&] { BottleneckAdapter(network, {.non_linearity = ops::Activation::kNone}); },
                              {"non_linearity"});
}

TEST(StackedAdapter, ComputesWhatItsPartsDoOneAfterTheOther) {
  Gpt2 network = random_network(tiny_config(), 1);
  const auto all = test::methods();
  const auto find = [&](const char* name) {
    return learned_adapter(*std::ranges::find_if(all, [&](const Method& m) { return m.name == name; }),
                           network, 4);
  };
  // Also where IA3 scales what goes in: what stands behind it sees another input than what stands before.
  const Method everywhere{"lora", [](const Gpt2& n, std::uint64_t seed) {
                            return test::made<LoraAdapter>(
                                n, seed, LoraConfig{.r = 4, .target_modules = {"all-linear"}});
                          }};
  const auto lora = learned_adapter(everywhere, network, 4), ia3 = find("ia3"), bitfit = find("bitfit");
  const auto ids = tokens(20);
  for (const std::vector<std::shared_ptr<nn::Adapter>>& order :
       {std::vector{lora, ia3, bitfit}, {bitfit, ia3, lora}, {ia3, lora, ia3}}) {
    std::vector<StackedAdapter::Part> parts;
    for (const auto& adapter : order) parts.push_back({adapter});
    const StackedAdapter stacked(parts);
    const Tensor attached = logits_with(network, &stacked, ids, 20);
    std::vector<Originals> originals;
    for (const auto& adapter : order) originals.push_back(merge_adapter(*adapter, network));
    EXPECT_LT(difference(logits_with(network, nullptr, ids, 20), attached), 1e-4);
    for (; !originals.empty(); originals.pop_back()) restore(network, std::move(originals.back()));
  }
  const StackedAdapter weighted({{lora, 0.5}, {ia3, 0.75}, {bitfit, -1.5}});
  const Tensor attached = logits_with(network, &weighted, ids, 20),
               before = logits_with(network, nullptr, ids, 20);
  for (const bool packed : {false, true}) {
    if (packed) network.pack();
    Originals originals = merge_adapter(weighted, network);
    EXPECT_LT(difference(logits_with(network, nullptr, ids, 20), attached), 1e-4);
    restore(network, std::move(originals));
    EXPECT_TRUE(same_bits(before, logits_with(network, nullptr, ids, 20)));
  }
  const StackedAdapter part_way({{lora}, {find("bottleneck")}});
  expect_error<UnsupportedError>([&] { merge_adapter(part_way, network); }, {"cannot be part"});
  EXPECT_TRUE(same_bits(before, logits_with(network, nullptr, ids, 20)));
  // One part of weight 1 is that part, and a part of weight 0 is none.
  EXPECT_TRUE(same_bits(
      logits_with(network, ia3.get(), ids, 20),
      logits_with(network, std::make_unique<StackedAdapter>(std::vector<StackedAdapter::Part>{{ia3}}).get(),
                  ids, 20)));
  const StackedAdapter none({{ia3, 0.0}, {lora, 0.0}, {bitfit, 0.0}});
  EXPECT_LT(difference(logits_with(network, &none, ids, 20), logits_with(network, nullptr, ids, 20)), 1e-5);
}

// Its lengths are those of the network's own matrices, and its factors leave the network's own biases alone, whatever stands before.
TEST(StackedAdapter, IsMergedWithDoraBehindOtherParts) {
  Gpt2 network = random_network(tiny_config(), 1);
  const auto all = test::methods();
  const auto find = [&](const char* name, std::uint64_t seed) {
    return learned_adapter(*std::ranges::find_if(all, [&](const Method& m) { return m.name == name; }),
                           network, seed);
  };
  const auto dora = find("dora", 4), other = find("dora", 5), ia3 = find("ia3", 4),
             bitfit = find("bitfit", 4), lora = find("lora", 4);
  const auto nested =
      std::make_shared<StackedAdapter>(std::vector<StackedAdapter::Part>{{lora, 0.5}, {dora, 0.5}});
  const auto ids = tokens(20);
  using Parts = std::vector<StackedAdapter::Part>;
  for (const bool packed : {false, true}) {
    if (packed) network.pack();
    const Tensor before = logits_with(network, nullptr, ids, 20);
    for (const Parts& parts : {Parts{{bitfit, 2}, {dora, 0.7}}, Parts{{ia3}, {dora}}, Parts{{dora}, {other}},
                               Parts{{bitfit}, {nested, 0.5}, {other}}, Parts{{lora}, {dora}, {bitfit}}}) {
      const StackedAdapter stacked(parts);
      const Tensor attached = logits_with(network, &stacked, ids, 20);
      Originals originals = merge_adapter(stacked, network);
      EXPECT_LT(difference(logits_with(network, nullptr, ids, 20), attached), 1e-4);
      restore(network, std::move(originals));
      EXPECT_TRUE(same_bits(before, logits_with(network, nullptr, ids, 20)));
    }
  }
}

TEST(MergeAdapter, RefusesNumbersThatAreNone) {
  Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(9);
  const Tensor before = logits_with(network, nullptr, ids, 9);
  for (const Method& method : mergeable()) {
    const auto adapter = learned_adapter(method, network, 1);
    adapter->visit([](const std::string&, Tensor& tensor, const Shape&) { tensor.data<float>()[0] = NAN; });
    expect_error<NumericError>([&] { merge_adapter(*adapter, network); }, {"is nan"});
    const StackedAdapter stacked({{adapter}});
    expect_error<NumericError>([&] { merge_adapter(stacked, network); }, {"adapters.0.", "is nan"});
  }
  EXPECT_TRUE(same_bits(before, logits_with(network, nullptr, ids, 9)));
}

TEST(LoadAdapter, SaysHowManyLayersTheNetworkHas) {
  const test::TempDir dir;
  Gpt2Config deep = tiny_config();
  deep.n_layer = 6;
  const Gpt2 larger = random_network(deep, 1), network = random_network(tiny_config(), 1);
  BitFitAdapter(larger).save(dir / "adapter");
  expect_error<FormatError>([&] { load_adapter(network, dir / "adapter"); },
                            {"h.2.", "belongs to no part", "for a network with 2 layers"});
}

TEST(StackedAdapter, RefusesWhatCannotStandTogether) {
  const Gpt2 network = random_network(tiny_config(), 1);
  Gpt2Config other = tiny_config();
  other.n_layer = 3;
  const Gpt2 larger = random_network(other, 1);
  const auto lora = test::methods()[0].fresh(network, 1), prompt = test::methods()[1].fresh(network, 1),
             foreign = test::methods()[0].fresh(larger, 1);
  using Parts = std::vector<StackedAdapter::Part>;
  expect_error<ArgumentError>([&] { StackedAdapter(Parts{}); }, {"no parts"});
  expect_error<ArgumentError>([&] { StackedAdapter(Parts{{lora}, {nullptr}}); }, {"part 1 is null"});
  expect_error<ArgumentError>(
      [&] {
        StackedAdapter(Parts{{lora}, {foreign}});
      },
      {"part 1", "another network"});
  expect_error<ArgumentError>([&] { StackedAdapter(Parts{{lora, NAN}}); }, {"weight of part 0"});
  expect_error<ArgumentError>([&] { StackedAdapter(Parts{{prompt, 0.5}}); }, {"expected 1"});
  expect_error<ArgumentError>([&] { StackedAdapter(Parts{{prompt}, {prompt}}); }, {"one at most"});
}

}  // namespace
}  // namespace gpt
