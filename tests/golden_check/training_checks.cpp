#include "training_checks.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "compare.h"
#include "gpt/train/adamw.h"
#include "tolerances.h"

namespace gpt::golden {
namespace {

constexpr int kSteps = 5;  // of AdamW

// Rows of equal length and their labels; several such batches when the tensor is [S, B, T].
struct Batches {
  std::vector<TokenId> ids, labels;
  std::size_t row_length = 0, rows = 0;  // of one batch

  Batches(const ExpectedTensors& expected, const std::string& ids_name, const std::string& labels_name,
          int rank) {
    const Shape& shape = expected.shape(ids_name);
    if (shape.rank() != rank || shape.numel() == 0)
      throw Unreadable(concat(expected.source(), ": ", ids_name, " has shape ", shape.to_string()));
    if (rank == 3 && shape[0] < kSteps)
      throw Unreadable(concat(expected.source(), ": ", ids_name, " has shape ", shape.to_string(),
                              ", expected batches of ", kSteps, " steps"));
    ids = token_ids(expected.ints(ids_name), ids_name);
    const std::string& from = expected.contains(labels_name) ? labels_name : ids_name;
    for (const std::int64_t label : expected.labels(from, shape))
      labels.push_back(static_cast<TokenId>(label));
    row_length = static_cast<std::size_t>(shape[rank - 1]);
    rows = static_cast<std::size_t>(shape[rank - 2]);
  }

  std::vector<LabelledSequence> batch(std::size_t index) const {
    std::vector<LabelledSequence> all;
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t begin = (index * rows + r) * row_length;
      all.push_back(
          {std::span(ids).subspan(begin, row_length), std::span(labels).subspan(begin, row_length)});
    }
    return all;
  }
};

std::map<std::string, Tensor> copies(const Parameters& parameters, TensorView Parameter::*which) {
  std::map<std::string, Tensor> all;
  for (const Parameter& p : parameters.all()) {
    Tensor copy = Tensor::empty(p.value.shape());
    std::ranges::copy((p.*which).span<float>(), copy.data<float>());
    all.emplace(p.name, std::move(copy));
  }
  return all;
}

/// The rows of the matrix that the tensor `key` names.
std::vector<float> selected_rows(const Tensor& matrix, const ExpectedTensors& expected,
                                 const std::string& key) {
  const auto fail = [&](const auto&... what) {
    throw Unreadable(concat(expected.source(), ": ", key, " ", what...));
  };
  if (matrix.shape().rank() != 2)
    fail("is given for shape ", matrix.shape().to_string(), ", which has no rows");
  std::vector<float> out;
  const auto columns = static_cast<std::size_t>(matrix.dim(1));
  for (const std::int64_t row : expected.ints(key)) {
    if (row < 0 || row >= matrix.dim(0)) fail("holds ", row, ", expected rows from 0 to ", matrix.dim(0) - 1);
    const auto from = matrix.span<float>().subspan(static_cast<std::size_t>(row) * columns, columns);
    out.insert(out.end(), from.begin(), from.end());
  }
  return out;
}

Parameters learned(Gpt2& network) {
  return network.adapter() != nullptr ? Parameters(*network.adapter()) : Parameters(network);
}

}  // namespace

double add_gradients(const Gpt2& network, const Parameters& parameters, Arena& arena,
                     std::span<const LabelledSequence> batch) {
  std::int64_t count = 0;
  const bool first_tokens = network.predicts_first_token();
  for (const LabelledSequence& sequence : batch) count += count_labels(sequence, first_tokens);
  arena.reset();
  Tape tape;
  parameters.watch(tape);
  const gpt::LossSum loss =
      language_model_loss(network, batch, arena,
                          {.tape = &tape, .scale = 1.0 / static_cast<double>(count), .first_tokens = true});
  tape.backward();
  return loss.mean();
}

Outcome compare_trained(std::span<const float> found, std::span<const float> expected,
                        const std::string& name, int steps) {
  const bool has_keys = name.ends_with("attn.c_attn.bias");
  const std::size_t d = expected.size() / 3;
  std::vector<double> errors;
  double key_error = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
    if (std::isnan(error))
      return Outcome::compared(error, kTrainedTolerance, concat("element ", i, " is NaN"));
    if (has_keys && i >= d && i < 2 * d)
      key_error = largest_of(key_error, error);
    else
      errors.push_back(error);
  }
  const double key_limit = kTrainedKeyTolerance * steps, outlier_limit = kTrainedOutlierTolerance * steps;
  if (key_error > key_limit) return Outcome::compared(key_error, key_limit, "in the bias of the keys");
  std::ranges::sort(errors, std::greater());
  if (!errors.empty() && errors.front() > outlier_limit)
    return Outcome::compared(errors.front(), outlier_limit, "in one element");
  const std::size_t outliers = std::max<std::size_t>(1, errors.size() / 1000);
  return Outcome::compared(outliers < errors.size() ? errors[outliers] : 0.0, kTrainedTolerance,
                           concat("in all but ", outliers, " elements"));
}

TrainingChecks::Quantity TrainingChecks::quantity_of(const std::string& entry) {
  const std::size_t dot = entry.find('.');
  Quantity quantity{entry.substr(0, dot), entry.substr(dot + 1)};
  constexpr std::string_view suffix = "_rows";
  if (quantity.kind.ends_with(suffix)) {
    quantity.rows = true;
    quantity.kind.resize(quantity.kind.size() - suffix.size());
  }
  return quantity;
}

std::vector<Rule> TrainingChecks::tensor_rules() {
  const auto check = [this](Outcome (TrainingChecks::*method)(const Entry&)) {
    return [this, method](const Entry& entry) { return (this->*method)(entry); };
  };
  return {
      {"grad.*", check(&TrainingChecks::gradient)},
      {"grad_rows.*", check(&TrainingChecks::gradient)},
      {"adamw1.*", check(&TrainingChecks::parameter)},
      {"adamw1_rows.*", check(&TrainingChecks::parameter)},
      {"adamw5.*", check(&TrainingChecks::parameter)},
      {"adamw5_rows.*", check(&TrainingChecks::parameter)},
      {"train_loss", check(&TrainingChecks::train_loss)},
      {"train_grad_norm", check(&TrainingChecks::train_gradient_norm)},
  };
}

std::vector<Rule> TrainingChecks::json_rules() {
  return {{"grad_norm", [this](const Entry& entry) { return gradient_norm(entry); }},
          {"norms.*.l2", [this](const Entry& entry) { return norm(entry); }},
          {"norms.*.sum", [this](const Entry& entry) { return norm(entry); }}};
}

std::vector<Rule> TrainingChecks::recipe_rules() {
  return {{"adamw", [this](const Entry& entry) { return recipe(entry); }}};
}

// The constants are used; of the list, the library's own choice must be the same: what a step makes smaller that has no
// gradients to learn from.
Outcome TrainingChecks::recipe(const Entry& entry) {
  const auto decayed = entry.value->find("decayed");
  if (!entry.value->is_object() || decayed == entry.value->end()) return Outcome::input();
  std::set<std::string> expected, found;
  for (const Json& name : *decayed) expected.insert(string_of(name, "adamw.decayed"));
  Model model = load_();
  Parameters parameters = learned(model.network());
  for (const Parameter& p : parameters.all()) std::ranges::fill(p.value.span<float>(), 1.0f);
  parameters.zero_gradients();
  AdamW(parameters, {.weight_decay = 0.5}).step(0.5);
  for (const Parameter& p : parameters.all())
    if (p.value.span<float>().front() < 1.0f) found.insert(p.name);
  std::vector<std::string> different;
  std::ranges::set_symmetric_difference(expected, found, std::back_inserter(different));
  if (different.empty()) return Outcome::input();
  return Outcome::exact(
      static_cast<std::int64_t>(different.size()),
      concat("decayed ", expected.contains(different.front()) ? "names " : "lacks ", different.front()));
}

void TrainingChecks::differentiate() {
  if (found_.contains("grad")) return;
  Model model = load_();
  const Batches batches(expected_, "input_ids", "labels", 2);
  const Parameters parameters = learned(model.network());
  Arena arena;
  add_gradients(model.network(), parameters, arena, batches.batch(0));
  gradient_norm_ = parameters.gradient_norm();
  found_["grad"] = copies(parameters, &Parameter::gradient);
}

void TrainingChecks::train() {
  if (found_.contains("adamw5")) return;
  Model model = load_();
  const Batches batches(expected_, "train_input_ids", "train_labels", 3);
  Parameters parameters = learned(model.network());
  const auto constant = [&](const char* key) {
    const std::string where = expected_.document();
    if (recipe_.is_null())
      throw Unreadable(concat(where, " has no adamw, which ", expected_.source(), " needs"));
    return number_of(member(recipe_, key, where + ": adamw"), concat(where, ": adamw.", key));
  };
  const double rate = constant("lr"), clip_norm = constant("clip_norm");
  AdamW optimizer(parameters, {.adam_beta1 = constant("beta1"),
                               .adam_beta2 = constant("beta2"),
                               .adam_epsilon = constant("eps"),
                               .weight_decay = constant("weight_decay")});
  Arena arena;
  for (std::size_t step = 0; step < kSteps; ++step) {
    parameters.zero_gradients();
    losses_.push_back(add_gradients(model.network(), parameters, arena, batches.batch(step)));
    norms_.push_back(parameters.gradient_norm());
    optimizer.step(rate, clip_factor(norms_.back(), clip_norm));
    if (step == 0) found_["adamw1"] = copies(parameters, &Parameter::value);
  }
  found_["adamw5"] = copies(parameters, &Parameter::value);
}

const Tensor& TrainingChecks::found(const Quantity& quantity) {
  quantity.kind == "grad" ? differentiate() : train();
  const auto& all = found_.at(quantity.kind);
  const auto it = all.find(quantity.name);
  if (it == all.end()) throw Unreadable(concat(expected_.source(), ": the network has no ", quantity.name));
  return it->second;
}

Outcome TrainingChecks::gradient(const Entry& entry) {
  const Quantity quantity = quantity_of(entry.name);
  const Tensor& gradient = found(quantity);
  const double tolerance = kGradientTolerance * expected_.scale(entry.name);
  if (!quantity.rows)
    return compare_reals(gradient.span<float>(), expected_.reals(entry.name, gradient.shape()), tolerance);
  const std::string rows = "rows." + quantity.name;
  const std::vector<float> selected = selected_rows(gradient, expected_, rows);
  return compare_reals(std::span(selected),
                       expected_.reals(entry.name, {expected_.shape(rows).numel(), gradient.dim(1)}),
                       tolerance);
}

Outcome TrainingChecks::parameter(const Entry& entry) {
  const Quantity quantity = quantity_of(entry.name);
  const Tensor& parameter = found(quantity);
  const int steps = quantity.kind == "adamw1" ? 1 : 5;
  if (!quantity.rows)
    return compare_trained(parameter.span<float>(), expected_.reals(entry.name, parameter.shape()),
                           quantity.name, steps);
  const std::string rows = "rows." + quantity.name;
  const std::vector<float> selected = selected_rows(parameter, expected_, rows);
  return compare_trained(selected,
                         expected_.reals(entry.name, {expected_.shape(rows).numel(), parameter.dim(1)}),
                         quantity.name, steps);
}

Outcome TrainingChecks::train_loss(const Entry& entry) {
  train();
  return compare_reals(std::span<const double>(losses_), expected_.reals(entry.name, {5}),
                       kLossTolerance * expected_.scale(entry.name));
}

Outcome TrainingChecks::train_gradient_norm(const Entry& entry) {
  train();
  const auto expected = expected_.reals(entry.name, {5});
  double largest = 0;
  for (std::size_t i = 0; i < norms_.size(); ++i)
    largest = largest_of(largest, std::abs(norms_[i] / static_cast<double>(expected[i]) - 1));
  return Outcome::compared(largest, kNormTolerance, "relative");
}

Outcome TrainingChecks::gradient_norm(const Entry& entry) {
  differentiate();
  return Outcome::compared(std::abs(gradient_norm_ / number_of(*entry.value, entry.name) - 1), kNormTolerance,
                           "relative");
}

// norms.<kind>.<parameter>.l2 and .sum, of tensors that are stored in part.
Outcome TrainingChecks::norm(const Entry& entry) {
  const std::string path = entry.name.substr(std::string_view("norms.").size());
  const std::size_t dot = path.rfind('.');
  const Quantity quantity = quantity_of(path.substr(0, dot));
  const Tensor& tensor = found(quantity);
  double squares = 0, sum = 0;
  for (const float x : tensor.span<float>()) {
    squares += static_cast<double>(x) * static_cast<double>(x);
    sum += static_cast<double>(x);
  }
  const auto expected = number_of(*entry.value, entry.name);
  if (path.substr(dot + 1) == "l2")
    return Outcome::compared(std::abs(std::sqrt(squares) / expected - 1), kNormTolerance, "relative");
  // Errors of the elements, as large as each may be, that do not know of each other.
  const double each = quantity.kind == "grad" ? kGradientTolerance : kTrainedTolerance;
  return compare_real(sum, expected, each * std::sqrt(static_cast<double>(tensor.numel())));
}

}  // namespace gpt::golden
