// Leaving out heads: what is left computes what it computed without them, and the loss tells which are missed least.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/io/hf_config.h"
#include "gpt/io/safetensors.h"
#include "gpt/models/gguf.h"
#include "gpt/models/language_model_loss.h"
#include "gpt/models/llmc.h"
#include "gpt/models/prune.h"
#include "gpt/models/quantize.h"
#include "gpt/peft/lora.h"
#include "gpt/peft/prompt_tuning.h"
#include "models/tiny_models.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using test::random_network;
using test::same_bits;
using test::tokens;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::Pair;

/// Three layers of four heads of five features.
Gpt2Config four_heads() {
  Gpt2Config config = test::tiny_config();
  config.n_layer = 3;
  config.n_head = 4;
  config.n_embd = 20;
  return config;
}

const std::vector<HeadId> kSome{{0, 1}, {2, 3}, {0, 3}};

/// Multiplies the rows of c_proj that belong to a head, so that what it gives is as much more, or nothing.
void scale_head(Gpt2& network, HeadId id, float factor) {
  const std::int64_t dim = network.config().head_dim();
  network.visit_matrices([&](const std::string& name, ops::Weight& weight) {
    if (name != concat("h.", id.layer, ".attn.c_proj.weight")) return;
    weight.values = weight.values.clone();
    const auto all = weight.values.span<float>();
    for (float& w : all.subspan(static_cast<std::size_t>(id.head * dim * weight.out),
                                static_cast<std::size_t>(dim * weight.out)))
      w *= factor;
  });
}

Tensor all_logits(const Gpt2& network, const std::vector<TokenId>& ids, bool cached) {
  nn::KvCache cache = network.make_cache();
  Arena arena;
  const Chunk chunk{ids, cached ? &cache : nullptr};
  const TensorView logits = network.forward({&chunk, 1}, arena, {.logits = LogitsRows::kAll}).logits;
  Tensor copy = Tensor::empty(logits.shape());
  std::copy_n(logits.data<float>(), logits.numel(), copy.data<float>());
  return copy;
}

// A head whose rows of c_proj are zero adds nothing to any sum, to the last bit.
TEST(WithoutHeads, ComputesWhatTheOthersCompute) {
  const Gpt2 network = random_network(four_heads(), 1);
  const Gpt2 narrow = without_heads(network, kSome);
  EXPECT_THAT(narrow.config().pruned_heads,
              ElementsAreArray({Pair(0, ElementsAreArray({1, 3})), Pair(2, ElementsAreArray({3}))}));
  Gpt2 silent = network;
  for (const HeadId& id : kSome) scale_head(silent, id, 0);
  const auto ids = tokens(20);
  for (const bool cached : {false, true})
    EXPECT_TRUE(same_bits(all_logits(narrow, ids, cached), all_logits(silent, ids, cached)));
  Arena memory;
  const Chunk whole{ids};
  const Tensor all = all_logits(silent, ids, false);
  EXPECT_TRUE(same_bits(ConstTensorView(all.data<float>() + 19 * 97, {1, 97}),
                        narrow.forward({&whole, 1}, memory).logits));
  EXPECT_FALSE(same_bits(all_logits(narrow, ids, false), all_logits(network, ids, false)));
  // Nor does a cache have room for it.
  const auto left = 4 * network.config().n_layer - std::ssize(kSome);
  EXPECT_EQ(narrow.make_cache().nbytes() * static_cast<std::size_t>(4 * network.config().n_layer),
            network.make_cache().nbytes() * static_cast<std::size_t>(left));
  nn::KvCache other = network.make_cache();
  Arena arena;
  const Chunk chunk{ids, &other};
  EXPECT_THROW(narrow.forward({&chunk, 1}, arena), ArgumentError);
  // Numbers stay what they were.
  const HeadId more[] = {{0, 2}};
  const Gpt2 narrower = without_heads(narrow, more);
  scale_head(silent, {0, 2}, 0);
  EXPECT_TRUE(same_bits(all_logits(narrower, ids, false), all_logits(silent, ids, false)));
  EXPECT_THAT(narrower.config().pruned_heads.at(0), ElementsAreArray({1, 2, 3}));
}

TEST(WithoutHeads, IsTheSamePackedAndWithoutSomeLayers) {
  const Gpt2 network = random_network(four_heads(), 1, DType::bf16);
  Gpt2 packed = network;
  packed.pack();
  const Gpt2 narrow = without_heads(network, kSome);
  const auto ids = tokens(12);
  EXPECT_TRUE(same_bits(all_logits(narrow, ids, true), all_logits(without_heads(packed, kSome), ids, true)));
  const std::int64_t first[] = {1};
  const Gpt2 shorter = without_layers(narrow, first);
  EXPECT_THAT(shorter.config().pruned_heads,
              ElementsAreArray({Pair(0, ElementsAreArray({1, 3})), Pair(1, ElementsAreArray({3}))}));
  const HeadId of_shorter[] = {{0, 1}, {0, 3}, {1, 3}};
  EXPECT_TRUE(same_bits(all_logits(shorter, ids, false),
                        all_logits(without_heads(without_layers(network, first), of_shorter), ids, false)));
}

TEST(WithoutHeads, IsSavedAsTransformersHasIt) {
  const test::TempDir directory;
  Model model = test::model_of(four_heads());
  const auto ids = tokens(12);
  model.network() = without_heads(model.network(), kSome);
  model.save(directory / "narrow");
  const Model loaded = Model::load(directory / "narrow");
  EXPECT_TRUE(same_bits(all_logits(model.network(), ids, false), all_logits(loaded.network(), ids, false)));
  const HfConfig config = HfConfig::load(directory / "narrow" / "config.json");
  EXPECT_EQ(config.get_int("n_head"), 4);
  EXPECT_THAT(*config.get_object("pruned_heads")->get_int_list("0"), ElementsAreArray({1, 3}));
  const SafetensorsFile file(directory / "narrow" / "model.safetensors");
  for (const auto& [name, shape] : {std::pair<std::string, Shape>("h.0.attn.c_attn.weight", {20, 30}),
                                    {"h.0.attn.c_attn.bias", {30}},
                                    {"h.0.attn.c_proj.weight", {10, 20}},
                                    {"h.1.attn.c_attn.weight", {20, 60}},
                                    {"h.2.attn.c_proj.weight", {15, 20}}})
    EXPECT_EQ(file.info(file.contains(name) ? name : "transformer." + name).shape, shape) << name;
  EXPECT_THAT(test::message_of<UnsupportedError>([&] { save_gguf(model, directory / "narrow.gguf"); }),
              HasSubstr("pruned_heads"));
  EXPECT_THAT(
      test::message_of<UnsupportedError>([&] { save_llmc(model, directory / "narrow.bin", DType::f32); }),
      HasSubstr("pruned_heads"));
}

TEST(WithoutHeads, TakesAdaptersOfItsOwn) {
  const Gpt2 network = random_network(four_heads(), 1);
  Gpt2 narrow = without_heads(network, kSome), plain = network;
  const auto adapter = std::make_shared<LoraAdapter>(narrow, LoraConfig{.target_modules = {"all-linear"}}, 3);
  adapter->visit([](const std::string&, Tensor& tensor, const Shape&) {
    for (float& x : tensor.span<float>()) x += 0.1f;
  });
  const auto ids = tokens(9);
  const Tensor before = all_logits(narrow, ids, false);
  narrow.attach(adapter);
  const Tensor with = all_logits(narrow, ids, false);
  EXPECT_FALSE(same_bits(before, with));
  narrow.attach(nullptr);
  adapter->merge(narrow);
  const Tensor merged = all_logits(narrow, ids, false);
  for (std::int64_t i = 0; i < with.numel(); ++i)
    ASSERT_NEAR(with.data<float>()[i], merged.data<float>()[i], 1e-3f);
  expect_error<ArgumentError>([&] { plain.attach(adapter); }, {"pruned_heads"});
  expect_error<UnsupportedError>([&] { PrefixTuning(narrow, {.num_virtual_tokens = 2}); }, {"pruned_heads"});
}

TEST(WithoutHeads, RefusesWhatIsNotThere) {
  Gpt2 network = random_network(four_heads(), 1);
  const auto without = [&](std::vector<HeadId> heads) { return without_heads(network, heads); };
  expect_error<ArgumentError>([&] { without({{0, 4}}); }, {"head 4 of layer 0"});
  expect_error<ArgumentError>([&] { without({{3, 0}}); }, {"layer 3"});
  expect_error<ArgumentError>([&] { without({{1, 2}, {1, 2}}); }, {"head 2 of layer 1 is given twice"});
  expect_error<ArgumentError>([&] { without({{1, 0}, {1, 1}, {1, 2}, {1, 3}}); }, {"all heads of layer 1"});
  quantize(network, {});
  expect_error<UnsupportedError>([&] { without({{1, 0}}); }, {"h.1.attn.c_attn.weight", "quantized"});
  Gpt2 adapted = random_network(four_heads(), 1);
  adapted.attach(std::make_shared<LoraAdapter>(adapted, LoraConfig{}));
  expect_error<UnsupportedError>([&] { without_heads(adapted, kSome); }, {"adapter"});
  expect_error<UnsupportedError>([&] { head_importance(adapted, tokens(9)); }, {"adapter"});
}

// |dL / dm| by differences: L where what one head gives is a little more, and a little less.
TEST(HeadImportance, IsTheSlopeOfTheLossAlongAFactorOfWhatAHeadGives) {
  Gpt2Config config = four_heads();
  config.n_positions = 16;
  const HeadId gone[] = {{1, 0}};
  const Gpt2 network = without_heads(random_network(config, 1), gone);
  const auto text = tokens(40);  // of 17, 17 and 8 tokens, each of which begins with the last one before
  const auto found = head_importance(network, text);
  ASSERT_EQ(found.size(), 11u);
  EXPECT_EQ(found[4].id, (HeadId{1, 1}));
  const auto loss_with = [&](HeadId place, float factor, std::size_t first) {
    Gpt2 changed = network;
    scale_head(changed, place, factor);
    const LabelledSequence sequence{
        std::span(text).subspan(first, std::min<std::size_t>(17, text.size() - first))};
    Arena arena;
    return language_model_loss(changed, {&sequence, 1}, arena).sum;
  };
  for (std::int64_t layer = 0, at = 0; layer < 3; ++layer) {
    std::vector<double> slopes;
    double squares = 0;
    for (std::int64_t place = 0; place < config.n_head - (layer == 1); ++place) {
      double slope = 0;
      constexpr float h = 1.0f / 64;
      for (const std::size_t first : {0u, 16u, 32u})
        slope += std::abs(loss_with({layer, place}, 1 + h, first) - loss_with({layer, place}, 1 - h, first)) /
                 (2 * h);
      slopes.push_back(slope);
      squares += slope * slope;
    }
    // A loss of some 70 nats is known to about 1e-5, over a step of 2^-5; the rest is of the order of h^2.
    for (const double slope : slopes)
      EXPECT_NEAR(found[static_cast<std::size_t>(at++)].importance, slope / std::sqrt(squares), 5e-3)
          << layer;
  }
  expect_error<ArgumentError>([&] { head_importance(network, {}); }, {"0 tokens"});
}

TEST(Gpt2Config, ReadsPrunedHeads) {
  const auto read = [](std::string_view heads) {
    return Gpt2Config::from_hf(HfConfig::parse(
        concat(R"({"model_type": "gpt2", "n_embd": 20, "n_head": 4, "n_layer": 3, "pruned_heads": )", heads,
               "}"),
        "file"));
  };
  const Gpt2Config config = read(R"({"2": [3, 0], "1": []})");
  EXPECT_THAT(config.pruned_heads, ElementsAreArray({Pair(2, ElementsAreArray({0, 3}))}));
  EXPECT_THAT(config.heads_left(2), ElementsAreArray({1, 2}));
  EXPECT_EQ(config.heads_of(2), 2);
  EXPECT_EQ(config.heads_of(0), 4);
  const auto wrong = [&](std::string_view heads, std::initializer_list<std::string_view> parts) {
    expect_error<ArgumentError>([&] { read(heads); }, parts);
  };
  wrong(R"({"3": [1]})", {"layer 3"});
  wrong(R"({"0": [4]})", {"head 4 of layer 0"});
  wrong(R"({"0": [1, 1]})", {"head 1 of layer 0", "once at most"});
  wrong(R"({"0": [0, 1, 2, 3]})", {"leaves layer 0 no head"});
  expect_error<FormatError>([&] { read(R"({"one": [1]})"); }, {"\"one\"", "number of a layer"});
  expect_error<FormatError>([&] { read(R"([1])"); }, {"pruned_heads"});
}

}  // namespace
}  // namespace gpt
