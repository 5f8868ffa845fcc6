#include "classification_checks.h"

#include <algorithm>

#include "compare.h"
#include "gpt/train/parameters.h"
#include "tolerances.h"

namespace gpt::golden {
namespace {

/// The classifier of the folder, with another problem_type: the same weights serve all three losses.
Classifier load_for(const std::filesystem::path& checkpoint, const std::string& kind) {
  const Classifier loaded = Classifier::load(checkpoint);
  const ProblemType type = kind.empty()       ? ProblemType::kSingleLabel
                           : kind == "_multi" ? ProblemType::kMultiLabel
                                              : ProblemType::kRegression;
  Classifier classifier(loaded.model(), loaded.labels(), type);
  classifier.score() = loaded.score();
  return classifier;
}

/// "left_grad_multi.wpe.weight" is {"left", "_multi", "wpe.weight"}; so is "left_loss_multi", without a parameter.
struct Quantity {
  std::string side, kind, parameter;

  Quantity(const std::string& entry, std::string_view what) {
    const std::size_t underscore = entry.find('_');
    side = entry.substr(0, underscore);
    const std::size_t begin = underscore + 1 + what.size();
    const std::size_t dot = std::min(entry.find('.'), entry.size());
    kind = entry.substr(begin, dot - begin);
    if (dot < entry.size()) parameter = entry.substr(dot + 1);
  }
};

}  // namespace

std::vector<Rule> ClassificationChecks::tensor_rules() {
  const auto check = [this](Outcome (ClassificationChecks::*method)(const Entry&)) {
    return [this, method](const Entry& entry) { return (this->*method)(entry); };
  };
  std::vector<Rule> rules;
  for (const auto& [logits, loss, gradient] :
       {std::array<std::string_view, 3>{"right_logits", "right_loss*", "right_grad*"},
        std::array<std::string_view, 3>{"left_logits", "left_loss*", "left_grad*"}}) {
    rules.push_back({logits, check(&ClassificationChecks::logits)});
    rules.push_back({loss, check(&ClassificationChecks::loss)});
    rules.push_back({gradient, check(&ClassificationChecks::gradient)});
  }
  return rules;
}

std::vector<Rule> ClassificationChecks::json_rules() {
  const auto check = [this](const Entry& entry) { return loss(entry); };
  return {{"right_loss*", check}, {"left_loss*", check}};
}

const ClassificationChecks::Run& ClassificationChecks::run(const std::string& side, const std::string& kind) {
  const auto [it, is_new] = runs_.try_emplace(side + kind);
  Run& run = it->second;
  if (!is_new) return run;
  Classifier classifier = load_for(checkpoint_, kind);
  const auto name = [&](const char* what) { return concat(side, "_", what); };
  const Shape& shape = expected_.shape(name("input_ids"));
  if (shape.rank() != 2)
    throw Unreadable(concat(expected_.source(), ": ", name("input_ids"), " is no matrix"));
  const auto ids = token_ids(expected_.ints(name("input_ids")), name("input_ids"));
  const auto mask = expected_.ints(name("attention_mask"), shape);
  const std::int64_t rows = shape[0], columns = classifier.num_labels();

  std::vector<std::vector<TokenId>> sequences(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (mask[i] != 0) sequences[i / static_cast<std::size_t>(shape[1])].push_back(ids[i]);
  std::vector<float> targets;
  if (kind.empty()) {
    for (const std::int64_t label : expected_.ints(name("labels"), {rows}))
      targets.push_back(static_cast<float>(label));
  } else {
    std::ranges::copy(expected_.reals(concat(side, "_labels", kind), {rows, columns}),
                      std::back_inserter(targets));
  }
  const std::size_t each = targets.size() / sequences.size();
  std::vector<TargetedSequence> batch;
  for (std::size_t i = 0; i < sequences.size(); ++i)
    batch.push_back({sequences[i], std::span(targets).subspan(i * each, each)});

  const Parameters parameters(classifier.model().network(), {}, DType::f32,
                              [&](const auto& f) { classifier.visit_head(f); });
  Arena arena;
  Tape tape;
  parameters.watch(tape);
  Tensor logits = Tensor::empty({rows, columns});
  const std::int64_t terms = kind.empty() ? rows : rows * columns;
  const gpt::LossSum sum = classification_loss(
      classifier, batch, arena, {.tape = &tape, .scale = 1.0 / static_cast<double>(terms), .logits = logits});
  tape.backward();
  run.loss = sum.mean();
  std::ranges::copy(logits.span<float>(), std::back_inserter(run.logits));
  for (const Parameter& p : parameters.all()) {
    Tensor copy = Tensor::empty(p.gradient.shape());
    std::ranges::copy(p.gradient.span<float>(), copy.data<float>());
    run.gradients.emplace(p.name, std::move(copy));
  }
  // What is asked for alone is what was learned from.
  const Tensor alone = classifier.logits(sequences);
  if (!std::ranges::equal(alone.span<float>(), logits.span<float>()))
    throw Error("the logits of an evaluation are not those of the loss");
  return run;
}

Outcome ClassificationChecks::logits(const Entry& entry) {
  const Run& found = run(Quantity(entry.name, "logits").side, "");
  const auto expected = expected_.reals(entry.name, expected_.shape(entry.name));
  if (found.logits.size() != expected.size())
    throw Unreadable(concat(expected_.source(), ": ", entry.name, " is not of the checkpoint's labels"));
  return compare_reals(std::span<const float>(found.logits), expected,
                       kActivationTolerance * expected_.scale(entry.name));
}

Outcome ClassificationChecks::loss(const Entry& entry) {
  const Quantity quantity(entry.name, "loss");
  const double expected = entry.value != nullptr ? number_of(*entry.value, entry.name)
                                                 : static_cast<double>(expected_.reals(entry.name, {1})[0]);
  return compare_real(run(quantity.side, quantity.kind).loss, expected,
                      kLossTolerance * expected_.scale(entry.name));
}

Outcome ClassificationChecks::gradient(const Entry& entry) {
  const Quantity quantity(entry.name, "grad");
  const auto& all = run(quantity.side, quantity.kind).gradients;
  const auto found = all.find(quantity.parameter);
  if (found == all.end())
    throw Unreadable(concat(expected_.source(), ": the network has no ", quantity.parameter));
  const Tensor& gradient = found->second;
  return compare_reals(gradient.span<float>(), expected_.reals(entry.name, gradient.shape()),
                       kGradientTolerance * expected_.scale(entry.name));
}

}  // namespace gpt::golden
