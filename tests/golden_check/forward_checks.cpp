#include "forward_checks.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "compare.h"
#include "gpt/ops/softmax.h"
#include "tolerances.h"

namespace gpt::golden {
namespace {

std::size_t checked_column(TokenId column, std::size_t vocab_size) {
  if (static_cast<std::size_t>(column) >= vocab_size)
    throw Unreadable(concat("logits_cols holds ", column, ", outside the vocabulary of ", vocab_size));
  return static_cast<std::size_t>(column);
}

}  // namespace

std::vector<Rule> ForwardChecks::tensor_rules() {
  const auto check = [this](Outcome (ForwardChecks::*method)(const Entry&)) {
    return [this, method](const Entry& entry) {
      run();
      return (this->*method)(entry);
    };
  };
  const auto hidden_at = [this](const Entry& entry) {
    run();
    const std::string_view number = std::string_view(entry.name).substr(std::string_view("hidden.").size());
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), index);
    if (error != std::errc() || end != number.data() + number.size() ||
        index > static_cast<std::size_t>(network_.config().n_layer))
      throw Unreadable(concat(expected_.source(), ": ", entry.name, " is no hidden state of this network"));
    return hidden(entry, index);
  };
  const auto hidden_final = [this](const Entry& entry) {
    run();
    return hidden(entry, static_cast<std::size_t>(network_.config().n_layer) + 1);
  };
  return {
      {"logits", check(&ForwardChecks::logits)},
      {"logits_sel", check(&ForwardChecks::selected_logits)},
      {"logits_lse", check(&ForwardChecks::log_sum_exp)},
      {"logits_argmax", check(&ForwardChecks::argmax)},
      {"logits_last", check(&ForwardChecks::last_logits)},
      {"hidden_final", hidden_final},
      {"hidden.*", hidden_at},
      {"token_logprobs", check(&ForwardChecks::token_log_probs)},
      {"seq_logprob", check(&ForwardChecks::sequence_log_prob)},
      {"loss", check(&ForwardChecks::loss_tensor)},
  };
}

std::vector<Rule> ForwardChecks::json_rules() {
  return {{"loss", [this](const Entry& entry) { return loss_number(entry); }}};
}

void ForwardChecks::run() {
  if (run_) return;
  const Shape& shape = expected_.shape("input_ids");
  if (shape.rank() != 2 || shape.numel() == 0)
    throw Unreadable(
        concat(expected_.source(), ": input_ids has shape ", shape.to_string(), ", expected [B, T]"));
  rows_ = shape[0];
  row_length_ = shape[1];
  ids_ = token_ids(expected_.ints("input_ids"), "input_ids");
  run_ = run_batch(network_, ids_, rows_);
}

std::span<const float> ForwardChecks::row(std::int64_t r) const {
  const auto V = static_cast<std::size_t>(network_.config().vocab_size);
  return run_->output.logits.span<float>().subspan(static_cast<std::size_t>(r) * V, V);
}

Outcome ForwardChecks::logits(const Entry& entry) {
  const auto expected = expected_.reals(
      entry.name, {rows_, shown_virtual_tokens(network_) + row_length_, network_.config().vocab_size});
  return compare_reals(std::span<const float>(run_->output.logits.span<float>()), expected,
                       kActivationTolerance * expected_.scale(entry.name));
}

Outcome ForwardChecks::selected_logits(const Entry& entry) {
  const auto columns = token_ids(expected_.ints("logits_cols"), "logits_cols");
  const auto expected =
      expected_.reals(entry.name, {rows_, row_length_, static_cast<std::int64_t>(columns.size())});
  std::vector<float> found;
  for (std::int64_t r = 0; r < rows_ * row_length_; ++r)
    for (const TokenId column : columns) found.push_back(row(r)[checked_column(column, row(r).size())]);
  return compare_reals(std::span<const float>(found), expected,
                       kActivationTolerance * expected_.scale(entry.name));
}

Outcome ForwardChecks::log_sum_exp(const Entry& entry) {
  const auto expected = expected_.reals(entry.name, {rows_, row_length_});
  std::vector<double> found(expected.size());
  ops::log_sum_exp(run_->output.logits, found);
  return compare_reals(std::span<const double>(found), expected,
                       kActivationTolerance * expected_.scale(entry.name));
}

Outcome ForwardChecks::argmax(const Entry& entry) {
  const auto expected = expected_.ints(entry.name, {rows_, row_length_});
  std::vector<std::int64_t> found;
  for (std::int64_t r = 0; r < rows_ * row_length_; ++r)
    found.push_back(std::ranges::any_of(row(r), [](float x) { return std::isnan(x); })
                        ? -1  // the best of what has no order is none
                        : std::ranges::max_element(row(r)) - row(r).begin());
  return compare_ints(std::span<const std::int64_t>(found), expected);
}

Outcome ForwardChecks::last_logits(const Entry& entry) {
  const auto expected = expected_.reals(entry.name, {rows_, network_.config().vocab_size});
  std::vector<float> found;
  for (std::int64_t b = 1; b <= rows_; ++b) {
    const auto last = row(b * row_length_ - 1);
    found.insert(found.end(), last.begin(), last.end());
  }
  return compare_reals(std::span<const float>(found), expected,
                       kActivationTolerance * expected_.scale(entry.name));
}

Outcome ForwardChecks::hidden(const Entry& entry, std::size_t index) {
  const auto expected = expected_.reals(entry.name, {rows_, row_length_, network_.config().n_embd});
  return compare_reals(std::span<const float>(run_->output.hidden_states.at(index).span<float>()), expected,
                       kActivationTolerance * expected_.scale(entry.name));
}

std::vector<double> ForwardChecks::next_token_log_probs() const {
  std::vector<TokenId> next(ids_.begin() + 1, ids_.end());
  next.push_back(0);
  const std::vector<double> all = log_probs(run_->output.logits, next);
  std::vector<double> out;
  for (std::size_t i = 0; i < all.size(); ++i)
    if ((i + 1) % static_cast<std::size_t>(row_length_) != 0)
      out.push_back(all[i]);  // the last has no successor
  return out;
}

Outcome ForwardChecks::token_log_probs(const Entry& entry) {
  const auto expected = expected_.reals(entry.name, {rows_, row_length_ - 1});
  const std::vector<double> found = next_token_log_probs();
  return compare_reals(std::span<const double>(found), expected,
                       kActivationTolerance * expected_.scale(entry.name));
}

Outcome ForwardChecks::sequence_log_prob(const Entry& entry) {
  const auto expected = expected_.reals(entry.name, {rows_});
  const std::vector<double> terms = next_token_log_probs();
  std::vector<double> found(expected.size());
  for (std::size_t i = 0; i < terms.size(); ++i)
    found[i / static_cast<std::size_t>(row_length_ - 1)] += terms[i];
  return compare_reals(std::span<const double>(found), expected,
                       kActivationTolerance * expected_.scale(entry.name));
}

double ForwardChecks::loss() {
  run();
  const auto of_tokens = expected_.labels("labels", {rows_, row_length_});
  std::vector<std::int64_t> labels;  // none at virtual tokens
  for (std::int64_t b = 0; b < rows_; ++b) {
    constexpr std::int64_t kIgnored = -100;
    labels.insert(labels.end(), static_cast<std::size_t>(shown_virtual_tokens(network_)), kIgnored);
    const auto row = of_tokens.begin() + b * row_length_;
    labels.insert(labels.end(), row, row + row_length_);
  }
  return shifted_loss(run_->output.logits, labels, rows_).mean();
}

Outcome ForwardChecks::loss_tensor(const Entry& entry) {
  return compare_real(loss(), static_cast<double>(expected_.reals(entry.name, {1})[0]),
                      kLossTolerance * expected_.scale(entry.name));
}

Outcome ForwardChecks::loss_number(const Entry& entry) {
  const auto expected = number_of(*entry.value, entry.name);
  return compare_real(loss(), expected, kLossTolerance * std::max(1.0, std::abs(expected)));
}

namespace {

// A padded batch: its inputs, and the logits of the library.
class PaddedBatch {
 public:
  PaddedBatch(const Gpt2& network, const ExpectedTensors& expected, std::string prefix)
      : expected_(expected), prefix_(std::move(prefix)) {
    shape_ = expected.shape(prefix_ + "input_ids");
    if (shape_.rank() != 2)
      throw Unreadable(concat(expected.source(), ": ", prefix_, "input_ids has shape ", shape_.to_string(),
                              ", expected [B, T]"));
    const auto ids = expected.ints(prefix_ + "input_ids");
    mask_ = expected.ints(prefix_ + "attention_mask", shape_);
    logits_ =
        logits_of_padded(network, ConstTensorView(ids.data(), shape_), ConstTensorView(mask_.data(), shape_));
  }

  Outcome logits(const Entry& entry) const {
    const std::int64_t V = logits_.dim(2);
    return compare_at_tokens(entry, logits_.span<float>(), V);
  }

  Outcome selected_logits(const Entry& entry) const {
    const auto columns = token_ids(expected_.ints("logits_cols"), "logits_cols");
    const auto V = static_cast<std::size_t>(logits_.dim(2));
    std::vector<float> found;
    for (std::size_t r = 0; r < mask_.size(); ++r)
      for (const TokenId column : columns)
        found.push_back(logits_.span<float>()[r * V + checked_column(column, V)]);
    return compare_at_tokens(entry, found, static_cast<std::int64_t>(columns.size()));
  }

  Outcome loss(const Entry& entry) const {
    const auto labels = expected_.labels(prefix_ + "labels", shape_);
    const ConstTensorView rows(logits_.data<float>(), Shape{shape_.numel(), logits_.dim(2)});
    return compare_real(shifted_loss(rows, labels, shape_[0]).mean(),
                        static_cast<double>(expected_.reals(entry.name, {1})[0]),
                        kLossTolerance * expected_.scale(entry.name));
  }

 private:
  // Padding is undefined, and never compared.
  Outcome compare_at_tokens(const Entry& entry, std::span<const float> found, std::int64_t width) const {
    const auto expected = expected_.reals(entry.name, {shape_[0], shape_[1], width});
    return compare_reals(found, expected, kActivationTolerance * expected_.scale(entry.name),
                         [&](std::size_t i) { return mask_[i / static_cast<std::size_t>(width)] != 0; });
  }

  const ExpectedTensors& expected_;
  std::string prefix_;
  Shape shape_;  // [B, T]
  std::span<const std::int64_t> mask_;
  Tensor logits_;
};

// "pad_left_logits": the batch is named by all up to the second underscore.
std::string prefix_of(const std::string& name) {
  return name.substr(0, name.find('_', std::string_view("pad_").size()) + 1);
}

// The library counts positions by the mask. They must be those of the file: the number of tokens before, and within the context
// where there is padding.
Outcome check_positions(const Gpt2& network, const ExpectedTensors& expected, const Entry& entry) {
  const Shape& shape = expected.shape(entry.name);
  if (shape.rank() != 2)
    throw Unreadable(
        concat(expected.source(), ": ", entry.name, " has shape ", shape.to_string(), ", expected [B, T]"));
  const auto positions = expected.ints(entry.name);
  const auto mask = expected.ints(prefix_of(entry.name) + "attention_mask", shape);
  const auto row_length = static_cast<std::size_t>(shape[1]);
  std::int64_t wrong = 0, tokens = 0;
  std::string detail;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    if (i % row_length == 0) tokens = 0;
    const bool is_right = mask[i] != 0 ? positions[i] == tokens++
                                       : positions[i] >= 0 && positions[i] < network.config().n_positions;
    if (!is_right && wrong++ == 0)
      detail = concat("element ", i, " is ", positions[i], ", which is not its position by the mask");
  }
  return wrong == 0 ? Outcome::input() : Outcome::exact(wrong, detail);
}

}  // namespace

std::vector<Rule> padded_tensor_rules(const Gpt2& network, const ExpectedTensors& expected) {
  const auto check = [&network, &expected](Outcome (PaddedBatch::*method)(const Entry&) const) {
    return [&network, &expected, method](const Entry& entry) {
      return (PaddedBatch(network, expected, prefix_of(entry.name)).*method)(entry);
    };
  };
  return {
      {"pad_*_logits", check(&PaddedBatch::logits)},
      {"pad_*_logits_sel", check(&PaddedBatch::selected_logits)},
      {"pad_*_loss", check(&PaddedBatch::loss)},
      {"pad_*_position_ids",
       [&network, &expected](const Entry& entry) { return check_positions(network, expected, entry); }},
  };
}

}  // namespace gpt::golden
