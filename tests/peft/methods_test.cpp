// What holds for every method of parameter-efficient tuning.
#include "peft/methods.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/models/language_model_loss.h"
#include "gpt/models/quantize.h"
#include "gpt/peft/load_adapter.h"
#include "gpt/train/parameters.h"
#include "gpt/train/trainer.h"
#include "support/isa.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"
#include "train/small_run.h"

namespace gpt {
namespace {

using test::learned_adapter;
using test::logits_with;
using test::Method;
using test::random_network;
using test::same_bits;
using test::tensors_of;
using test::tiny_config;
using test::tokens;

// Sequences of two texts that follow one rule, so that what is learned of one helps with the other.
TextDataset text_from(std::int64_t first, std::int64_t count) {
  std::vector<TokenId> ids;
  for (std::int64_t i = first; i < first + count; ++i) ids.push_back(static_cast<TokenId>(i * i % 23));
  return TextDataset::from_tokens(ids, {.block_size = 16});
}

class EveryMethod : public ::testing::TestWithParam<Method> {
 protected:
  std::shared_ptr<nn::Adapter> learned(std::uint64_t seed) const {
    return learned_adapter(GetParam(), network_, seed);
  }

  Gpt2 network_ = random_network(tiny_config(), 1);
};

INSTANTIATE_TEST_SUITE_P(Peft, EveryMethod, ::testing::ValuesIn(test::methods()),
                         [](const auto& method) { return method.param.name; });

TEST_P(EveryMethod, GivesEachSequenceTheBitsItHasAlone) {
  const auto a = learned(1), b = learned(2);
  const auto lora = learned_adapter(test::methods().front(), network_, 3);
  struct Row {
    std::vector<TokenId> ids;
    const nn::Adapter* adapter;
  };
  const std::vector<Row> rows{{tokens(7), a.get()},        {tokens(5, 40), a.get()},
                              {tokens(1, 50), nullptr},    {tokens(20, 11), b.get()},
                              {tokens(6, 90), lora.get()}, {tokens(3, 8), b.get()}};
  std::vector<nn::KvCache> caches;
  std::vector<Chunk> batch;
  for (const Row& r : rows) caches.push_back(network_.make_cache(0, DType::f32, r.adapter));
  for (std::size_t i = 0; i < rows.size(); ++i) batch.push_back({rows[i].ids, &caches[i], rows[i].adapter});
  Arena arena;
  const TensorView logits = network_.forward(batch, arena, {.logits = LogitsRows::kAll}).logits;
  for (nn::KvCache& cache : caches) cache.truncate(0);
  Arena other;
  const TensorView last = network_.forward(batch, other).logits;
  std::int64_t row = 0;
  for (const Row& r : rows) {
    for (const std::size_t step : {std::size_t{1}, std::size_t{5}, r.ids.size()}) {
      const Tensor alone = logits_with(network_, r.adapter, r.ids, step);
      const ConstTensorView part(logits.data<float>() + row * 97, alone.shape());
      EXPECT_TRUE(same_bits(alone, part)) << "row " << row << " in chunks of " << step;
    }
    row += static_cast<std::int64_t>(r.ids.size());
    const std::int64_t number = &r - rows.data();
    EXPECT_TRUE(same_bits(ConstTensorView(last.data<float>() + number * 97, {97}),
                          ConstTensorView(logits.data<float>() + (row - 1) * 97, {97})))
        << "sequence " << number;
  }
  const auto ids = tokens(9);
  EXPECT_FALSE(same_bits(logits_with(network_, a.get(), ids, 9), logits_with(network_, b.get(), ids, 9)));
  EXPECT_FALSE(same_bits(logits_with(network_, a.get(), ids, 9), logits_with(network_, nullptr, ids, 9)));
}

TEST_P(EveryMethod, GivesTheSameBitsOnAnyNumberOfThreads) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  Gpt2Config config = tiny_config();
  config.n_embd = 256;
  const Gpt2 network = random_network(config, 1);
  const auto adapter = learned_adapter(GetParam(), network, 3);
  const auto ids = tokens(24);
  set_num_threads(1);
  const Tensor one = logits_with(network, adapter.get(), ids, 24);
  set_num_threads(3);
  EXPECT_TRUE(same_bits(one, logits_with(network, adapter.get(), ids, 24)));
  set_num_threads(0);
}

TEST_P(EveryMethod, GivesTheSameBitsOnATape) {
  const auto adapter = learned(1);
  network_.attach(adapter);
  const auto ids = tokens(20);
  const Tensor logits = logits_with(network_, nullptr, ids, 20);
  const Chunk chunk{ids};
  for (const bool checkpointing : {false, true}) {
    Arena arena;
    Tape tape;
    Parameters(*adapter).watch(tape);
    const ForwardOutput out = network_.forward(
        {&chunk, 1}, arena,
        {.logits = LogitsRows::kAll, .tape = &tape, .gradient_checkpointing = checkpointing});
    EXPECT_TRUE(same_bits(logits, out.logits));
  }
}

TEST_P(EveryMethod, HasTheSameGradientsWhenBlocksAreComputedAgain) {
  const auto ids = tokens(20), others = tokens(17, 50);
  const LabelledSequence batch[] = {{ids}, {others}};
  for (const std::int64_t features : {16, 256}) {  // beside the more, attention itself is computed again
    Gpt2Config config = tiny_config();
    config.n_embd = features;
    Gpt2 network = random_network(config, 1);
    const auto adapter = learned_adapter(GetParam(), network, 1);
    network.attach(adapter);
    const auto gradients = [&](const LossOptions& how) {
      const Parameters parameters(*adapter);
      Tape tape;
      parameters.watch(tape);
      Arena arena;
      LossOptions options = how;
      options.tape = &tape;
      language_model_loss(network, batch, arena, options);
      tape.backward();
      std::vector<float> all;
      for (const Parameter& p : parameters.all())
        all.insert(all.end(), p.gradient.span<float>().begin(), p.gradient.span<float>().end());
      return all;
    };
    for (const DType activations : {DType::f32, DType::bf16}) {
      const LossOptions kept{
          .dropout = DropoutSeed{3, 1 << 20}, .activations = activations, .first_tokens = true};
      LossOptions again = kept;
      again.gradient_checkpointing = true;
      EXPECT_TRUE(gradients(kept) == gradients(again)) << features;
    }
  }
}

// The slope of the loss along each tensor's gradient is the length of the gradient.
TEST_P(EveryMethod, HasGradientsThatAreSlopes) {
  const auto adapter = learned(1);
  network_.attach(adapter);
  const auto ids = tokens(20), others = tokens(9, 50);
  const LabelledSequence batch[] = {{ids}, {others}};
  const Parameters parameters(*adapter);
  const auto loss = [&](Tape* tape) {
    Arena arena;
    const double sum = language_model_loss(network_, batch, arena, {.tape = tape, .first_tokens = true}).sum;
    if (tape != nullptr) tape->backward();
    return sum;
  };
  Tape tape;
  parameters.watch(tape);
  loss(&tape);
  for (const Parameter& p : parameters.all()) {
    // By its definition, DoRA's gradients of A and B take the lengths for constants: see Dora's own test.
    if (GetParam().name == "dora" && !p.name.ends_with("lora_magnitude_vector")) continue;
    double squares = 0;
    for (const float g : p.gradient.span<float>()) squares += static_cast<double>(g) * static_cast<double>(g);
    const double length = std::sqrt(squares);
    ASSERT_GT(length, 1e-3) << p.name;
    const std::vector<float> at(p.value.span<float>().begin(), p.value.span<float>().end());
    const auto slope = [&](double h) {
      const auto moved = [&](double by) {
        for (std::size_t i = 0; i < at.size(); ++i)
          p.value.span<float>()[i] = static_cast<float>(
              static_cast<double>(at[i]) + by * static_cast<double>(p.gradient.span<float>()[i]) / length);
        return loss(nullptr);
      };
      const double above = moved(h);
      return (above - moved(-h)) / (2 * h);
    };
    // Exact to h^4. A loss of some hundred nats is known to about 1e-5.
    constexpr double h = 1.0 / 64;
    const double found = (4 * slope(h) - slope(2 * h)) / 3;
    std::copy(at.begin(), at.end(), p.value.span<float>().begin());
    EXPECT_NEAR(found, length, 2e-3 * length + 2e-3) << p.name;
  }
}

TEST_P(EveryMethod, LearnsWhatHelpsWithOtherTextsAndNothingElseChanges) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  for (const bool bf16 : {false, true}) {
    Model model = test::small_model();
    const auto before = test::weights(model);
    model.network().attach(GetParam().fresh(model.network(), 5));
    TrainingArguments arguments = test::arguments();
    arguments.learning_rate = 3e-2;
    arguments.num_train_epochs = 8;
    arguments.bf16 = bf16;
    Trainer trainer(model, arguments);
    const TextDataset train = text_from(0, 600), held_out = text_from(1000, 300);
    const double at_first = trainer.evaluate(held_out).eval_loss;
    trainer.fit(train);
    EXPECT_LT(trainer.evaluate(held_out).eval_loss, at_first - 0.1);
    EXPECT_TRUE(test::same(before, test::weights(model)));
  }
}

TEST_P(EveryMethod, LearnsOverAQuantizedNetwork) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  Model model = test::small_model();
  quantize(model.network(), {});
  model.network().attach(GetParam().fresh(model.network(), 5));
  TrainingArguments arguments = test::arguments();
  arguments.learning_rate = 3e-2;
  arguments.num_train_epochs = 4;
  Trainer trainer(model, arguments);
  const TextDataset train = text_from(0, 400);
  const double at_first = trainer.evaluate(train).eval_loss;
  trainer.fit(train);
  EXPECT_LT(trainer.evaluate(train).eval_loss, at_first - 0.1);
}

TEST_P(EveryMethod, EndsAResumedRunWithTheSameBits) {
  const TextDataset data = text_from(0, 300);
  const auto run = [&](const std::filesystem::path& directory, std::int64_t stop_at) {
    Model model = test::small_model();
    model.network().attach(GetParam().fresh(model.network(), 5));
    TrainingArguments arguments = test::arguments();
    arguments.output_dir = directory;
    arguments.resume_from_checkpoint = true;
    std::stop_source stop;
    TrainingCallbacks callbacks;
    callbacks.on_step = [&](const TrainingLog& log) {
      if (log.step == stop_at) stop.request_stop();
    };
    try {
      Trainer(model, arguments).fit(data, nullptr, callbacks, stop.get_token());
    } catch (const CancelledError&) {
    }
    return tensors_of(*model.network().adapter());
  };
  const test::TempDir dir;
  const auto whole = run(dir / "whole", -1);
  EXPECT_FALSE(test::same(whole, run(dir / "parts", 7)));
  EXPECT_TRUE(test::same(whole, run(dir / "parts", -1)));
}

TEST_P(EveryMethod, ReadsWhatItHasWritten) {
  const test::TempDir dir;
  const auto adapter = learned(1);
  adapter->save(dir / "adapter");
  std::vector<std::string> warnings;
  const auto loaded =
      load_adapter(network_, dir / "adapter", [&](std::string_view text) { warnings.emplace_back(text); });
  EXPECT_THAT(warnings, ::testing::IsEmpty());
  EXPECT_EQ(loaded->describe(), adapter->describe());
  const auto ids = tokens(9);
  EXPECT_TRUE(
      same_bits(logits_with(network_, loaded.get(), ids, 9), logits_with(network_, adapter.get(), ids, 9)));
  adapter->save(dir / "half", DType::f16);
  const auto half = load_adapter(network_, dir / "half");
  const Tensor exact = logits_with(network_, adapter.get(), ids, 9),
               rounded = logits_with(network_, half.get(), ids, 9);
  for (std::int64_t i = 0; i < exact.numel(); ++i)
    ASSERT_NEAR(exact.data<float>()[i], rounded.data<float>()[i], 0.1f);

  Gpt2Config other = tiny_config();
  other.n_layer = 3;
  other.n_embd = 32;
  const Gpt2 larger = random_network(other, 1);
  EXPECT_THROW(load_adapter(larger, dir / "adapter"), Error);
}

TEST(LoadAdapter, NamesTheMethodsItKnows) {
  const test::TempDir dir;
  const Gpt2 network = random_network(tiny_config(), 1);
  std::filesystem::create_directory(dir / "adapter");
  std::ofstream(dir / "adapter" / "adapter_config.json") << R"({"peft_type": "LOHA"})";
  try {
    load_adapter(network, dir / "adapter");
    FAIL();
  } catch (const UnsupportedError& error) {
    EXPECT_THAT(error.what(), ::testing::AllOf(::testing::HasSubstr("LOHA"), ::testing::HasSubstr("LORA"),
                                               ::testing::HasSubstr("PROMPT_TUNING")));
  }
}

}  // namespace
}  // namespace gpt
