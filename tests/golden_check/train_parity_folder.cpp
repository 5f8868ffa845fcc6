// A recorded training run: README 5.
#include <algorithm>
#include <cmath>

#include "compare.h"
#include "corpus.h"
#include "expected.h"
#include "folders.h"
#include "gpt/io/safetensors.h"
#include "gpt/train/adamw.h"
#include "tolerances.h"
#include "training_checks.h"

namespace gpt::golden {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kBatch = 8;
constexpr std::size_t kWindow = 128;
constexpr std::size_t kValidationWindows = 64;

Outcome compare_loss(double found, const Entry& entry) {
  const auto expected = entry.value->get<double>();
  return compare_real(found, expected, kLossTolerance * std::max(1.0, std::abs(expected)));
}

Outcome compare_count(std::size_t found, const Entry& entry) {
  return compare_real(static_cast<double>(found), entry.value->get<double>(), 0);
}

// The recorded run once more, from the weights in init/.
class ParityRun {
 public:
  struct Step {
    double loss = 0, gradient_norm = 0, rate = 0;
  };

  ParityRun(const fs::path& init, std::span<const TokenId> train)
      : model_(Model::load(init)), train_(train) {}

  const Gpt2& network() const { return model_.network(); }
  // Steps are made when the first that has not been made is asked for.
  const Step& step(std::size_t index) {
    while (steps_.size() <= index) make_step();
    return steps_[index];
  }

 private:
  void make_step() {
    const std::size_t step = steps_.size();
    std::vector<LabelledSequence> batch;
    for (std::size_t b = 0; b < kBatch; ++b)
      batch.push_back(
          {train_.subspan((step * kBatch + b) * kWindow % (train_.size() - kWindow - 1), kWindow + 1)});
    parameters_.zero_gradients();
    Step made;
    made.loss = add_gradients(model_.network(), parameters_, arena_, batch);
    made.gradient_norm = parameters_.gradient_norm();
    made.rate = 1e-3 * std::min(1.0, static_cast<double>(step) / 20);
    optimizer_.step(made.rate, clip_factor(made.gradient_norm, 1.0));
    steps_.push_back(made);
  }

  Model model_;
  std::span<const TokenId> train_;
  Parameters parameters_{model_.network()};
  AdamW optimizer_{parameters_,
                   {.adam_beta1 = 0.9, .adam_beta2 = 0.95, .adam_epsilon = 1e-8, .weight_decay = 0.1}};
  Arena arena_;
  std::vector<Step> steps_;
};

std::size_t index_in(const Entry& entry) {
  return static_cast<std::size_t>(std::stoul(entry.name.substr(std::string_view("steps[").size())));
}

// A run's quantity: rounding takes every run its own way.
Outcome compare_in_run(double found, const Entry& entry, double tolerance) {
  return Outcome::compared(std::abs(found / entry.value->get<double>() - 1), tolerance,
                           concat("relative; is ", found));
}

}  // namespace

bool is_train_parity_folder(const fs::path& folder) { return fs::exists(folder / "losses.json"); }

void check_train_parity_folder(const fs::path& folder, const std::string& name, const Settings& settings,
                               Report& report) {
  const Json document = read_json(folder / "losses.json");
  const Model trained = Model::load(folder / "final");
  const auto tokenizer =
      load_tokenizer(has_tokenizer(folder) || !settings.tokenizer ? folder : *settings.tokenizer);

  std::vector<Rule> rules{{"steps[*].step", is_input}};
  Corpus corpus;
  std::optional<ParityRun> run;
  if (settings.corpus) {
    corpus = read_corpus(*settings.corpus, *tokenizer);
    if (corpus.train.size() < kWindow + 2 || corpus.validation.size() <= kWindow * kValidationWindows)
      throw Unreadable(concat(settings.corpus->string(), " is too short for a training run of this form"));
    run.emplace(folder / "init", corpus.train);
    const std::size_t count = document.at("steps").size();
    const auto in_step = [&](double ParityRun::Step::*quantity, double tolerance) {
      return [&, quantity, tolerance](const Entry& e) {
        return compare_in_run(run->step(index_in(e)).*quantity, e, tolerance);
      };
    };
    rules.insert(rules.end(),
                 {{"train_tokens", [&](const Entry& e) { return compare_count(corpus.train.size(), e); }},
                  {"val_tokens", [&](const Entry& e) { return compare_count(corpus.validation.size(), e); }},
                  {"steps[*].loss", in_step(&ParityRun::Step::loss, kRunTolerance)},
                  {"steps[*].grad_norm", in_step(&ParityRun::Step::gradient_norm, kRunNormTolerance)},
                  {"steps[*].lr",
                   [&](const Entry& e) {
                     return compare_real(1e-3 * std::min(1.0, static_cast<double>(index_in(e)) / 20),
                                         e.value->get<double>(), 1e-12);
                   }},
                  {"val_loss_first_64_windows", [&, count](const Entry& e) {
                     const auto loss_of = [&](const Gpt2& network) {
                       return mean_window_loss(network, corpus.validation, kWindow, kValidationWindows);
                     };
                     const Outcome of_final = compare_loss(loss_of(trained.network()), e);
                     if (!holds(of_final)) return of_final;
                     run->step(count - 1);
                     return compare_in_run(loss_of(run->network()), e, kRunTolerance);
                   }}});
  }
  judge_json(report, name, document, rules);
  const Checkpoint weights(folder / "final");  // rounding leads every run to other ones
  for (const std::string& tensor : weights.names()) report.add(name, "final/" + tensor, Outcome::input());
}

}  // namespace gpt::golden
