#include "gpt/models/loss_rows.h"

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"

namespace gpt {

LossSum sum_of_losses(const LossRows& rows, Tape* tape, double scale, Arena& arena,
                      const std::stop_token& stop, std::span<LossSum> per_sequence) try {
  const DefaultFloatEnvironment environment;
  const std::size_t sequences = rows.begin.size() - 1;
  if (!per_sequence.empty() && per_sequence.size() != sequences)
    fail<ArgumentError>("loss", "room for ", per_sequence.size(), " sums of ", sequences, " sequences");
  std::vector<double> losses(rows.labels.size());
  autograd::head_loss(tape, rows.hidden, *rows.head, rows.labels, rows.loss, static_cast<float>(scale),
                      losses, arena, stop);
  LossSum total;
  for (std::size_t i = 0; i < sequences; ++i) {
    LossSum sum;
    for (auto row = static_cast<std::size_t>(rows.begin[i]);
         row < static_cast<std::size_t>(rows.begin[i + 1]); ++row) {
      sum.sum += losses[row];
      if (rows.labels[row] != kIgnoredLabel) sum.count += rows.terms;
    }
    if (!per_sequence.empty()) per_sequence[i] = sum;
    total.sum += sum.sum;
    total.count += sum.count;
  }
  return total;
} catch (...) {
  rethrow_with_memory_errors("loss");
}

}  // namespace gpt
