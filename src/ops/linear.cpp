#include "gpt/ops/linear.h"

#include "gpt/core/parallel.h"
#include "ops/checks.h"

namespace gpt::ops {
namespace {

/// Space for x rounded to integers.
kernels::PackedRows space_for_rows(const kernels::LinearArgs& args, Arena& scratch) {
  const auto take = [&]<class T>(std::int64_t count, DType dtype, T*& data) {
    const auto slack = kernels::kPackedSlack / static_cast<std::int64_t>(sizeof(T));
    data = scratch.take({count + slack}, dtype).template data<T>();
  };
  const std::int64_t padded = (args.k + kQuantizedStep - 1) / kQuantizedStep * kQuantizedStep;
  kernels::PackedRows rows;
  if (args.format == WeightFormat::int8) {
    take(args.m * padded, DType::i16, rows.x16);
    take(args.m, DType::f32, rows.scales);
  } else {
    const std::int64_t spans = args.spans();
    take(args.m * padded, DType::i8, rows.x8);
    take(args.m * spans, DType::f32, rows.scales);
    take(args.m * spans * 2, DType::i16, rows.minus_sums);
  }
  return rows;
}

/// Puts the matrix into float32 panels in `scratch`, where the blocks of rows are so many that copying every panel for each
/// of them would cost more.
void widen(kernels::LinearArgs& args, Arena& scratch) {
  constexpr std::int64_t kBlocks = 3;
  constexpr std::int64_t kMostBytes = std::int64_t{32} << 20;
  if (args.layout == WeightLayout::kPanels && args.format == WeightFormat::f32) return;
  const std::int64_t panels = args.panels();
  if (args.blocks() < kBlocks || panels * args.k * kPanelWidth * 4 > kMostBytes) return;
  float* const widened = scratch.take({panels, args.k, kPanelWidth}).data<float>();
  const kernels::KernelTable& table = kernels::table();
  parallel_for(
      panels, grain_for(4 * kPanelWidth * args.k),
      [&](std::int64_t begin, std::int64_t end) noexcept { table.widen_panels(args, widened, begin, end); });
  args.weight = widened;
  args.format = WeightFormat::f32;
  args.layout = WeightLayout::kPanels;
}

/// Divides a product of floats into tasks. Many rows share a copy of a panel. Where rows of x are long, panels that share
/// what is read of them are taken together, as far as that leaves every thread its part.
void divide(kernels::LinearArgs& args) {
  args.block_rows = kernels::table().linear_rows;
  if (args.k <= kernels::kNearInputs || args.residual == args.y) return;
  constexpr std::int64_t kTasks = 2;  // for each thread, at least
  const std::int64_t together = args.panel_groups() * args.blocks() / (kTasks * num_threads());
  args.task_panels *= std::max<std::int64_t>(1, together);
}

/// y [C, R] = C columns of x from `first` on, turned.
void transpose(ConstTensorView x, std::int64_t first, TensorView y) {
  const kernels::KernelTable& table = kernels::table();
  const float* from = x.data<float>() + first;
  float* to = y.data<float>();
  for_columns(y.dim(0), x.dim(0), [&](std::int64_t begin, std::int64_t end) noexcept {
    table.transpose(from, x.dim(1), to, x.dim(0), begin, end);
  });
}

/// y [C, N] += x^T W, for x [R, C] and W from R to N: some columns of x after another, which are turned where they are used.
void add_turned_product(ConstTensorView x, const Weight& weight, TensorView y, Arena& scratch) {
  constexpr std::int64_t kMostElements = std::int64_t{1} << 20;  // of x turned
  const std::int64_t rows = x.dim(0), columns = x.dim(1), n = weight.out;
  const std::int64_t together =
      std::max(kernels::kMostLinearRows, kMostElements / std::max<std::int64_t>(1, rows) /
                                             kernels::kMostLinearRows * kernels::kMostLinearRows);
  const Arena::Scope scope(scratch);
  const TensorView all = scratch.take({std::min(together, columns), rows});
  for (std::int64_t begin = 0; begin < columns; begin += together) {
    const std::int64_t count = std::min(together, columns - begin);
    const TensorView turned(all.raw(), DType::f32, {count, rows});
    transpose(x, begin, turned);
    const TensorView part(y.data<float>() + begin * n, {count, n});
    linear(turned, weight, {.residual = part}, part, scratch);
  }
}

/// A tensor over elements that someone else keeps, which are only read.
Tensor borrow(ConstTensorView x) {
  return Tensor::borrow(nullptr, const_cast<std::byte*>(x.raw()), x.shape(), x.dtype());
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
  auto* product = kernels::table().linear;
  if (weight.quantized() && !weight.weight_only) {
    const kernels::IntegerKernels& integer = kernels::integer_kernels();
    args.packed = space_for_rows(args, scratch);
    constexpr std::int64_t kWorkPerElement = 2;
    parallel_for(m, grain_for(kWorkPerElement * k),
                 [&](std::int64_t begin, std::int64_t end) noexcept { integer.pack_rows(args, begin, end); });
    product = integer.linear;
  } else {
    divide(args);
    widen(args, scratch);
  }
  const std::int64_t work = std::min(m, args.block_rows) * args.task_panels * kPanelWidth * k;
  parallel_for(
      args.tasks(), grain_for(work),
      [&](std::int64_t begin, std::int64_t end) noexcept { product(args, begin, end); },
      args.blocks() == 1 ? Sharing::kStretches : Sharing::kInterleaved);
}

void linear_backward(ConstTensorView x, const Weight& weight, ConstTensorView dy,
                     const LinearGradients& gradients, Arena& scratch) {
  constexpr std::string_view op = "linear_backward";
  weight.check(op);
  require_rank(op, "dy", dy, 2, "[M, N]");
  require_dtype(op, "dy", dy, DType::f32);
  const std::int64_t m = dy.dim(0), k = weight.in, n = weight.out;
  require_shape(op, "dy", dy, {m, n}, "[M, N]");
  if (gradients.dx.raw() != nullptr) {
    const bool in_panels = weight.layout == WeightLayout::kPanels;
    const WeightLayout layout = in_panels ? weight.file_layout : weight.layout;
    Weight turned{.in = n,
                  .out = k,
                  .layout = layout == WeightLayout::kInOut ? WeightLayout::kOutIn : WeightLayout::kInOut,
                  .values = in_panels ? dequantize(weight, layout) : weight.values};
    const ConstTensorView before = gradients.add_to_dx ? ConstTensorView(gradients.dx) : ConstTensorView();
    linear(dy, turned, {.residual = before}, gradients.dx, scratch);
  }
  if (gradients.dweight.raw() != nullptr) {
    require_shape(op, "x", x, {m, k}, "[M, K]");
    require_dtype(op, "x", x, DType::f32);
    require_shape(op, "dweight", gradients.dweight, weight.file_shape(), "the shape of the weight");
    const bool in_out = weight.file_layout == WeightLayout::kInOut;
    const ConstTensorView rows = in_out ? x : dy, columns = in_out ? dy : x;
    const Weight other{
        .in = m, .out = columns.dim(1), .layout = WeightLayout::kInOut, .values = borrow(columns)};
    add_turned_product(rows, other, gradients.dweight, scratch);
  }
  if (gradients.dbias.raw() != nullptr) {
    require_dtype(op, "dbias", gradients.dbias, DType::f32);
    require_elements(op, "dbias", gradients.dbias, n, "N");
    const float* rows = dy.data<float>();
    float* sums = gradients.dbias.data<float>();
    const kernels::KernelTable& table = kernels::table();
    for_columns(n, m, [&](std::int64_t begin, std::int64_t end) noexcept {
      table.add_column_sums(rows, m, n, sums, begin, end);
    });
  }
}

}  // namespace gpt::ops
