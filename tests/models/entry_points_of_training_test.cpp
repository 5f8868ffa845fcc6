// Law 3, as in entry_points_test.cpp: what training and its parts are made of.
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "allocations.h"
#include "gpt/autograd/ops.h"
#include "gpt/autograd/tape.h"
#include "gpt/core/arena.h"
#include "gpt/models/classifier.h"
#include "gpt/models/initialize.h"
#include "gpt/models/language_model_loss.h"
#include "gpt/models/model.h"
#include "gpt/peft/adalora.h"
#include "gpt/peft/bitfit.h"
#include "gpt/peft/bottleneck.h"
#include "gpt/peft/ia3.h"
#include "gpt/peft/load_adapter.h"
#include "gpt/peft/lora.h"
#include "gpt/peft/merge.h"
#include "gpt/peft/prompt_tuning.h"
#include "gpt/peft/stacked.h"
#include "gpt/train/adamw.h"
#include "gpt/train/adversarial.h"
#include "gpt/train/augmentation.h"
#include "gpt/train/batches.h"
#include "gpt/train/continual.h"
#include "gpt/train/contrastive.h"
#include "gpt/train/distillation.h"
#include "gpt/train/metrics.h"
#include "gpt/train/objectives.h"
#include "gpt/train/parameters.h"
#include "gpt/train/preference.h"
#include "gpt/train/r_drop.h"
#include "gpt/train/report.h"
#include "gpt/train/schedule.h"
#include "gpt/train/tensorboard.h"
#include "gpt/train/text_dataset.h"
#include "gpt/train/trainer.h"
#include "support/random_model.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::constructed;
using test::EntryPoints;
using test::expect_memory_errors;
using test::made_by_the_caller;

Model model_to_train() { return {test::random_network(test::tiny_config(), 1), HfConfig()}; }

TEST_F(EntryPoints, OfTheTapeTurnMissingMemoryIntoAMemoryError) {
  Tensor x = Tensor::zeros({2, 4}), y = Tensor::zeros({2, 4}), dx = Tensor::zeros({2, 4}),
         dy = Tensor::zeros({2, 4});
  expect_memory_errors(100, [&] {
    Tape tape;
    tape.watch(x, dx);
    const std::array<float, 16> held{};
    tape.record({x.view()}, y, made_by_the_caller([&] {
                  return Tape::Backward([held, x](Tape& t, TensorView g) {
                    static_cast<void>(held);
                    t.give(x, g);
                  });
                }));
    tape.seed(y, dy);
    tape.backward();
    tape.clear();
  });
  expect_memory_errors(100, [&] {
    Tape tape;
    Arena arena;
    tape.watch(x, dx);
    tape.record_recomputed(y, made_by_the_caller([&] {
                             return std::function<TensorView(Arena&)>([&](Arena& memory) {
                               const TensorView z = memory.take({2, 4});
                               autograd::scale(&tape, x, 2.0f, z);
                               return z;
                             });
                           }));
    tape.observe(y, dx);
    static_cast<void>(tape.target(y));
    tape.seed(y, dy);
    tape.backward();
  });
  expect_memory_errors(100, [&] {
    Tape tape;
    Arena arena;
    tape.watch(x, dx);
    autograd::activation(&tape, ops::Activation::kGeluNew, x, y, arena);
    autograd::add(&tape, x, y, arena.take({2, 4}), arena);
    autograd::dropout(&tape, x, {.rate = 0.5f}, {}, y, arena);
    tape.seed(y, dy);
    tape.backward();
  });
}

TEST_F(EntryPoints, OfParametersTurnMissingMemoryIntoAMemoryError) {
  Gpt2 network = test::random_network(test::tiny_config(), 1);
  expect_memory_errors(100, [&] { Parameters parameters(network); });
  expect_memory_errors(100, [&] { Parameters parameters(network, {}, DType::bf16); });
  const std::function<bool(std::string_view)> weights = [](std::string_view name) {
    return name.ends_with("weight");
  };
  expect_memory_errors(100, [&] { Parameters parameters(network, weights, DType::f32, {}); });
  Parameters parameters(network);
  expect_memory_errors(100, [&] { AdamW optimizer(parameters); });
  expect_memory_errors(10, [] {
    try {
      check(AdamWOptions{.adam_beta2 = 1.0});
    } catch (const ArgumentError&) {
    }
  });
  expect_memory_errors(100, [&] {
    Tape tape;
    parameters.watch(tape);
  });
  expect_memory_errors(10, [&] { parameters.gradient_norm(); });
  const std::vector<TokenId> ids{1, 2, 3, 4};
  const LabelledSequence sequence{ids, ids};
  expect_memory_errors(200, [&] {
    Tape tape;
    parameters.watch(tape);
    Arena arena;
    language_model_loss(network, {&sequence, 1}, arena, {.tape = &tape});
    tape.backward();
  });
  expect_memory_errors(100, [&] { initialize(network, 1); });
}

TEST_F(EntryPoints, OfAdaptersTurnMissingMemoryIntoAMemoryError) {
  constexpr std::uint64_t kSeed = 1;
  Gpt2 network = test::random_network(test::tiny_config(), 1);
  const test::TempDir dir;
  const std::filesystem::path path = dir / "adapter";
  const auto expect_adapter = [&](const std::function<std::shared_ptr<nn::Adapter>()>& make) {
    expect_memory_errors(50, [&] { make(); });
    const std::shared_ptr<nn::Adapter> adapter = make();
    expect_memory_errors(20, [&] { adapter->describe(); });
    expect_memory_errors(50, [&] { adapter->save(path); });
    expect_memory_errors(50, [&] { load_adapter(network, path); });
    expect_memory_errors(50, [&] { Parameters parameters(*adapter); });
    expect_memory_errors(20, [&] {
      adapter->visit([](const std::string&, Tensor&, const Shape&) {});
      adapter->visit_state([](const std::string&, Tensor&, const Shape&) {});
    });
    expect_memory_errors(20, [&] { adapter->begin_training(100); });
    expect_memory_errors(20, [&] { network.check(*adapter); });
    expect_memory_errors(20, [&] {
      try {
        restore(network, merge_adapter(*adapter, network));
      } catch (const UnsupportedError&) {  // not every adapter is a change of matrices
      }
    });
    const Parameters parameters(*adapter);
    expect_memory_errors(20, [&] {
      const std::vector<nn::LearnedTensor> learned = parameters.learned();
      adapter->add_penalty(learned);
      adapter->after_update(learned, {});
    });
    std::filesystem::remove_all(path);
  };
  expect_adapter([&] {
    return constructed<LoraAdapter>(network, made_by_the_caller([] { return LoraConfig(); }), kSeed);
  });
  expect_adapter([&] {
    return constructed<LoraAdapter>(network, made_by_the_caller([] { return LoraConfig{.use_dora = true}; }),
                                    kSeed);
  });
  expect_adapter([&] {
    return constructed<AdaLoraAdapter>(network, made_by_the_caller([] { return AdaLoraConfig(); }), kSeed);
  });
  expect_adapter([&] {
    return constructed<BottleneckAdapter>(network, made_by_the_caller([] { return BottleneckConfig(); }),
                                          kSeed);
  });
  expect_adapter([&] { return constructed<BitFitAdapter>(network); });
  expect_adapter(
      [&] { return constructed<Ia3Adapter>(network, made_by_the_caller([] { return Ia3Config(); })); });
  const VirtualTokensConfig virtual_tokens{.num_virtual_tokens = 2};
  expect_adapter([&] { return constructed<PromptTuning>(network, virtual_tokens, kSeed); });
  const std::vector<TokenId> text{1, 2, 3};
  expect_adapter([&] { return constructed<PromptTuning>(network, virtual_tokens, text); });
  expect_adapter([&] { return constructed<PrefixTuning>(network, virtual_tokens, kSeed); });
  expect_adapter([&] {
    return constructed<StackedAdapter>(made_by_the_caller([&] {
      std::vector<StackedAdapter::Part> parts;
      parts.push_back({std::make_shared<LoraAdapter>(network, LoraConfig(), 1)});
      parts.push_back({std::make_shared<BitFitAdapter>(network)});
      return parts;
    }));
  });
}

TEST_F(EntryPoints, OfObjectivesTurnMissingMemoryIntoAMemoryError) {
  Model model = model_to_train();
  Gpt2& network = model.network();
  const std::vector<TokenId> ids{1, 2, 3, 4, 5, 6, 7, 8};
  const Sample sample{ids, ids}, pair{ids, ids, {}, {1, 2, 9}, {1, 2, 9}}, targeted{ids, {}, {1}};
  const auto expect_objective = [&](const std::function<std::shared_ptr<Objective>()>& make, Gpt2& of,
                                    const Sample& with) {
    expect_memory_errors(20, [&] { make(); });
    const std::shared_ptr<Objective> objective = make();
    expect_memory_errors(20, [&] { objective->describe(); });
    expect_memory_errors(20, [&] { objective->terms(with); });
    expect_memory_errors(20, [&] {
      const std::unique_ptr<Metrics> metrics = objective->metrics();
      if (metrics == nullptr) return;
      std::vector<std::vector<float>> outputs;
      Arena arena;
      objective->loss(of, {&with, 1}, arena, {.outputs = &outputs});
      for (const std::vector<float>& output : outputs) metrics->add(with, output);
      metrics->values();
    });
    const Parameters parameters(of);
    expect_memory_errors(100, [&] {
      Arena arena;
      Tape tape;
      parameters.watch(tape);
      objective->loss(of, {&with, 1}, arena, {.tape = &tape, .dropout = DropoutSeed{1, 2}});
      tape.backward();
    });
    expect_memory_errors(20, [&] { objective->add_penalty(parameters); });
    if (auto* const rows = dynamic_cast<RowObjective*>(objective.get()))
      expect_memory_errors(50, [&] {
        Arena arena;
        rows->rows(of, {&with, 1}, arena, {});
      });
  };
  const auto language_model = [] { return constructed<LanguageModelObjective>(); };
  expect_objective(language_model, network, sample);
  expect_objective([&] { return constructed<RDropObjective>(language_model()); }, network, sample);
  for (const AdversarialMethod method : {AdversarialMethod::kFgm, AdversarialMethod::kFreeLb})
    expect_objective(
        [&] {
          return constructed<AdversarialObjective>(language_model(), AdversarialOptions{.method = method});
        },
        network, sample);
  const Gpt2 teacher = test::random_network(test::tiny_config(), 2);
  expect_objective([&] { return constructed<DistillationObjective>(teacher); }, network, sample);
  expect_objective([&] { return constructed<PreferenceObjective>(network); }, network, pair);
  Classifier classifier(model_to_train(), {"a", "b"});
  const auto classification = [&] { return constructed<ClassificationObjective>(classifier); };
  expect_objective(classification, classifier.model().network(), targeted);
  expect_objective([&] { return constructed<ContrastiveObjective>(classification()); },
                   classifier.model().network(), targeted);
  const TextDataset text = TextDataset::from_tokens(ids, {.block_size = 4});
  const auto language_objective = language_model();
  expect_memory_errors(100, [&] { FisherInformation(model, *language_objective, text); });
  const auto fisher = std::make_shared<FisherInformation>(model, *language_objective, text);
  expect_objective([&] { return constructed<EwcObjective>(language_model(), fisher, 1.0); }, network, sample);
  expect_memory_errors(20,
                       [&] { EwcObjective(language_objective, fisher, 1.0).penalty(Parameters(network)); });
  const std::int64_t counts[] = {1, 2};
  expect_memory_errors(20, [&] { balanced_weights(counts); });
}

TEST_F(EntryPoints, OfDataSetsTurnMissingMemoryIntoAMemoryError) {
  const std::vector<TokenId> ids{1, 2, 3, 4, 5, 6, 7, 8};
  expect_memory_errors(
      20, [&] { TextDataset::from_tokens(made_by_the_caller([&] { return ids; }), {.block_size = 4}); });
  const TextDataset text = TextDataset::from_tokens(ids, {.block_size = 4});
  expect_memory_errors(20, [&] { text.at(0); });
  expect_memory_errors(20, [&] { text.split(0.5); });
  expect_memory_errors(20, [&] { ReplayDataset(text, text, 1.0, 1).at(0); });
  expect_memory_errors(20, [&] { count(text); });
  expect_memory_errors(20, [&] { plan_batches(text, epoch_order(2, 1, 0)); });
  const Sample pair{ids, ids, {}, ids, ids};
  expect_memory_errors(20, [&] {
    PreferenceDataset pairs(made_by_the_caller([&] { return std::vector<Sample>{pair, pair}; }));
    pairs.at(0);
    pairs.split(0.5);
  });
  const std::string word = "one that is too long for the string itself",
                    synonym = "another that is too long for the string itself";
  expect_memory_errors(20, [&] {
    Thesaurus words;
    words.add(made_by_the_caller([&] { return word; }), {&synonym, 1});
    static_cast<void>(words.synonyms("ONE THAT IS TOO LONG FOR THE STRING ITSELF"));
    const EdaAugmenter augmenter(std::move(words));
    augmenter("it is one that is too long for the string itself", 1);
  });
}

TEST_F(EntryPoints, OfATrainingTurnMissingMemoryIntoAMemoryError) {
  const test::TempDir dir;
  std::vector<TokenId> ids;
  for (TokenId i = 0; i < 64; ++i) ids.push_back(i);
  const TextDataset text = TextDataset::from_tokens(ids, {.block_size = 8});
  TrainingArguments arguments;
  arguments.max_steps = 2;
  arguments.save_steps = 1;
  arguments.save_total_limit = 1;
  arguments.output_dir = dir / "run";
  Model model = model_to_train();
  expect_memory_errors(20, [&] { arguments.validate(); });
  expect_memory_errors(20, [&] { Trainer trainer(model, made_by_the_caller([&] { return arguments; })); });
  expect_memory_errors(20, [&] { total_steps(text, arguments); });
  expect_memory_errors(100, [&] {
    made_by_the_caller([&] { return std::filesystem::remove_all(dir / "run"); });
    Trainer trainer(model, made_by_the_caller([&] { return arguments; }));
    trainer.fit(text, &text);
  });
  const TrainingLog log{.step = 1, .total_steps = 2, .loss = 3.5};
  const EvaluationLog evaluation{.step = 1, .eval_loss = 2.5};
  const std::filesystem::path metrics = dir / "a_name_too_long_for_the_string_itself.jsonl";
  expect_memory_errors(50, [&] {
    MetricsFile file(made_by_the_caller([&] { return metrics; }));
    file.add(log);
    file.add(evaluation);
    MetricsFile::read(metrics);
  });
  expect_memory_errors(50, [&] {
    MetricsFile file(made_by_the_caller([&] { return metrics; }), true);
    file.add(log);
  });
  const std::filesystem::path events = dir / "events";
  expect_memory_errors(50, [&] {
    TensorBoardWriter writer(made_by_the_caller([&] { return events; }));
    writer.add(log);
    writer.add(evaluation);
    writer.add(3, {{"a tag that is too long for the string itself", 1.5}});
    made_by_the_caller([&] { return std::filesystem::remove_all(events); });
  });
  TrainingReport report{.title = "a title that is too long for the string itself"};
  report.history = {{log, {.step = 2, .total_steps = 2, .loss = 3}}, {evaluation}};
  report.tables.push_back(table_of(arguments));
  expect_memory_errors(50, [&] { to_html(report); });
  expect_memory_errors(50, [&] { table_of(arguments); });
  const Gpt2Config config = test::tiny_config();
  expect_memory_errors(50, [&] { table_of(config); });
  expect_memory_errors(10,
                       [] { test::expect_refused([] { learning_rate_factor({.warmup_steps = -1}, 1); }); });
}

}  // namespace
}  // namespace gpt
