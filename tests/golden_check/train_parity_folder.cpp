// A recorded training run: README 5. What needs training is skipped so far.
#include <algorithm>
#include <cmath>

#include "compare.h"
#include "corpus.h"
#include "expected.h"
#include "folders.h"
#include "gpt/io/safetensors.h"
#include "network_run.h"
#include "tolerances.h"

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

// The mean loss over the batch of the first step.
double first_loss(const Gpt2& network, std::span<const TokenId> train) {
  LossSum loss;
  for (std::size_t b = 0; b < kBatch; ++b) {
    const std::size_t begin = b * kWindow % (train.size() - kWindow - 1);
    const LossSum sample = window_loss(network, train.subspan(begin, kWindow + 1));
    loss.sum += sample.sum;
    loss.count += sample.count;
  }
  return loss.mean();
}

}  // namespace

bool is_train_parity_folder(const fs::path& folder) { return fs::exists(folder / "losses.json"); }

void check_train_parity_folder(const fs::path& folder, const std::string& name, const Settings& settings,
                               Report& report) {
  const Json document = read_json(folder / "losses.json");
  const Model init = Model::load(folder / "init");
  const Model trained = Model::load(folder / "final");
  const auto tokenizer =
      load_tokenizer(has_tokenizer(folder) || !settings.tokenizer ? folder : *settings.tokenizer);

  std::vector<Rule> rules{{"steps[*].step", is_input}};
  Corpus corpus;
  if (settings.corpus) {
    corpus = read_corpus(*settings.corpus, *tokenizer);
    if (corpus.train.size() < kWindow + 2 || corpus.validation.size() <= kWindow * kValidationWindows)
      throw Unreadable(concat(settings.corpus->string(), " is too short for a training run of this form"));
    rules.insert(rules.end(),
                 {{"train_tokens", [&](const Entry& e) { return compare_count(corpus.train.size(), e); }},
                  {"val_tokens", [&](const Entry& e) { return compare_count(corpus.validation.size(), e); }},
                  {"steps[0].loss",
                   [&](const Entry& e) { return compare_loss(first_loss(init.network(), corpus.train), e); }},
                  {"val_loss_first_64_windows", [&](const Entry& e) {  // of the weights in final/
                     return compare_loss(
                         mean_window_loss(trained.network(), corpus.validation, kWindow, kValidationWindows),
                         e);
                   }}});
  }
  judge_json(report, name, document, rules);
  const Checkpoint weights(folder / "final");  // what 200 steps must lead to
  for (const std::string& tensor : weights.names()) report.add(name, "final/" + tensor, Outcome::skip());
}

}  // namespace gpt::golden
