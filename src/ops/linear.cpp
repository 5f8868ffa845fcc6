#include "gpt/ops/linear.h"

#include "gpt/core/parallel.h"
#include "ops/checks.h"

namespace gpt::ops {
namespace {

/// Rounds x to integers in `scratch`.
void pack_rows(kernels::LinearArgs& args, Arena& scratch) {
  const std::int64_t padded = (args.k + kQuantizedStep - 1) / kQuantizedStep * kQuantizedStep;
  kernels::PackedRows& rows = args.packed;
  if (args.format == WeightFormat::int8) {
    rows.x16 = scratch.take({args.m, padded}, DType::i16).data<std::int16_t>();
    rows.scales = scratch.take({args.m}).data<float>();
  } else {
    const std::int64_t spans = args.spans();
    rows.x8 = scratch.take({args.m, padded}, DType::i8).data<std::int8_t>();
    rows.scales = scratch.take({args.m, spans}).data<float>();
    rows.minus_sums = scratch.take({args.m, spans, 2}, DType::i16).data<std::int16_t>();
  }
  const kernels::KernelTable& table = kernels::table();
  constexpr std::int64_t kWorkPerElement = 2;
  parallel_for(args.m, grain_for(kWorkPerElement * args.k),
               [&](std::int64_t begin, std::int64_t end) noexcept { table.pack_rows(args, begin, end); });
}

}  // namespace

void linear(ConstTensorView x, const Weight& weight, const LinearEpilogue& epilogue, TensorView y,
            Arena& scratch) {
  constexpr std::string_view op = "linear";
  weight.check(op);
  require_rank(op, "x", x, 2, "[M, K]");
  const std::int64_t m = x.dim(0), k = weight.in, n = weight.out;
  require_dtype(op, "x", x, DType::f32);
  require_dtype(op, "y", y, DType::f32);
  require_shape(op, "x", x, {m, k}, "[M, K]");
  require_shape(op, "y", y, {m, n}, "[M, N]");

  kernels::LinearArgs args;
  static_cast<kernels::Matrix&>(args) = matrix(weight);
  args.x = x.data<float>();
  if (epilogue.bias.raw() != nullptr) {
    require_weight_dtype(op, "bias", epilogue.bias);
    require_elements(op, "bias", epilogue.bias, n, "N");
    args.bias = weights(epilogue.bias);
  }
  args.activation = epilogue.activation;
  if (epilogue.residual.raw() != nullptr) {
    require_dtype(op, "residual", epilogue.residual, DType::f32);
    require_shape(op, "residual", epilogue.residual, {m, n}, "[M, N]");
    args.residual = epilogue.residual.data<float>();
  }
  args.y = y.data<float>();
  args.m = m;
  const Arena::Scope scope(scratch);
  if (weight.quantized() && !weight.weight_only) pack_rows(args, scratch);
  const kernels::KernelTable& table = kernels::table();
  const std::int64_t work = std::min(m, kernels::kLinearRows) * kernels::kTaskPanels * kPanelWidth * k;
  parallel_for(
      args.tasks(), grain_for(work),
      [&](std::int64_t begin, std::int64_t end) noexcept { table.linear(args, begin, end); },
      args.blocks() == 1 ? Sharing::kStretches : Sharing::kInterleaved);
}

}  // namespace gpt::ops
