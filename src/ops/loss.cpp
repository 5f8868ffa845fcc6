#include "gpt/ops/loss.h"

#include "core/parallel_try.h"
#include "gpt/core/math.h"
#include "ops/checks.h"

namespace gpt::ops {

CrossEntropy::CrossEntropy(double label_smoothing_factor) : smoothing_(label_smoothing_factor) {
  if (!(smoothing_ >= 0 && smoothing_ <= 1))
    fail<ArgumentError>("cross_entropy", "label_smoothing_factor is ", smoothing_, ", expected 0 to 1");
}

double CrossEntropy::operator()(const LossRow& row) const {
  kernels::CrossEntropyArgs args;
  args.x = row.logits.data();
  args.columns = static_cast<std::int64_t>(row.logits.size());
  args.label = row.label;
  args.scale = row.scale;
  args.smoothing = smoothing_;
  const kernels::CrossEntropyTerms t = kernels::table().cross_entropy(args);
  const double log_sum = math::log(t.sum);
  const double loss = static_cast<double>(t.max) + log_sum - static_cast<double>(t.label_logit);
  if (smoothing_ == 0) return loss;
  return (1 - smoothing_) * loss + smoothing_ * (log_sum - t.below_max / static_cast<double>(args.columns));
}

void row_losses(const RowLoss& loss, TensorView logits, std::span<const std::int64_t> rows,
                std::span<const TokenId> labels, float scale, std::span<double> losses) {
  constexpr std::string_view op = "row_losses";
  require_rank(op, "logits", logits, 2, "[R, V]");
  require_dtype(op, "logits", logits, DType::f32);
  const std::int64_t columns = logits.dim(1);
  if (!loss) fail<ArgumentError>(op, "there is no loss");
  if (rows.size() != static_cast<std::size_t>(logits.dim(0)) || losses.size() != labels.size())
    fail<ShapeError>(op, rows.size(), " rows of ", labels.size(), " labels and ", losses.size(),
                     " losses, expected R = ", logits.dim(0), " rows, and a loss for each label");
  std::int64_t last = -1;
  for (const std::int64_t r : rows) {
    if (r < 0 || r >= static_cast<std::int64_t>(labels.size()))
      fail<ArgumentError>(op, "row ", r, " is outside [0, ", labels.size(), ")");
    if (const TokenId label = labels[static_cast<std::size_t>(r)]; label < 0 || label >= columns)
      fail<ArgumentError>(op, "label ", label, " at row ", r, " is outside [0, ", columns, ")");
    if (r <= last) fail<ArgumentError>(op, "row ", r, " comes after row ", last, ", expected ascending rows");
    last = r;
  }
  constexpr std::int64_t kWorkPerElement = 16;  // an exponential, three times over the row
  parallel_try(logits.dim(0), grain_for(kWorkPerElement * columns), [&](std::int64_t i) {
    const auto r = static_cast<std::size_t>(rows[static_cast<std::size_t>(i)]);
    const std::span<float> row(logits.data<float>() + i * columns, static_cast<std::size_t>(columns));
    losses[r] = loss({row, labels[r], static_cast<std::int64_t>(r), scale});
  });
}

}  // namespace gpt::ops
