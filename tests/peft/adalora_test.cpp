// AdaLoRA's budget, penalty and importance.
#include "gpt/peft/adalora.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/io/safetensors.h"
#include "gpt/models/language_model_loss.h"
#include "gpt/models/model.h"
#include "gpt/train/adamw.h"
#include "gpt/train/parameters.h"
#include "gpt/train/trainer.h"
#include "ops/slopes.h"
#include "peft/methods.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"
#include "train/small_run.h"

namespace gpt {
namespace {

using test::expect_error;
using test::random_network;
using test::tiny_config;

AdaLoraConfig small() {
  return {.init_r = 6, .target_r = 2, .tinit = 4, .tfinal = 5, .delta_t = 3, .target_modules = {"c_attn"}};
}

// The schedule of PEFT's RankAllocator, by hand: int((12 - 4) (1 - (s - 4) / (25 - 5 - 4))^3 + 4).
TEST(AdaLora, HasABudgetThatFalls) {
  const Gpt2 network = random_network(tiny_config(), 1);
  AdaLoraAdapter adapter(network, small(), 1);
  adapter.begin_training(25);
  const std::vector<std::pair<std::int64_t, std::int64_t>> expected{{0, 12}, {4, 12}, {5, 10}, {8, 7},
                                                                    {12, 5}, {16, 4}, {20, 4}, {25, 4}};
  for (const auto& [step, budget] : expected) EXPECT_EQ(adapter.budget(step), budget) << step;
  expect_error<ArgumentError>([&] { adapter.begin_training(9); }, {"tinit is 4", "tfinal 5", "9 updates"});
}

TEST(AdaLora, EndsWithTheRanksOfItsTarget) {
  Model model = test::small_model();
  const auto adapter = std::make_shared<AdaLoraAdapter>(model.network(), small(), 1);
  model.network().attach(adapter);
  TrainingArguments arguments = test::arguments();
  arguments.max_steps = 25;
  std::vector<std::int64_t> ranks{0};
  TrainingCallbacks callbacks;
  callbacks.on_step = [&](const TrainingLog&) { ranks.push_back(adapter->ranks()); };
  Trainer(model, arguments).fit(test::text(300), nullptr, callbacks);
  for (std::int64_t step = 2; step <= 25; ++step) {  // the first has a rate of 0
    const auto now = ranks[static_cast<std::size_t>(step)];
    if (step <= 4 || step >= 20 || step % 3 == 0) {
      EXPECT_EQ(now, step >= 20 ? 4 : adapter->budget(step)) << step;
    }
  }
}

TEST(AdaLora, DrawsItsMatricesTowardsOrthogonality) {
  const Gpt2 network = random_network(tiny_config(), 1);
  AdaLoraAdapter adapter(network, small(), 1);
  std::uint64_t seed = 20;
  adapter.visit([&](const std::string&, Tensor& tensor, const Shape& shape) {
    tensor = test::random_tensor(shape, seed++, DType::f32, 0.3f);
  });
  const Parameters parameters(adapter);
  adapter.add_penalty(parameters.learned());
  // |V V^T - I| of A's rows, or of B's columns; the weight, over two matrices of each of two targets.
  const auto penalty = [](const std::vector<double>& w, std::size_t vectors, std::size_t length, bool rows) {
    double squares = 0;
    for (std::size_t k = 0; k < vectors; ++k)
      for (std::size_t l = 0; l < vectors; ++l) {
        double product = k == l ? -1 : 0;
        for (std::size_t i = 0; i < length; ++i)
          product += rows ? w[k * length + i] * w[l * length + i] : w[i * vectors + k] * w[i * vectors + l];
        squares += product * product;
      }
    return 0.5 / 4 * std::sqrt(squares);
  };
  const auto tensor_of = [](TensorView view) {
    Tensor copy = Tensor::empty(view.shape());
    std::copy_n(view.data<float>(), view.numel(), copy.data<float>());
    return copy;
  };
  for (const Parameter& p : parameters.all()) {
    const Tensor gradient = tensor_of(p.gradient);
    if (p.name.ends_with("lora_E")) {
      for (const float g : gradient.span<float>()) EXPECT_EQ(g, 0);
      continue;
    }
    const bool rows = p.name.ends_with("lora_A");
    test::expect_slopes(
        tensor_of(p.value), gradient,
        [&](const std::vector<double>& w) { return penalty(w, 6, rows ? 16 : 48, rows); }, 4);
  }
}

// Two ranks of one target: by hand, as in the paper's equations 8 to 11.
TEST(AdaLora, KeepsTheRanksThatMatter) {
  Gpt2Config config = tiny_config();
  config.n_layer = 1;
  const Gpt2 network = random_network(config, 1);
  AdaLoraAdapter adapter(
      network, {.init_r = 2, .target_r = 1, .orth_reg_weight = 0, .target_modules = {"attn.c_proj"}}, 1);
  Parameters parameters(adapter);
  const auto fill = [](TensorView t, std::initializer_list<float> by_rank, bool rows) {
    for (std::int64_t i = 0; i < t.numel(); ++i) {
      const std::int64_t rank = rows ? i / t.dim(1) : i % 2;
      t.data<float>()[i] = *(by_rank.begin() + rank);
    }
  };
  adapter.begin_training(3);
  const Parameter &a = parameters.all()[0], &b = parameters.all()[1], &e = parameters.all()[2];
  // Smoothed once, a number is worth (0.15 |w g|) (0.15 0.85 |w g|): of E 16 and 25 times 0.019125, of A 1 and 1, of B 36 and 4.
  fill(a.value, {1, 1}, true);
  fill(a.gradient, {2, 2}, true);
  fill(b.value, {2, 2}, false);
  fill(b.gradient, {-6, 2}, false);
  fill(e.value, {2, -5}, true);
  fill(e.gradient, {4, 2}, true);
  adapter.after_update(parameters.learned(), {.step = 1, .gradient_scale = 0.5});
  EXPECT_EQ(e.value.data<float>()[0], 2);
  EXPECT_EQ(e.value.data<float>()[1], 0);
  adapter.visit_state([&](const std::string& name, Tensor& state, const Shape&) {
    if (!name.ends_with("lora_B")) return;
    const double factor = name.starts_with("exp_avg_ipt.") ? 0.15 : 0.15 * 0.85;
    EXPECT_NEAR(state.data<float>()[0], factor * 6, 1e-6) << name;
    EXPECT_NEAR(state.data<float>()[1], factor * 2, 1e-6) << name;
  });
}

// AdamW on the loss and the penalty, then PEFT's RankAllocator, as generator/make_peft_goldens.py did it in double.
TEST(AdaLora, EndsAShortTrainingAsPeftDoes) {
  const std::filesystem::path folder = std::string(GPT_SOURCE_DIR) + "/tests/golden/models/tiny";
  const Model model = Model::load(folder);
  const auto adapter = AdaLoraAdapter::load(model.network(), folder / "adalora_run");
  Gpt2 network = model.network();
  network.attach(adapter);
  const SafetensorsFile run(folder / "adalora_run" / "run.safetensors");
  const Tensor ids = run.tensor("train_input_ids"), ranks = run.tensor("ranks"),
               losses = run.tensor("train_loss");
  const std::int64_t steps = ids.dim(0), rows = ids.dim(1), length = ids.dim(2);
  Parameters parameters(*adapter);
  AdamW optimizer(parameters, {.adam_epsilon = 1e-8, .weight_decay = 0});
  adapter->begin_training(steps);
  for (std::int64_t step = 0; step < steps; ++step) {
    std::vector<std::vector<TokenId>> texts;
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto* from = ids.data<std::int64_t>() + (step * rows + row) * length;
      texts.emplace_back(from, from + length);
    }
    const std::vector<LabelledSequence> batch{{texts[0]}, {texts[1]}};
    Tape tape;
    parameters.watch(tape);
    parameters.zero_gradients();
    Arena arena;
    const auto count = static_cast<double>(rows * (length - 1));
    const LossSum loss = language_model_loss(network, batch, arena, {.tape = &tape, .scale = 1 / count});
    tape.backward();
    adapter->add_penalty(parameters.learned());
    optimizer.step(static_cast<double>(run.tensor("learning_rate").data<float>()[0]), 1);
    adapter->after_update(parameters.learned(), {.step = step + 1});
    EXPECT_NEAR(loss.mean(), losses.data<float>()[step], 1e-4) << step;
    std::int64_t left = 0;
    for (std::int64_t i = 0; i < ranks.dim(1); ++i)
      left += ranks.data<std::int64_t>()[step * ranks.dim(1) + i];
    EXPECT_EQ(adapter->ranks(), left) << step;
  }
  // Adam makes much of gradients that are nearly zero: as tests/golden_check judges what was trained, here at a rate of 20 times that.
  adapter->visit([&](const std::string& name, Tensor& tensor, const Shape&) {
    const Tensor expected = run.tensor("after." + name);
    ASSERT_EQ(expected.shape(), tensor.shape());
    std::int64_t off = 0;
    for (std::int64_t i = 0; i < tensor.numel(); ++i) {
      const float found = tensor.data<float>()[i], wanted = expected.data<float>()[i];
      EXPECT_EQ(found == 0, wanted == 0) << name << " " << i;
      EXPECT_NEAR(found, wanted, 0.02) << name << " " << i;
      off += std::abs(found - wanted) > 4e-4f;
    }
    EXPECT_LE(off, 1) << name;
  });
}

TEST(AdaLora, ReadsRanksThatPeftHasLeftOut) {
  const test::TempDir dir;
  const Gpt2 network = random_network(tiny_config(), 1);
  AdaLoraConfig config = small();
  config.init_r = 2;
  AdaLoraAdapter(network, config, 1).save(dir / "adapter");
  const auto path = dir / "adapter" / "adapter_config.json";
  std::string text = test::read_file(path);
  const std::string init = "\"init_r\": 2";
  text.replace(
      text.find(init), init.size(),
      "\"init_r\": 4, \"rank_pattern\": {\"transformer.h.0.attn.c_attn.lora_E\": [true, false, false, "
      "true], \"transformer.h.1.attn.c_attn.lora_E\": [true, true, false, false]}");
  std::ofstream(path) << text;
  const auto loaded = AdaLoraAdapter::load(network, dir / "adapter");
  EXPECT_EQ(loaded->config().init_r, 4);
  loaded->save(dir / "again");
  EXPECT_EQ(AdaLoraAdapter::load(network, dir / "again")->describe(), loaded->describe());
}

TEST(AdaLora, RefusesRanksThatAreNotSaidAsPeftDoes) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto load = [&](std::string_view ranks) {
    AdaLoraAdapter::from_config(
        network,
        HfConfig::parse(concat(R"({"rank_pattern": {"transformer.h.0.attn.c_attn.lora_E": )", ranks, "}}"),
                        "file"));
  };
  load("[true, false]");
  expect_error<FormatError>([&] { load("null"); }, {"file: rank_pattern", "lora_E is null"});
  expect_error<FormatError>([&] { load("\"true\""); }, {"lora_E", "expected a list"});
  expect_error<FormatError>([&] { load("[1]"); }, {"lora_E[0]", "expected true or false"});
  expect_error<UnsupportedError>([&] { load("[false]"); }, {"no rank of transformer.h.0.attn.c_attn"});
}

TEST(AdaLora, RefusesANullThatPeftCannotLoad) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto load_with_null = [&](std::string_view key) {
    return AdaLoraAdapter::from_config(network, HfConfig::parse(concat("{\"", key, "\": null}"), "file"));
  };
  for (const std::string_view key : {"init_r", "lora_alpha", "lora_dropout"})
    expect_error<FormatError>([&] { load_with_null(key); }, {"file", concat(key, " is null, expected ")});
  for (const std::string_view key :  // which training alone uses
       {"r", "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step"})
    EXPECT_NO_THROW(load_with_null(key)) << key;
}

// Those that are not named keep their bits; neither penalty nor budget touches them.
TEST(AdaLora, LearnsSomeOfItsTensorsAlone) {
  for (const std::string_view part : {"lora_A", "lora_E"}) {
    Model model = test::small_model();
    const auto adapter = std::make_shared<AdaLoraAdapter>(model.network(), small(), 1);
    test::shake(*adapter, 5);
    model.network().attach(adapter);
    const auto before = test::tensors_of(*adapter);
    TrainingArguments arguments = test::arguments();
    arguments.max_steps = 25;
    arguments.learns = [part](std::string_view name) { return name.ends_with(part); };
    Trainer(model, arguments).fit(test::text(300));
    for (const auto& [name, tensor] : test::tensors_of(*adapter))
      EXPECT_EQ(test::same_bits(tensor, before.at(name)), !name.ends_with(part)) << name;
    EXPECT_EQ(adapter->ranks(), part == "lora_E" ? 4 : 12);
  }
}

TEST(AdaLora, RefusesWhatItCannotBe) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto wrong = [&](AdaLoraConfig config, std::initializer_list<std::string_view> parts) {
    expect_error<ArgumentError>([&] { AdaLoraAdapter(network, config, 1); }, parts);
  };
  wrong({.init_r = 0}, {"init_r is 0"});
  wrong({.init_r = 4, .target_r = 5}, {"target_r is 5", "1 to init_r"});
  wrong({.tinit = -1}, {"tinit is -1"});
  wrong({.tfinal = std::int64_t{1} << 62}, {"tfinal is 4611686018427387904", "less than 2^62"});
  wrong({.delta_t = 0}, {"deltaT is 0"});
  wrong({.beta1 = 1}, {"beta1 is 1"});
  wrong({.orth_reg_weight = -1}, {"orth_reg_weight is -1"});
  wrong({.lora_alpha = 0}, {"lora_alpha is 0"});
  wrong({.target_modules = {"q_proj"}}, {"q_proj"});
}

}  // namespace
}  // namespace gpt
