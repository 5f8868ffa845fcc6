// Judges what comes out of a forward pass: README 2.1, 2.2 (the loss), 2.5 and 2.8.
#pragma once

#include <optional>
#include <vector>

#include "expected.h"
#include "gpt/models/gpt2.h"
#include "network_run.h"

namespace gpt::golden {

/// The batch input_ids [B, T]: logits, hidden states, log-probabilities, loss. Both arguments must outlive it
/// and its rules.
class ForwardChecks {
 public:
  ForwardChecks(const Gpt2& network, const ExpectedTensors& expected)
      : network_(network), expected_(expected) {}

  std::vector<Rule> tensor_rules();
  std::vector<Rule> json_rules();

 private:
  void run();  // once, before the first comparison

  Outcome logits(const Entry& entry);
  Outcome selected_logits(const Entry& entry);
  Outcome log_sum_exp(const Entry& entry);
  Outcome argmax(const Entry& entry);
  Outcome last_logits(const Entry& entry);
  Outcome hidden(const Entry& entry, std::size_t index);
  Outcome token_log_probs(const Entry& entry);
  Outcome sequence_log_prob(const Entry& entry);
  Outcome loss_tensor(const Entry& entry);
  Outcome loss_number(const Entry& entry);

  std::span<const float> row(std::int64_t r) const;  // of the logits
  std::vector<double> next_token_log_probs() const;  // [B, T - 1]
  double loss();

  const Gpt2& network_;
  const ExpectedTensors& expected_;
  std::optional<BatchRun> run_;
  std::vector<TokenId> ids_;
  std::int64_t rows_ = 0;        // B
  std::int64_t row_length_ = 0;  // T
};

/// Rules for the batches pad_left_* and pad_right_*.
std::vector<Rule> padded_tensor_rules(const Gpt2& network, const ExpectedTensors& expected);

}  // namespace gpt::golden
