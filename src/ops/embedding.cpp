#include "gpt/ops/embedding.h"

#include <limits>

#include "gpt/core/parallel.h"
#include "ops/checks.h"

namespace gpt::ops {
namespace {

void check_rows(std::string_view op, std::span<const TokenId> ids, std::span<const std::int32_t> positions,
                std::int64_t tokens, std::int64_t places) {
  if (positions.size() != ids.size())
    fail<ShapeError>(op, positions.size(), " positions for ", ids.size(), " token ids");
  for (std::size_t r = 0; r < ids.size(); ++r) {
    if (ids[r] < 0 || ids[r] >= tokens)
      fail<ArgumentError>(op, "token id ", ids[r], " at row ", r, " is outside [0, ", tokens, ")");
    if (positions[r] < 0 || positions[r] >= places)
      fail<ArgumentError>(op, "position ", positions[r], " at row ", r, " is outside [0, ", places, ")");
  }
}

}  // namespace

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
  check_rows(op, ids, positions, wte.out, wpe.out);

  const kernels::EmbeddingArgs args{ids.data(), positions.data(), matrix(wte), matrix(wpe), y.data<float>()};
  const kernels::KernelTable& table = kernels::table();
  parallel_for(y.dim(0), grain_for(d),
               [&](std::int64_t begin, std::int64_t end) noexcept { table.embedding(args, begin, end); });
}

void embedding_backward(std::span<const TokenId> ids, std::span<const std::int32_t> positions,
                        ConstTensorView dy, TensorView dwte, TensorView dwpe) {
  constexpr std::string_view op = "embedding_backward";
  require_rank(op, "dy", dy, 2, "[R, D]");
  require_dtype(op, "dy", dy, DType::f32);
  const std::int64_t d = dy.dim(1);
  require_shape(op, "dy", dy, {static_cast<std::int64_t>(ids.size()), d}, "[R, D]");
  const auto rows_of = [&](std::string_view name, TensorView table) {
    if (table.raw() == nullptr) return std::numeric_limits<std::int64_t>::max();
    require_dtype(op, name, table, DType::f32);
    require_rank(op, name, table, 2, "[entries, D]");
    require_shape(op, name, table, {table.dim(0), d}, "[entries, D]");
    return table.dim(0);
  };
  check_rows(op, ids, positions, rows_of("dwte", dwte), rows_of("dwpe", dwpe));
  const kernels::EmbeddingBackwardArgs args{ids.data(),
                                            positions.data(),
                                            dy.data<float>(),
                                            dwte.raw() != nullptr ? dwte.data<float>() : nullptr,
                                            dwpe.raw() != nullptr ? dwpe.data<float>() : nullptr,
                                            dy.dim(0),
                                            d};
  const kernels::KernelTable& table = kernels::table();
  for_columns(d, dy.dim(0), [&](std::int64_t begin, std::int64_t end) noexcept {
    table.embedding_backward(args, begin, end);
  });
}

}  // namespace gpt::ops
