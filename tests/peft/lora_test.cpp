// Low-rank adapters: what they compute, alone and beside others; their files. Their values are compared with PyTorch's by
// golden_check.
#include "gpt/peft/lora.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/io/safetensors.h"
#include "gpt/models/quantize.h"
#include "models/tiny_models.h"
#include "peft/adapted_runs.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using test::logits_with;
using test::random_lora;
using test::random_network;
using test::same_bits;
using test::tiny_config;
using test::tokens;

const std::vector<std::string> kAll{"all-linear"};

double largest_difference(const Tensor& a, const Tensor& b) {
  double largest = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i)
    largest = std::max(largest, static_cast<double>(std::abs(a.data<float>()[i] - b.data<float>()[i])));
  return largest;
}

TEST(LoraAdapter, ChangesNothingBeforeItIsTrained) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const LoraAdapter fresh(network, {.r = 4, .target_modules = kAll}, 7);
  const auto ids = tokens(20);
  const Tensor with = logits_with(network, &fresh, ids, 20);
  // x + 0 is x, but the order of bias, product and residual is another one.
  EXPECT_LT(largest_difference(with, logits_with(network, nullptr, ids, 20)), 1e-5);
}

TEST(LoraAdapter, GivesEachSequenceTheBitsItHasAlone) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto a = random_lora(network, {.r = 4, .target_modules = kAll}, 1),
             b = random_lora(network, {.r = 3, .target_modules = {"c_attn", "c_fc"}}, 2);
  struct Row {
    std::vector<TokenId> ids;
    const nn::Adapter* adapter;
  };
  // Neighbours with the same adapter, and with different ones.
  const std::vector<Row> rows{{tokens(7), a.get()},      {tokens(5, 40), a.get()},  {tokens(1, 50), nullptr},
                              {tokens(20, 11), b.get()}, {tokens(32, 90), a.get()}, {tokens(3, 8), b.get()}};
  std::vector<nn::KvCache> caches;
  std::vector<Chunk> batch;
  for (std::size_t i = 0; i < rows.size(); ++i) caches.push_back(network.make_cache());
  for (std::size_t i = 0; i < rows.size(); ++i) batch.push_back({rows[i].ids, &caches[i], rows[i].adapter});
  Arena arena;
  const TensorView logits = network.forward(batch, arena, {.logits = LogitsRows::kAll}).logits;
  std::int64_t row = 0;
  for (const Row& r : rows) {
    for (const std::size_t step : {std::size_t{1}, std::size_t{5}, r.ids.size()}) {
      const Tensor alone = logits_with(network, r.adapter, r.ids, step);
      const ConstTensorView part(logits.data<float>() + row * 97, alone.shape());
      EXPECT_TRUE(same_bits(alone, part)) << "row " << row << " in chunks of " << step;
    }
    row += static_cast<std::int64_t>(r.ids.size());
  }
  const auto ids = tokens(9);
  EXPECT_FALSE(same_bits(logits_with(network, a.get(), ids, 9), logits_with(network, b.get(), ids, 9)));
  EXPECT_FALSE(same_bits(logits_with(network, a.get(), ids, 9), logits_with(network, nullptr, ids, 9)));
}

TEST(LoraAdapter, GivesTheSameBitsOnAnyNumberOfThreads) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  Gpt2Config config = tiny_config();
  config.n_embd = 256;
  const Gpt2 network = random_network(config, 1);
  const auto adapter = random_lora(network, {.r = 8, .target_modules = kAll}, 3);
  const auto ids = tokens(32);
  set_num_threads(1);
  const Tensor one = logits_with(network, adapter.get(), ids, 32);
  set_num_threads(3);
  EXPECT_TRUE(same_bits(one, logits_with(network, adapter.get(), ids, 32)));
  set_num_threads(0);
}

TEST(LoraAdapter, IsWhatSequencesHaveThatAreGivenNoOther) {
  Gpt2 network = random_network(tiny_config(), 1);
  const auto a = random_lora(network, {.r = 4}, 1), b = random_lora(network, {.r = 4}, 2);
  const auto ids = tokens(9);
  const Tensor without = logits_with(network, nullptr, ids, 9), with = logits_with(network, a.get(), ids, 9),
               other = logits_with(network, b.get(), ids, 9);
  network.attach(a);
  EXPECT_TRUE(same_bits(with, logits_with(network, nullptr, ids, 9)));
  EXPECT_TRUE(same_bits(other, logits_with(network, b.get(), ids, 9)));
  network.attach(nullptr);
  EXPECT_TRUE(same_bits(without, logits_with(network, nullptr, ids, 9)));
}

// Merged, a weight is rounded once more: 2^-24 of about 1, for some thirty products of size 1 in a row of two layers.
TEST(LoraAdapter, ComputesTheSameWhenMerged) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Gpt2 network = random_network(tiny_config(), 1, dtype);
    const auto adapter = random_lora(network, {.r = 4, .target_modules = kAll}, 1);
    const auto ids = tokens(20);
    const Tensor attached = logits_with(network, adapter.get(), ids, 20),
                 before = logits_with(network, nullptr, ids, 20);
    for (const bool packed : {false, true}) {
      if (packed) network.pack();
      auto originals = adapter->merge(network);
      EXPECT_EQ(originals.size(), 8u);
      EXPECT_LT(largest_difference(logits_with(network, nullptr, ids, 20), attached), 1e-4);
      restore(network, std::move(originals));
      EXPECT_TRUE(same_bits(before, logits_with(network, nullptr, ids, 20)));
    }
  }
}

TEST(LoraAdapter, AddsLessOfItselfWithAWeight) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto adapter = random_lora(network, {.r = 4}, 1);
  const auto ids = tokens(9);
  const Tensor without = logits_with(network, nullptr, ids, 9),
               whole = logits_with(network, adapter.get(), ids, 9);
  adapter->set_weight(1e-3);
  const double part = largest_difference(logits_with(network, adapter.get(), ids, 9), without);
  EXPECT_GT(part, 0);
  EXPECT_LT(part, largest_difference(whole, without) / 2);
  adapter->set_weight(0);
  EXPECT_LT(largest_difference(logits_with(network, adapter.get(), ids, 9), without), 1e-5);
  expect_error<ArgumentError>([&] { adapter->set_weight(NAN); }, {"weight is nan"});
}

TEST(LoraAdapter, StandsOnAQuantizedNetworkButIsNotMergedIntoIt) {
  Gpt2 network = random_network(tiny_config(), 1);
  quantize(network, {});
  const auto adapter = random_lora(network, {.r = 4}, 1);
  const auto ids = tokens(9);
  EXPECT_FALSE(same_bits(logits_with(network, adapter.get(), ids, 9), logits_with(network, nullptr, ids, 9)));
  expect_error<UnsupportedError>([&] { adapter->merge(network); }, {"h.0.attn.c_attn.weight", "quantized"});
}

TEST(LoraAdapter, ReadsWhatItHasWritten) {
  const test::TempDir dir;
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto adapter = random_lora(network,
                                   {.r = 5,
                                    .lora_alpha = 2.5,
                                    .lora_dropout = 0.1,
                                    .target_modules = {"c_attn", "mlp.c_proj"},
                                    .use_rslora = true,
                                    .base_model_name_or_path = "tiny"},
                                   1);
  adapter->save(dir / "adapter");
  const SafetensorsFile file(dir / "adapter" / "adapter_model.safetensors");
  EXPECT_EQ(file.names().size(), 8u);
  EXPECT_EQ(file.info("base_model.model.transformer.h.1.mlp.c_proj.lora_A.weight").shape, (Shape{5, 64}));
  EXPECT_EQ(file.info("base_model.model.transformer.h.0.attn.c_attn.lora_B.weight").shape, (Shape{48, 5}));
  std::vector<std::string> warnings;
  const auto loaded = LoraAdapter::load(network, dir / "adapter",
                                        [&](std::string_view text) { warnings.emplace_back(text); });
  EXPECT_THAT(warnings, ::testing::IsEmpty());
  EXPECT_EQ(loaded->describe(), adapter->describe());
  EXPECT_EQ(loaded->config().lora_alpha, 2.5);
  const auto ids = tokens(9);
  EXPECT_TRUE(
      same_bits(logits_with(network, loaded.get(), ids, 9), logits_with(network, adapter.get(), ids, 9)));
}

TEST(LoraAdapter, RefusesANullThatPeftCannotLoad) {
  const test::TempDir dir;
  const Gpt2 network = random_network(tiny_config(), 1);
  random_lora(network, {}, 1)->save(dir / "adapter");
  const HfConfig written = HfConfig::load(dir / "adapter" / "adapter_config.json");
  const auto load_with_null = [&](const char* key) {
    HfConfig config = written;
    config.set_null(key);
    config.save(dir / "adapter" / "adapter_config.json");
    return LoraAdapter::load(network, dir / "adapter");
  };
  for (const char* key : {"r", "lora_alpha", "lora_dropout"})
    expect_error<FormatError>([&] { load_with_null(key); }, {std::string(key) + " is null, expected "});
  for (const char* key : {"target_modules", "rank_pattern", "layers_to_transform", "revision", "eva_config"})
    EXPECT_NO_THROW(load_with_null(key)) << key;
  EXPECT_FALSE(load_with_null("use_rslora")->config().use_rslora);  // null is as good as false
  EXPECT_FALSE(load_with_null("use_dora")->config().use_dora);
}

TEST(LoraAdapter, IsWhatAModelSavesThatHasIt) {
  const test::TempDir dir;
  Model model = test::model_of(tiny_config());
  model.network().attach(random_lora(model.network(), {.r = 4}, 1));
  model.save(dir / "adapter", {.dtype = DType::bf16});
  EXPECT_FALSE(std::filesystem::exists(dir / "adapter" / "model.safetensors"));
  const SafetensorsFile file(dir / "adapter" / "adapter_model.safetensors");
  EXPECT_EQ(file.info(file.names().front()).stored_dtype, "BF16");
}

TEST(LoraAdapter, RefusesWhatItCannotBe) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto wrong = [&](LoraConfig config, std::initializer_list<std::string_view> parts) {
    expect_error<ArgumentError>([&] { LoraAdapter(network, config, 1); }, parts);
  };
  wrong({.r = 0}, {"r is 0", "1 or more"});
  wrong({.r = 49}, {"r is 49", "no more than 48", "h.0.attn.c_attn.weight"});
  wrong({.r = std::int64_t{1} << 62}, {"r is 4611686018427387904", "no more than 48"});
  wrong({.rank_pattern = {{"c_attn", 49}}}, {"r by rank_pattern is 49", "no more than 48"});
  EXPECT_NO_THROW(LoraAdapter(network, {.r = 48}, 1));  // more than its rank can be, as PEFT takes it
  wrong({.lora_alpha = -1}, {"lora_alpha is -1"});
  wrong({.lora_dropout = 1}, {"lora_dropout is 1"});
  wrong({.target_modules = {}}, {"target_modules is empty"});
  wrong({.target_modules = {"c_attn", "q_proj"}}, {"q_proj", "c_attn"});
  wrong({.target_modules = {"attn"}}, {"attn"});
  wrong({.target_modules = {"_attn"}}, {"_attn"});  // no whole part of a name

  Gpt2Config other = tiny_config();
  other.n_layer = 3;
  Gpt2 larger = random_network(other, 1);
  const auto adapter = random_lora(network, {}, 1);
  expect_error<ArgumentError>([&] { larger.attach(adapter); }, {"n_layer = 2", "expected 3"});
  const auto ids = tokens(3);
  const Chunk chunk{ids, nullptr, adapter.get()};
  Arena arena;
  expect_error<ArgumentError>([&] { larger.forward({&chunk, 1}, arena); }, {"adapter of chunk 0"});
  expect_error<ArgumentError>([&] { adapter->merge(larger); }, {"another shape"});
}

class LoraFiles : public ::testing::Test {
 protected:
  LoraFiles() { random_lora(network_, {.r = 4}, 1)->save(dir_ / "adapter"); }
  void set(const std::string& key, const std::string& json) {
    const auto path = dir_ / "adapter" / "adapter_config.json";
    std::string text = test::read_file(path);
    text.replace(text.find('{'), 1, "{\"" + key + "\": " + json + ",");
    std::ofstream(path) << text;
  }
  void load() {
    LoraAdapter::load(network_, dir_ / "adapter", [&](std::string_view w) { warning_ = w; });
  }

  test::TempDir dir_;
  Gpt2 network_ = random_network(tiny_config(), 1);
  std::string warning_;
};

TEST_F(LoraFiles, RefusesKeysThatWouldChangeTheResult) {
  set("layer_replication", "[[0, 2]]");
  expect_error<UnsupportedError>([&] { load(); },
                                 {"adapter_config.json", "layer_replication", "not supported"});
}

TEST_F(LoraFiles, RefusesBeginningsThatChangedTheBaseModel) {
  const auto from = [&](std::string_view value) {
    LoraAdapter::from_config(network_,
                             HfConfig::parse(concat(R"({"init_lora_weights": )", value, "}"), "file"));
  };
  for (const char* value : {"true", "false", "null", "\"gaussian\"", "\"eva\""}) from(value);
  for (const char* value :
       {"\"pissa\"", "\"pissa_niter_4\"", "\"olora\"", "\"loftq\"", "\"corda\"", "\"lora_ga\""})
    expect_error<UnsupportedError>([&] { from(value); },
                                   {"init_lora_weights is", value, "another base model"});
}

TEST_F(LoraFiles, NamesKeysItDoesNotKnow) {
  set("exclude_modules", "null");
  set("peft_version", "\"0.17\"");
  load();
  EXPECT_EQ(warning_, "");
  set("novel_option", "3");
  load();
  EXPECT_THAT(warning_, ::testing::HasSubstr("novel_option"));
}

TEST_F(LoraFiles, NamesTheFileOfAValueOutOfItsRange) {
  set("rank_pattern", "{\"c_attn\": 0}");
  expect_error<FormatError>([&] { load(); }, {"adapter_config.json", "[lora] r is 0", "1 or more"});
}

TEST_F(LoraFiles, RefusesFilesThatAreNotItsOwn) {
  const auto config = dir_ / "adapter" / "adapter_config.json",
             weights = dir_ / "adapter" / "adapter_model.safetensors";
  expect_error<IoError>([&] { LoraAdapter::load(network_, dir_ / "none"); }, {"none"});
  std::filesystem::resize_file(weights, 100);
  expect_error<FormatError>([&] { load(); }, {"adapter_model.safetensors"});
  random_lora(network_, {.r = 4, .target_modules = {"c_fc"}}, 1)->save(dir_ / "other");
  std::filesystem::copy_file(dir_ / "other" / "adapter_model.safetensors", weights,
                             std::filesystem::copy_options::overwrite_existing);
  expect_error<FormatError>([&] { load(); }, {"c_attn.lora_A.weight"});
  std::filesystem::copy_file(dir_ / "other" / "adapter_config.json", config,
                             std::filesystem::copy_options::overwrite_existing);
  Gpt2Config other = tiny_config();
  other.n_inner = 24;
  expect_error<ShapeError>([&] { LoraAdapter::load(random_network(other, 1), dir_ / "adapter"); },
                           {"c_fc.lora_B.weight", "[64, 4]", "[24, 4]"});
  std::ofstream(config) << R"({"peft_type": "IA3"})";
  expect_error<UnsupportedError>([&] { load(); }, {"peft_type is IA3", "LORA"});
  std::ofstream(config) << "{}";
  expect_error<FormatError>([&] { load(); }, {"no peft_type"});
}

}  // namespace
}  // namespace gpt
