// A recorded training run: README 5.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "compare.h"
#include "corpus.h"
#include "expected.h"
#include "folders.h"
#include "gpt/core/rng.h"
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
  const auto expected = number_of(*entry.value, entry.name);
  return compare_real(found, expected, kLossTolerance * std::max(1.0, std::abs(expected)));
}

Outcome compare_count(std::size_t found, const Entry& entry) {
  return compare_real(static_cast<double>(found), number_of(*entry.value, entry.name), 0);
}

// The norm that the recorded run clips by: torch.nn.utils.clip_grad_norm_ sums squares in float32, in the 8 lanes of a vector,
// which is off by some 1e-5 in large matrices. Such a run is chaotic: that alone moves losses by 1e-3 within 200 steps.
double torch_norm(const Parameters& parameters) {
  constexpr std::size_t kLanes = 8;
  float squares = 0;
  for (const Parameter& p : parameters.all()) {
    const auto g = p.gradient.span<float>();
    std::array<float, kLanes> lanes{};
    std::size_t i = 0;
    for (; i + kLanes <= g.size(); i += kLanes)
      for (std::size_t j = 0; j < kLanes; ++j) lanes[j] += g[i + j] * g[i + j];
    float sum = std::accumulate(lanes.begin() + 1, lanes.end(), lanes[0]);
    for (; i < g.size(); ++i) sum += g[i] * g[i];
    const float norm = std::sqrt(sum);
    squares += norm * norm;
  }
  return static_cast<double>(std::sqrt(squares));
}

// The recorded run once more, from the weights in init/, or as far from them as a rounding is, the rows of its batches turned
// round by some.
class ParityRun {
 public:
  struct Step {
    double loss = 0, gradient_norm = 0;
  };

  ParityRun(const fs::path& init, std::span<const TokenId> train, std::size_t turned, float rounding)
      : model_(Model::load(init)), train_(train), turned_(turned) {
    const CounterRng rng(1);
    std::uint64_t i = 0;
    for (const Parameter& p : parameters_.all())
      for (float& w : p.value.span<float>()) w *= rng.uniform(i++) < 0.5 ? 1 - rounding : 1 + rounding;
  }

  const Gpt2& network() const { return model_.network(); }
  // Steps are made when the first that has not been made is asked for.
  const Step& step(std::size_t index) {
    while (steps_.size() <= index) make_step();
    return steps_[index];
  }
  static double learning_rate(std::size_t step) {
    return 1e-3 * std::min(1.0, static_cast<double>(step) / 20);
  }

 private:
  void make_step() {
    const std::size_t step = steps_.size();
    std::vector<LabelledSequence> batch;
    for (std::size_t b = 0; b < kBatch; ++b)
      batch.push_back(
          {train_.subspan((step * kBatch + b) * kWindow % (train_.size() - kWindow - 1), kWindow + 1)});
    std::rotate(batch.begin(), batch.begin() + static_cast<std::ptrdiff_t>(turned_), batch.end());
    parameters_.zero_gradients();
    Step made;
    made.loss = add_gradients(model_.network(), parameters_, arena_, batch);
    made.gradient_norm = torch_norm(parameters_);
    optimizer_.step(learning_rate(step), clip_factor(made.gradient_norm, 1.0));
    steps_.push_back(made);
  }

  Model model_;
  std::span<const TokenId> train_;
  std::size_t turned_;
  Parameters parameters_{model_.network()};
  AdamW optimizer_{parameters_,
                   {.adam_beta1 = 0.9, .adam_beta2 = 0.95, .adam_epsilon = 1e-8, .weight_decay = 0.1}};
  Arena arena_;
  std::vector<Step> steps_;
};

// What rounding alone does to the run: one that adds the same numbers in another order, and one from weights rounded otherwise,
// since every operation of PyTorch's may round so. Its own runs part as far (with the rows of a batch reversed it misses the
// recorded losses by up to 9e-4). One other run would be a draw that may part late or little.
class Rounding {
 public:
  Rounding(const fs::path& init, std::span<const TokenId> train)
      : run_(init, train, 0, 0), others_{ParityRun(init, train, 3, 0), ParityRun(init, train, 0, 0x1p-23f)} {}

  ParityRun& run() { return run_; }
  // Up to a step, and to some after it, of `steps` in all: where norms leap, one run leaps a few steps before another.
  double largest_difference(std::size_t step, std::size_t steps, double ParityRun::Step::*quantity) {
    constexpr std::size_t kSooner = 4;
    const std::size_t end = std::min(step + kSooner + 1, steps);
    double largest = 0;
    for (ParityRun& other : others_)
      for (std::size_t s = 0; s < end; ++s)
        largest = largest_of(largest, std::abs(other.step(s).*quantity / run_.step(s).*quantity - 1));
    return largest;
  }

 private:
  ParityRun run_;
  std::array<ParityRun, 2> others_;
};

std::size_t index_in(const Entry& entry) {
  return static_cast<std::size_t>(std::stoul(entry.name.substr(std::string_view("steps[").size())));
}

// A run's quantity: rounding takes every run its own way.
Outcome compare_in_run(double found, const Entry& entry, double tolerance) {
  return Outcome::compared(std::abs(found / number_of(*entry.value, entry.name) - 1), tolerance,
                           concat("relative; is ", found));
}

}  // namespace

bool knows_train_parity_file(std::string_view name) { return name == "losses.json"; }

bool is_train_parity_folder(const fs::path& folder) { return fs::exists(folder / "losses.json"); }

void check_train_parity_folder(const fs::path& folder, const std::string& name, const Settings& settings,
                               Report& report) {
  const std::string source = (folder / "losses.json").string();
  const Json document = read_json(source);
  const Model trained = Model::load(folder / "final");
  const auto tokenizer =
      load_tokenizer(has_tokenizer(folder) || !settings.tokenizer ? folder : *settings.tokenizer);

  std::vector<Rule> rules{{"steps[*].step", [](const Entry& e) {
                             const std::int64_t step = integer_of(*e.value, e.name);
                             return step == static_cast<std::int64_t>(index_in(e))
                                        ? Outcome::input()
                                        : Outcome::exact(1, concat("is ", step));
                           }}};
  Corpus corpus;
  std::optional<Rounding> runs;
  if (settings.corpus) {
    corpus = read_corpus(*settings.corpus, *tokenizer);
    if (corpus.train.size() < kWindow + 2 || corpus.validation.size() <= kWindow * kValidationWindows)
      throw Unreadable(concat(settings.corpus->string(), " is too short for a training run of this form"));
    runs.emplace(folder / "init", corpus.train);
    const std::size_t count = member(document, "steps", source).size();
    const std::size_t most = std::min(count, settings.train_steps.value_or(count));
    constexpr double kParts = 4;  // runs part by chance: some further than those that are compared here
    const auto in_step = [&, most](double ParityRun::Step::*quantity, double tolerance, double ceiling) {
      return [&, most, quantity, tolerance, ceiling](const Entry& e) {
        const std::size_t step = index_in(e);
        if (step >= most) return Outcome::skip();
        return compare_in_run(
            runs->run().step(step).*quantity, e,
            smallest_of(ceiling,
                        largest_of(tolerance, kParts * runs->largest_difference(step, most, quantity))));
      };
    };
    rules.insert(
        rules.end(),
        {{"train_tokens", [&](const Entry& e) { return compare_count(corpus.train.size(), e); }},
         {"val_tokens", [&](const Entry& e) { return compare_count(corpus.validation.size(), e); }},
         {"steps[*].loss", in_step(&ParityRun::Step::loss, kRunTolerance, kRunCeiling)},
         {"steps[*].grad_norm", in_step(&ParityRun::Step::gradient_norm, kNormTolerance, 1.0)},
         {"steps[*].lr",
          [&](const Entry& e) {
            return compare_real(ParityRun::learning_rate(index_in(e)), number_of(*e.value, e.name), 1e-12);
          }},
         {"val_loss_first_64_windows", [&, count, most](const Entry& e) {
            const auto loss_of = [&](const Gpt2& network) {
              return mean_window_loss(network, corpus.validation, kWindow, kValidationWindows);
            };
            const Outcome of_final = compare_loss(loss_of(trained.network()), e);
            if (most < count || !holds(of_final)) return of_final;
            const double parting = runs->largest_difference(count - 1, count, &ParityRun::Step::loss);
            return compare_in_run(loss_of(runs->run().network()), e,
                                  smallest_of(kRunCeiling, largest_of(kRunTolerance, kParts * parting)));
          }}});
  }
  judge_json(report, name, source, document, rules);
  const Checkpoint weights(folder / "final");  // rounding leads every run to other ones
  for (const std::string& tensor : weights.names()) report.add(name, "final/" + tensor, Outcome::input());
}

}  // namespace gpt::golden
