#include "gpt/ops/embedding.h"

#include "gpt/core/parallel.h"
#include "ops/checks.h"

namespace gpt::ops {

void embedding(std::span<const TokenId> ids, std::span<const std::int32_t> positions, ConstTensorView wte,
               ConstTensorView wpe, TensorView y) {
  constexpr std::string_view op = "embedding";
  require_rank(op, "wte", wte, 2, "[V, D]");
  require_rank(op, "wpe", wpe, 2, "[P, D]");
  const std::int64_t d = wte.dim(1);
  require_weight_dtype(op, "wte", wte);
  require_weight_dtype(op, "wpe", wpe);
  require_shape(op, "wpe", wpe, {wpe.dim(0), d}, "[P, D]");
  require_dtype(op, "y", y, DType::f32);
  require_shape(op, "y", y, {static_cast<std::int64_t>(ids.size()), d}, "[R, D]");
  if (positions.size() != ids.size())
    fail<ShapeError>(op, positions.size(), " positions for ", ids.size(), " token ids");
  for (std::size_t r = 0; r < ids.size(); ++r) {
    if (ids[r] < 0 || ids[r] >= wte.dim(0))
      fail<ArgumentError>(op, "token id ", ids[r], " at row ", r, " is outside [0, ", wte.dim(0), ")");
    if (positions[r] < 0 || positions[r] >= wpe.dim(0))
      fail<ArgumentError>(op, "position ", positions[r], " at row ", r, " is outside [0, ", wpe.dim(0), ")");
  }

  const kernels::EmbeddingArgs args{ids.data(),   positions.data(), weights(wte),
                                    weights(wpe), y.data<float>(),  d};
  const kernels::KernelTable& table = kernels::table();
  parallel_for(y.dim(0), grain_for(d),
               [&](std::int64_t begin, std::int64_t end) noexcept { table.embedding(args, begin, end); });
}

}  // namespace gpt::ops
