// Learning without forgetting: replayed samples, and weights that are held where old data need them.
#include "gpt/train/continual.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <vector>

#include "gpt/core/parallel.h"
#include "gpt/peft/lora.h"
#include "gpt/train/batches.h"
#include "gradient_check.h"
#include "small_classifier.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::message_of;
using test::small_model;
using test::weights;
using ::testing::HasSubstr;

/// Other texts than test::text: of other tokens.
TextDataset other_text(std::int64_t tokens) {
  std::vector<TokenId> ids;
  for (std::int64_t i = 0; i < tokens; ++i) ids.push_back(static_cast<TokenId>(40 + i * i * i % 29));
  return TextDataset::from_tokens(ids, {.block_size = 16});
}

TEST(ReplayDataset, PutsOldSamplesBehindTheNewOnes) {
  const TextDataset fresh = test::text(16 * 8 + 1), old = other_text(16 * 3 + 1);
  const ReplayDataset data(fresh, old, 0.5, 7);
  EXPECT_EQ(data.replayed(), 4);
  ASSERT_EQ(data.size(), 12);
  for (std::int64_t i = 0; i < 8; ++i) EXPECT_EQ(data.at(i).ids, fresh.at(i).ids);
  const auto order = epoch_order(3, 7, 0);
  std::set<std::vector<TokenId>> seen;
  for (std::int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(data.at(8 + i).ids, old.at(order[static_cast<std::size_t>(i)]).ids);
    seen.insert(data.at(8 + i).ids);
  }
  EXPECT_EQ(seen.size(), 3u);  // all of them, before one comes again
  EXPECT_EQ(data.at(11).ids, old.at(epoch_order(3, 7, 1)[0]).ids);
  EXPECT_EQ(data.length(11), 17);
  EXPECT_EQ(ReplayDataset(fresh, old, 0.01, 7).replayed(), 1);
  EXPECT_NE(data.fingerprint(), ReplayDataset(fresh, old, 0.5, 8).fingerprint());
  EXPECT_EQ(data.fingerprint(), ReplayDataset(fresh, old, 0.5, 7).fingerprint());
  EXPECT_EQ(message_of<ArgumentError>([&] { data.at(12); }),
            "[replay] sample 12 is out of range, expected 0 to 11");
  EXPECT_EQ(message_of<ArgumentError>([&] { ReplayDataset(fresh, old, 0, 7); }),
            "[replay] fraction is 0, expected more than 0, at most 100");
  const test::HalvesOfTokens none(0, 1);
  EXPECT_EQ(message_of<ArgumentError>([&] { ReplayDataset(fresh, none, 0.5, 7); }),
            "[replay] there are no old samples");
}

TEST(FisherInformation, IsTheMeanOfSquaredGradientsOfSamples) {
  Model model = small_model();
  LanguageModelObjective objective;
  const TextDataset old = other_text(16 * 3 + 1);
  const FisherInformation information(model, objective, old);
  Parameters parameters(model.network());
  ASSERT_EQ(information.entries().size(), parameters.all().size());
  std::vector<double> expected;
  for (std::int64_t i = 0; i < 3; ++i) {
    parameters.zero_gradients();
    const Sample sample = old.at(i);
    const std::vector<float> gradients =
        test::run_on_tape(model.network(), objective, {&sample, 1}, parameters).gradients;
    expected.resize(gradients.size());
    for (std::size_t j = 0; j < gradients.size(); ++j)
      expected[j] += static_cast<double>(gradients[j]) * static_cast<double>(gradients[j]) / 48;
  }
  std::size_t next = 0;
  for (std::size_t i = 0; i < parameters.all().size(); ++i) {
    const FisherInformation::Entry& entry = information.entries()[i];
    EXPECT_EQ(entry.name, parameters.all()[i].name);
    EXPECT_TRUE(test::same_bits(entry.weights, weights(model).at(entry.name)));
    for (const float f : entry.fisher.span<float>()) {
      // Three products and sums of positive numbers and one more product, each rounded to 6e-8 of it.
      ASSERT_NEAR(f, expected[next], 5e-7 * expected[next] + 1e-30) << entry.name;
      ++next;
    }
  }
  const FisherInformation some(model, objective, old, {.samples = 1, .learns = [](std::string_view name) {
                                                         return name == "ln_f.bias";
                                                       }});
  ASSERT_EQ(some.entries().size(), 1u);
  EXPECT_EQ(message_of<ArgumentError>([&] { FisherInformation(model, objective, old, {.samples = -1}); }),
            "[ewc] samples is -1, expected 0 or more");
}

std::shared_ptr<EwcObjective> ewc_of(Model& model, const Dataset& old, double lambda) {
  const auto inner = std::make_shared<LanguageModelObjective>();
  return std::make_shared<EwcObjective>(inner, std::make_shared<FisherInformation>(model, *inner, old),
                                        lambda);
}

TEST(Ewc, HasTheGradientOfItsPenalty) {
  Model model = small_model();
  const auto ewc = ewc_of(model, other_text(16 * 3 + 1), 3);
  Parameters parameters(model.network());
  EXPECT_EQ(ewc->penalty(parameters), 0);
  std::size_t count = 0;
  for (const Parameter& p : parameters.all()) {
    TensorView value = p.value;
    for (std::int64_t i = 0; i < value.numel(); ++i)
      value.data<float>()[i] += 0.01f * static_cast<float>(static_cast<std::int64_t>(count++ % 5) - 2);
  }
  parameters.zero_gradients();
  ewc->add_penalty(parameters);
  // The penalty is a square: a step along the gradient changes it by the first two terms of its series, exactly.
  double squares = 0;
  for (const Parameter& p : parameters.all())
    for (const float g : p.gradient.span<float>()) squares += static_cast<double>(g) * static_cast<double>(g);
  const auto penalty_after = [&](float factor) {
    for (const Parameter& p : parameters.all()) {
      TensorView value = p.value;
      for (std::int64_t i = 0; i < value.numel(); ++i)
        value.data<float>()[i] += factor * p.gradient.data<float>()[i];
    }
    return ewc->penalty(parameters);
  };
  ASSERT_GT(squares, 0);
  const float step = static_cast<float>(1e-2 / std::sqrt(squares));
  const double ahead = penalty_after(step), behind = penalty_after(-2 * step);
  // The values, of about 1, are rounded to 6e-8, which is 1e-5 of the steps.
  EXPECT_NEAR((ahead - behind) / (2 * static_cast<double>(step)), squares, 1e-3 * squares);
}

/// The losses of old and new texts after a model that knows the old ones has learned the new ones.
struct Losses {
  double old = 0, fresh = 0;
};

class ContinualLearning : public ::testing::Test {
 protected:
  static TrainingArguments learning() {
    TrainingArguments a = test::arguments();
    a.num_train_epochs = 6;
    return a;
  }
  static Model with_old_texts() {
    Model model = small_model();
    Trainer(model, learning()).fit(other_text(16 * 12 + 1));
    return model;
  }
  Losses judged(Model& model) const {
    const Trainer trainer(model, learning());
    return {trainer.evaluate(old).eval_loss, trainer.evaluate(fresh).eval_loss};
  }

  const TextDataset old = other_text(16 * 12 + 1), fresh = test::text(16 * 12 + 1);
};

TEST_F(ContinualLearning, ForgetsLessWithReplayOrConsolidation) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  Model plain = with_old_texts();
  const Losses before = judged(plain);
  Trainer(plain, learning()).fit(fresh);
  const Losses forgot = judged(plain);
  EXPECT_GT(forgot.old, before.old + 0.2);

  Model replaying = with_old_texts();
  Trainer(replaying, learning()).fit(ReplayDataset(fresh, old, 0.5, 1));
  const Losses replayed = judged(replaying);
  EXPECT_LT(replayed.old, (before.old + forgot.old) / 2);
  EXPECT_LT(replayed.fresh, before.fresh);

  Model held = with_old_texts();
  Trainer(held, learning(), ewc_of(held, old, 1000)).fit(fresh);
  const Losses consolidated = judged(held);
  EXPECT_LT(consolidated.old, (before.old + forgot.old) / 2);
  EXPECT_LT(consolidated.fresh, before.fresh);
}

TEST_F(ContinualLearning, GivesTheSameBitsOnAnyNumberOfThreadsAndResumed) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  TrainingArguments a = test::arguments();
  a.num_train_epochs = 1;
  for (const bool adapted : {false, true}) {
    const auto made = [&] {
      Model model = small_model();
      if (adapted)
        model.network().attach(std::make_shared<LoraAdapter>(model.network(), LoraConfig{.r = 2}, 3));
      return model;
    };
    const auto logits = [](Model& model) {
      Arena arena;
      const std::vector<TokenId> ids = test::tokens(9);
      const Chunk chunk{ids};
      const ForwardOutput out = model.network().forward({&chunk, 1}, arena);
      return std::vector<float>(out.logits.data<float>(), out.logits.data<float>() + out.logits.numel());
    };
    const ReplayDataset data(fresh, old, 0.5, 1);
    const auto trained = [&](int threads, const TrainingArguments& arguments) {
      set_num_threads(threads);
      Model model = made();
      Trainer(model, arguments, ewc_of(model, old, 100)).fit(data);
      set_num_threads(0);
      return logits(model);
    };
    const std::vector<float> whole = trained(1, a);
    EXPECT_EQ(whole, trained(2, a)) << adapted;
    const test::TempDir directory;
    TrainingArguments parts = a;
    parts.output_dir = directory / "run";
    parts.save_steps = 2;
    Model model = made();
    std::stop_source stop;
    EXPECT_THROW(
        Trainer(model, parts, ewc_of(model, old, 100))
            .fit(data, nullptr, {.on_save = [&](const auto&) { stop.request_stop(); }}, stop.get_token()),
        CancelledError);
    parts.resume_from_checkpoint = true;
    EXPECT_EQ(whole, trained(0, parts)) << adapted;
    Model another = made();
    EXPECT_THAT(
        message_of<ArgumentError>([&] { Trainer(another, parts, ewc_of(another, fresh, 100)).fit(data); }),
        HasSubstr("loss is ewc, lambda 100, information "));
  }
}

TEST_F(ContinualLearning, TakesBfloat16) {
  TrainingArguments a = test::arguments();
  a.num_train_epochs = 1;
  a.bf16 = true;
  Model held = small_model(), free = small_model();
  Trainer(held, a, ewc_of(held, old, 1e7)).fit(fresh);
  Trainer(free, a).fit(fresh);
  double moved = 0, free_moved = 0;
  const auto before = weights(small_model()), after = weights(held), freely = weights(free);
  for (const auto& [name, tensor] : before)
    for (std::size_t i = 0; i < tensor.span<float>().size(); ++i) {
      moved += std::abs(static_cast<double>(after.at(name).span<float>()[i] - tensor.span<float>()[i]));
      free_moved += std::abs(static_cast<double>(freely.at(name).span<float>()[i] - tensor.span<float>()[i]));
    }
  EXPECT_LT(moved, 0.9 * free_moved);
}

TEST(Ewc, RefusesWhatItCannotUse) {
  Model model = small_model();
  const auto inner = std::make_shared<LanguageModelObjective>();
  const auto information =
      std::make_shared<FisherInformation>(model, *inner, other_text(40), FisherOptions{.samples = 1});
  EXPECT_EQ(message_of<ArgumentError>([&] { EwcObjective(inner, nullptr, 1); }),
            "[ewc] there is no information about old data");
  EXPECT_EQ(message_of<ArgumentError>([&] { EwcObjective(inner, information, -1); }),
            "[ewc] lambda is -1, expected 0 or more");
  Gpt2Config other = test::tiny_config();
  other.n_embd = 8;
  Gpt2 network = test::random_network(other, 1);
  const Parameters parameters(network);
  EXPECT_EQ(message_of<ShapeError>([&] { EwcObjective(inner, information, 1).add_penalty(parameters); }),
            "[ewc] wte.weight has shape [97, 8], expected [97, 16], as the old one");
  LoraAdapter adapter(model.network(), LoraConfig{}, 1);
  const Parameters of_adapter(adapter);
  const EwcObjective holds_nothing(inner, information, 1);
  constexpr const char* kOfNone =
      "[ewc] the information names none of the parameters that are learned: an adapter was attached, or "
      "detached, since";
  EXPECT_EQ(message_of<ArgumentError>([&] { holds_nothing.add_penalty(of_adapter); }), kOfNone);
  EXPECT_EQ(message_of<ArgumentError>([&] { holds_nothing.penalty(of_adapter); }), kOfNone);
}

}  // namespace
}  // namespace gpt
