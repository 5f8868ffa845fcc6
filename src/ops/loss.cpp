#include "gpt/ops/loss.h"

#include "core/float_environment.h"
#include "gpt/core/math.h"
#include "ops/checks.h"

namespace gpt::ops {

void cross_entropy(TensorView logits, std::span<const TokenId> labels, float scale, std::span<double> losses,
                   Arena& scratch) {
  constexpr std::string_view op = "cross_entropy";
  require_rank(op, "logits", logits, 2, "[R, V]");
  require_dtype(op, "logits", logits, DType::f32);
  const std::int64_t rows = logits.dim(0), columns = logits.dim(1);
  if (labels.size() != static_cast<std::size_t>(rows) || losses.size() != labels.size())
    fail<ShapeError>(op, labels.size(), " labels and room for ", losses.size(),
                     " losses, expected R = ", rows);
  for (std::size_t r = 0; r < labels.size(); ++r)
    if (labels[r] < 0 || labels[r] >= columns)
      fail<ArgumentError>(op, "label ", labels[r], " at row ", r, " is outside [0, ", columns, ")");

  const DefaultFloatEnvironment environment;
  const Arena::Scope scope(scratch);
  kernels::CrossEntropyArgs args;
  args.x = logits.data<float>();
  args.labels = labels.data();
  args.columns = columns;
  args.scale = scale;
  args.label_logits = scratch.take({rows}).data<float>();
  args.max = scratch.take({rows}).data<float>();
  args.sums = scratch.take_span<double>(labels.size()).data();
  const kernels::KernelTable& table = kernels::table();
  constexpr std::int64_t kWorkPerElement = 16;  // an exponential, three times over the row
  parallel_for(rows, grain_for(kWorkPerElement * columns),
               [&](std::int64_t begin, std::int64_t end) noexcept { table.cross_entropy(args, begin, end); });
  for (std::size_t r = 0; r < losses.size(); ++r)
    losses[r] = static_cast<double>(args.max[r]) + math::log(args.sums[r]) -
                static_cast<double>(args.label_logits[r]);
}

}  // namespace gpt::ops
