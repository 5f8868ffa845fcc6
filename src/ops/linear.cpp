#include "gpt/ops/linear.h"

#include <algorithm>
#include <atomic>
#include <span>

#include "gpt/core/parallel.h"
#include "ops/checks.h"

namespace gpt::ops {
namespace {

/// Space for x rounded to integers: the most that kernels of any instruction set need.
kernels::PackedRows space_for_rows(const kernels::LinearArgs& args, Arena& scratch) {
  const auto take = [&]<class T>(std::int64_t count, DType dtype, T*& data) {
    const auto slack = kernels::kPackedSlack / static_cast<std::int64_t>(sizeof(T));
    data = scratch.take({count + slack}, dtype).template data<T>();
  };
  const std::int64_t spans = args.spans();
  kernels::PackedRows rows;
  take(args.m * kernels::PackedRows::row_bytes(args.format, args.k), DType::i8, rows.x);
  take(args.m * spans, DType::f32, rows.scales);
  take(args.m * spans * 2, DType::i16, rows.minus_sums);
  return rows;
}

/// Multiply-adds of a task.
std::int64_t task_work(const kernels::LinearArgs& args) {
  return std::min(args.m, args.block_rows) * args.task_panels * kPanelWidth * args.k;
}

/// Divides a product of floats into tasks. A panel that is copied serves all rows of its task, so that a task has many of them as
/// far as that leaves every thread its part; those whose sums need space of their own are short.
void divide(kernels::LinearArgs& args) {
  constexpr std::int64_t kTasks = 12;  // for each thread
  constexpr std::int64_t kFewestRows = 128, kRows = 256, kMostRows = 1024;
  constexpr std::int64_t kNearDepth =
      128;  // so that copies of few rows' panels stay in the first-level cache
  if (args.m <= kernels::kFewRows && !args.in_place()) args.depth = kNearDepth;
  args.block_rows = kRows;
  if (args.sum_floats() > 0) return;
  const std::int64_t groups = std::max<std::int64_t>(1, args.panel_groups());
  const std::int64_t blocks = (kTasks * num_threads() + groups - 1) / groups;
  const std::int64_t rows = (args.m + blocks - 1) / blocks;
  const std::int64_t fewest = groups * (args.m / kRows) < num_threads() ? kFewestRows : kRows;
  args.block_rows = std::clamp(rows, fewest, kMostRows);
  // Rows that leave the caches before they are read again meet several panels at a time.
  constexpr std::int64_t kNearElements = std::int64_t{4} << 20;
  constexpr std::int64_t kFewestTasks = 2;  // for each thread
  if (args.depths() > 1 && args.m * args.k > kNearElements)
    args.task_panels *= std::max<std::int64_t>(1, groups * args.blocks() / (kFewestTasks * num_threads()));
}

/// Puts the matrix into float32 panels in `scratch`, where the blocks of rows are so many that copying every panel for each
/// of them would cost more.
void widen(kernels::LinearArgs& args, Arena& scratch) {
  constexpr std::int64_t kBlocks = 3;
  constexpr std::int64_t kMostBytes = std::int64_t{32} << 20;
  if (args.in_place()) return;
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

/// The space of the calls of a product of floats that run at once.
class LinearSpaces {
 public:
  LinearSpaces(const kernels::LinearArgs& args, Arena& scratch) : copied_(args.copied_floats()) {
    size_ = kernels::table().streams(args) ? 0 : copied_ + args.sum_floats();
    if (size_ == 0) return;
    const std::int64_t ranges = args.tasks() / grain_for(task_work(args));
    const std::int64_t calls = std::clamp<std::int64_t>(ranges, 1, num_threads());
    taken_ = scratch.take_span<int>(static_cast<std::size_t>(calls));
    std::fill(taken_.begin(), taken_.end(), 0);
    floats_ = scratch.take({calls, size_}).data<float>();
  }

  /// Calls f(a space that nobody else has meanwhile), and waits for one where all are taken.
  template <class F>
  void with_one(F f) const noexcept {
    if (size_ == 0) return f(kernels::LinearSpace{});
    std::size_t i = 0;
    while (std::atomic_ref(taken_[i]).exchange(1, std::memory_order_acquire) != 0)
      i = (i + 1) % taken_.size();
    float* const floats = floats_ + static_cast<std::int64_t>(i) * size_;
    f(kernels::LinearSpace{.copies = floats, .sums = floats + copied_});
    std::atomic_ref(taken_[i]).store(0, std::memory_order_release);
  }

 private:
  std::int64_t copied_, size_ = 0;
  std::span<int> taken_;
  float* floats_ = nullptr;
};

/// A product of floats.
void multiply(kernels::LinearArgs args, Arena& scratch) {
  const ThreadLimit as_many(num_threads());  // as there are spaces for: none waits for another's
  const Arena::Scope scope(scratch);
  divide(args);
  widen(args, scratch);
  const LinearSpaces spaces(args, scratch);
  const kernels::KernelTable& table = kernels::table();
  parallel_for(
      args.tasks(), grain_for(task_work(args)),
      [&](std::int64_t begin, std::int64_t end) noexcept {
        spaces.with_one([&](const kernels::LinearSpace& space) noexcept {
          kernels::LinearArgs own = args;
          own.space = space;
          table.linear(own, begin, end);
        });
      },
      // Next comes what a task has asked for; but rows of x that leave the caches rather meet several threads' panels.
      args.task_panels == kernels::kTaskPanels ? Sharing::kStretches : Sharing::kInterleaved);
}

/// A product of integers.
void multiply_integers(kernels::LinearArgs args, Arena& scratch) {
  const Arena::Scope scope(scratch);
  const kernels::IntegerKernels& integer = kernels::integer_kernels();
  args.packed = space_for_rows(args, scratch);
  constexpr std::int64_t kWorkPerElement = 2;
  parallel_for(args.m, grain_for(kWorkPerElement * args.k),
               [&](std::int64_t begin, std::int64_t end) noexcept { integer.pack_rows(args, begin, end); });
  parallel_for(
      args.tasks(), grain_for(task_work(args)),
      [&](std::int64_t begin, std::int64_t end) noexcept { integer.linear(args, begin, end); },
      args.blocks() == 1 ? Sharing::kStretches : Sharing::kInterleaved);
}

/// y [C, N] += x^T W, for x [R, C] and W from R to N: some columns of x after another, which are turned where they are used.
void add_turned_product(ConstTensorView x, const Weight& weight, TensorView y, Arena& scratch) {
  constexpr std::int64_t kTurnedElements = std::int64_t{1} << 20;
  constexpr std::int64_t kFewestColumns = 256, kTogether = kPanelWidth;
  const std::int64_t rows = x.dim(0), columns = x.dim(1);
  // Odd multiples of a line: the first-level cache has few places for numbers that lie a power of two apart.
  const std::int64_t stride = (((rows + kTogether - 1) / kTogether) | 1) * kTogether;
  const std::int64_t most =
      std::max(kFewestColumns, kTurnedElements / stride / kFewestColumns * kFewestColumns);
  const Arena::Scope scope(scratch);
  float* const turned = scratch.take({std::min(most, columns), stride}).data<float>();
  const kernels::KernelTable& table = kernels::table();
  for (std::int64_t first = 0; first < columns; first += most) {
    const std::int64_t count = std::min(most, columns - first);
    parallel_for((rows + kTogether - 1) / kTogether, grain_for(2 * kTogether * count),
                 [&](std::int64_t begin, std::int64_t end) noexcept {
                   table.transpose(x.data<float>() + first, columns, turned, stride, count, begin * kTogether,
                                   std::min(end * kTogether, rows));
                 },
                 Sharing::kStretches);
    kernels::LinearArgs args;
    static_cast<kernels::Matrix&>(args) = matrix(weight);
    args.x = turned;
    args.x_stride = stride;
    args.m = count;
    args.y = y.data<float>() + first * weight.out;
    args.residual = args.y;
    multiply(args, scratch);
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
  args.x_stride = k;
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
  if (weight.quantized() && !weight.weight_only)
    multiply_integers(args, scratch);
  else
    multiply(args, scratch);
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
