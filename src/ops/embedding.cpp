#include "gpt/ops/embedding.h"

#include "gpt/core/parallel.h"
#include "ops/checks.h"

namespace gpt::ops {

void embedding(std::span<const TokenId> ids, std::span<const std::int32_t> positions, const Weight& wte,
               const Weight& wpe, TensorView y) {
  constexpr std::string_view op = "embedding";
  wte.check("embedding: wte");
  wpe.check("embedding: wpe");
  for (const Weight* table : {&wte, &wpe})
    if (table->layout == WeightLayout::kInOut)
      fail<ShapeError>(op, "a table lies as [D, entries], expected [entries, D] or panels");
  const std::int64_t d = wte.in;
  if (wpe.in != d) fail<ShapeError>(op, "wpe has ", wpe.in, " columns, expected D = ", d);
  require_dtype(op, "y", y, DType::f32);
  require_shape(op, "y", y, {static_cast<std::int64_t>(ids.size()), d}, "[R, D]");
  if (positions.size() != ids.size())
    fail<ShapeError>(op, positions.size(), " positions for ", ids.size(), " token ids");
  for (std::size_t r = 0; r < ids.size(); ++r) {
    if (ids[r] < 0 || ids[r] >= wte.out)
      fail<ArgumentError>(op, "token id ", ids[r], " at row ", r, " is outside [0, ", wte.out, ")");
    if (positions[r] < 0 || positions[r] >= wpe.out)
      fail<ArgumentError>(op, "position ", positions[r], " at row ", r, " is outside [0, ", wpe.out, ")");
  }

  const kernels::EmbeddingArgs args{ids.data(), positions.data(), matrix(wte), matrix(wpe), y.data<float>()};
  const kernels::KernelTable& table = kernels::table();
  parallel_for(y.dim(0), grain_for(d),
               [&](std::int64_t begin, std::int64_t end) noexcept { table.embedding(args, begin, end); });
}

}  // namespace gpt::ops
