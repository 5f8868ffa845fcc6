// The loss that a language model learns from.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>

#include "gpt/autograd/tape.h"
#include "gpt/core/arena.h"
#include "gpt/models/gpt2.h"
#include "gpt/models/loss_rows.h"
#include "gpt/ops/loss.h"

namespace gpt {

/// A sequence to learn from. As in transformers, labels are not shifted: labels[t] is what position t - 1 shall predict, the
/// token itself or kIgnoredLabel; labels[0] is never predicted. Without labels every token is its own.
struct LabelledSequence {
  std::span<const TokenId> ids;
  std::span<const TokenId> labels = {};  // as many as ids, or none
};

struct LossOptions {
  Tape* tape = nullptr;                     // receives the gradient of scale times the sum of the losses
  double scale = 1;                         // 1 / (labels in the whole batch) for the gradient of their mean
  std::optional<DropoutSeed> dropout = {};  // as ForwardOptions
  bool gradient_checkpointing = false;      // as ForwardOptions
  DType activations = DType::f32;           // as ForwardOptions
  EmbeddingOffset* embedding_offset = nullptr;  // as ForwardOptions
  std::stop_token stop = {};                    // asked before every matrix product
  /// Where virtual tokens stand before a sequence whose last one predicts its first token (prompt tuning), labels[0] counts, as in
  /// PEFT.
  bool first_tokens = false;
  std::span<LossSum> per_sequence = {};  // receives the sum of each sequence, unless empty
  /// Of each row with a label. Rows are numbered (LossRow::index) by what is fed, the first sequence's first; with first_tokens,
  /// a sequence has a row more, which comes first.
  ops::RowLoss loss = ops::CrossEntropy();
};

/// The number of labels that a sequence's loss is about; first_token: labels[0] may be one, as LossOptions::first_tokens says.
std::int64_t count_labels(const LabelledSequence& sequence, bool first_token = false) noexcept;

/// The loss over sequences of 2 to n_positions + 1 tokens, of any lengths; the last token of each is predicted, not fed.
/// Throws as Gpt2::forward, ArgumentError for a label that is no token, and what the loss of a row throws.
LossSum language_model_loss(const Gpt2& network, std::span<const LabelledSequence> batch, Arena& arena,
                            const LossOptions& options = {});

/// What that loss is made of: the pass alone, on the tape, if there is one. Throws likewise.
LossRows language_model_rows(const Gpt2& network, std::span<const LabelledSequence> batch, Arena& arena,
                             const LossOptions& options = {});

}  // namespace gpt
