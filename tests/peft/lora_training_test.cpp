// Training of adapters: gradients, frozen networks, runs that are resumed; adapters beside each other in generation.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "gpt/generate/scheduler.h"
#include "gpt/models/language_model_loss.h"
#include "gpt/models/quantize.h"
#include "gpt/train/parameters.h"
#include "gpt/train/trainer.h"
#include "peft/adapted_runs.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"
#include "train/small_run.h"

namespace gpt {
namespace {

using test::arguments;
using test::expect_error;
using test::random_lora;
using test::same;
using test::same_bits;
using test::small_model;
using test::tensors_of;
using test::text;
using test::tokens;
using test::weights;

/// The adapter's gradients; with all_learn, those of the network are computed beside them.
std::map<std::string, Tensor> gradients(Gpt2& network, const LossOptions& how, bool all_learn = false) {
  const Parameters parameters(*network.adapter());
  std::optional<Parameters> of_network;
  if (all_learn) of_network.emplace(network);
  const auto ids = tokens(20), others = tokens(9, 50);
  const LabelledSequence batch[] = {{ids}, {others}};
  Tape tape;
  parameters.watch(tape);
  if (all_learn) of_network->watch(tape);
  Arena arena;
  LossOptions options = how;
  options.tape = &tape;
  language_model_loss(network, batch, arena, options);
  tape.backward();
  std::map<std::string, Tensor> all;
  for (const Parameter& p : parameters.all()) {
    Tensor copy = Tensor::empty(p.gradient.shape());
    std::copy_n(p.gradient.data<float>(), p.gradient.numel(), copy.data<float>());
    all.emplace(p.name, std::move(copy));
  }
  return all;
}

TEST(LoraTraining, HasTheSameGradientsWithRecomputedActivations) {
  Gpt2 network = test::random_network(test::tiny_config(), 1);
  network.attach(random_lora(network, {.r = 4, .lora_dropout = 0.3, .target_modules = {"all-linear"}}, 1));
  const LossOptions plain{.dropout = DropoutSeed{5, 0}};
  LossOptions again = plain;
  again.gradient_checkpointing = true;
  const auto kept = gradients(network, plain);
  EXPECT_EQ(kept.size(), 16u);
  EXPECT_TRUE(same(kept, gradients(network, again)));
  EXPECT_FALSE(same(kept, gradients(network, {.dropout = DropoutSeed{6, 0}})));  // its dropout has a seed
  EXPECT_FALSE(same(kept, gradients(network, {})));
}

// A frozen layer does not keep what it is given, and its memory is used again: in every place that an adapter can be.
TEST(LoraTraining, HasTheSameGradientsWhetherTheNetworkIsFrozenOrNot) {
  for (const char* target :
       {"c_attn", "attn.c_proj", "c_fc", "mlp.c_proj", "h.0.mlp.c_fc", "h.1.attn.c_proj"}) {
    Gpt2 network = test::random_network(test::tiny_config(), 1);
    network.attach(random_lora(network, {.r = 4, .target_modules = {target}}, 1));
    const auto alone = gradients(network, {});
    EXPECT_TRUE(same(alone, gradients(network, {}, true))) << target;
  }
}

TEST(LoraTraining, LearnsAndLeavesTheNetworkAsItIs) {
  for (const bool quantized : {false, true}) {
    Model model = small_model();
    if (quantized) quantize(model.network(), {});
    const auto fingerprint = model.network().fingerprint();
    const TextDataset train = text(16 * 10 + 1), validation = text(40);
    TrainingArguments a = arguments();
    a.lora = LoraConfig{.r = 4, .lora_dropout = 0.05};
    Trainer trainer(model, a);
    ASSERT_NE(model.network().adapter(), nullptr);
    const double before = trainer.evaluate(validation).eval_loss;
    trainer.fit(train);
    EXPECT_LT(trainer.evaluate(validation).eval_loss, before - 0.1) << quantized;
    EXPECT_EQ(model.network().fingerprint(), fingerprint);
    model.network().attach(nullptr);
    EXPECT_EQ(Trainer(model, quantized ? a : arguments()).evaluate(validation).eval_loss, before);
  }
}

TEST(LoraTraining, EndsWithTheSameBitsWhenItWasInterrupted) {
  const TextDataset train = text(16 * 10 + 1), validation = text(40);
  TrainingArguments a = arguments();
  a.lora = LoraConfig{.r = 4, .lora_dropout = 0.1, .target_modules = {"c_attn", "c_proj"}};
  for (const bool bf16 : {false, true}) {
    a.bf16 = bf16;
    a.output_dir.clear();
    Model whole = small_model();
    Trainer(whole, a).fit(train, &validation);

    const test::TempDir dir;
    a.output_dir = dir.path();
    a.save_steps = 1;
    Model begun = small_model();
    std::stop_source stop;
    expect_error<CancelledError>(
        [&] {
          Trainer(begun, a).fit(train, &validation,
                                {.on_step =
                                     [&](const TrainingLog& log) {
                                       if (log.step == 3) stop.request_stop();
                                     }},
                                stop.get_token());
        },
        {});
    EXPECT_TRUE(std::filesystem::exists(dir / "checkpoint-3" / "adapter_model.safetensors"));
    EXPECT_FALSE(std::filesystem::exists(dir / "checkpoint-3" / "model.safetensors"));
    a.resume_from_checkpoint = true;
    Model resumed = small_model();
    Trainer(resumed, a).fit(train, &validation);
    EXPECT_TRUE(same(tensors_of(*whole.network().adapter()), tensors_of(*resumed.network().adapter())));
    a.resume_from_checkpoint = false;

    // Another adapter is another run.
    TrainingArguments other = a;
    other.resume_from_checkpoint = true;
    other.lora->lora_alpha = 9;
    Model model = small_model();
    expect_error<ArgumentError>([&] { Trainer(model, other).fit(train, &validation); }, {"adapter"});
  }
}

TEST(LoraTraining, TrainsTheAdapterThatIsThere) {
  Model model = small_model();
  const auto adapter = random_lora(model.network(), {.r = 4}, 3);
  model.network().attach(adapter);
  const auto before = tensors_of(*adapter);
  TrainingArguments a = arguments();
  a.max_steps = 2;  // the first has a rate of 0
  Trainer(model, a).fit(text(16 * 10 + 1));
  EXPECT_FALSE(same(before, tensors_of(*adapter)));
  a.lora.emplace();
  expect_error<ArgumentError>([&] { Trainer(model, a); }, {"lora is set", "has an adapter"});
}

TEST(LoraTraining, NamesAnAdapterThatIsNotFinite) {
  Model model = small_model();
  const auto adapter = random_lora(model.network(), {.r = 4}, 3);
  adapter->visit([](const std::string& name, Tensor& tensor, const Shape&) {
    if (name.ends_with("h.1.attn.c_attn.lora_B.weight")) tensor.data<float>()[5] = NAN;
  });
  model.network().attach(adapter);
  expect_error<NumericError>([&] { Trainer(model, arguments()).fit(text(16 * 10 + 1)); },
                             {"h.1.attn.c_attn.lora_B.weight", "is nan"});
}

TEST(LoraGeneration, GivesEachRequestOfASchedulerItsOwnAdapter) {
  const Model model = small_model();
  const auto a = random_lora(model.network(), {.r = 4}, 1), b = random_lora(model.network(), {.r = 4}, 2);
  const std::shared_ptr<const nn::Adapter> adapters[] = {a, b, nullptr, a};
  const Generator generator(model);
  Scheduler scheduler(model);
  const auto prompt = tokens(17);  // more than a page, which requests of one adapter share
  std::vector<std::pair<RequestId, GenerateResult>> expected;
  for (int round = 0; round < 2; ++round)
    for (const auto& adapter : adapters) {
      const GenerateOptions options{.max_new_tokens = 10, .adapter = adapter};
      expected.emplace_back(scheduler.submit(prompt, options), generator.generate(prompt, options));
    }
  EXPECT_NE(expected[0].second.ids, expected[1].second.ids);
  EXPECT_NE(expected[0].second.ids, expected[2].second.ids);
  scheduler.run();
  for (const auto& [id, result] : expected) EXPECT_EQ(scheduler.take(id)->get().ids, result.ids);
  // What is kept for later is kept for one adapter.
  for (const auto& adapter : adapters) {
    const GenerateOptions options{.max_new_tokens = 10, .adapter = adapter};
    const RequestId id = scheduler.submit(prompt, options);
    scheduler.run();
    EXPECT_EQ(scheduler.take(id)->get().ids, generator.generate(prompt, options).ids);
  }
  EXPECT_GT(scheduler.statistics().prefix_hits, 0);
}

TEST(LoraGeneration, IsTheSameInBeamsAndContrastiveSearch) {
  Model with = small_model();
  const Model without = small_model();
  const auto adapter = random_lora(without.network(), {.r = 4}, 1);
  with.network().attach(adapter);
  const auto prompt = tokens(9);
  for (GenerateOptions options : {GenerateOptions{.max_new_tokens = 8, .num_beams = 3},
                                  GenerateOptions{.max_new_tokens = 8, .top_k = 4, .penalty_alpha = 0.6},
                                  GenerateOptions{.max_new_tokens = 8, .prompt_lookup_num_tokens = 3},
                                  GenerateOptions{.max_new_tokens = 8}}) {
    const auto attached = Generator(with).generate(prompt, options).ids;
    EXPECT_NE(attached, Generator(without).generate(prompt, options).ids);
    options.adapter = adapter;
    EXPECT_EQ(attached, Generator(without).generate(prompt, options).ids);
  }
  Gpt2Config other = test::tiny_config();
  other.n_layer = 1;
  const GenerateOptions wrong{.adapter = random_lora(test::random_network(other, 1), {}, 1)};
  expect_error<ArgumentError>([&] { Generator(without).generate(prompt, wrong); },
                              {"adapter", "n_layer = 1"});
}

}  // namespace
}  // namespace gpt
