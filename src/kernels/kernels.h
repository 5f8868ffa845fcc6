// The kernels' interface: plain structs of pointers and extents, and one table of functions per instruction
// set. Shapes are checked by src/ops before a kernel is called; kernels are noexcept and allocate nothing.
//
// Every function works on a range of its independent results, so that ops can divide them among threads. The
// generic bodies (*.inl) define the arithmetic; they are compiled once per instruction set over the 16-lane
// vector F32x16.
#pragma once

#include <cstdint>

#include "gpt/core/dtype.h"
#include "gpt/ops/activation.h"
#include "gpt/ops/attention.h"
#include "gpt/ops/weight.h"

namespace gpt::kernels {

/// A vector of parameters in its file's type.
struct Weights {
  const void* data = nullptr;
  DType dtype = DType::f32;
};

/// A weight matrix, as ops::Weight describes it, from K inputs to N outputs.
struct Matrix {
  const void* weight = nullptr;
  ops::WeightFormat format = ops::WeightFormat::f32;
  ops::WeightLayout layout = ops::WeightLayout::kInOut;
  std::int64_t k = 0, n = 0;
  Weights scales;                             // of a quantized matrix
  const std::uint8_t* zero_points = nullptr;  // of an asymmetric one
  std::int64_t group_size = 0;                // of a quantized matrix; 0: per channel

  std::int64_t panels() const noexcept { return (n + ops::kPanelWidth - 1) / ops::kPanelWidth; }
  std::int64_t groups() const noexcept { return ops::groups_of(k, group_size); }
  /// Inputs whose integer products are summed exactly (kernels/linear_integer.inl).
  [[gnu::always_inline]] std::int64_t span() const noexcept {  // always: see tests/structure/isa_objects.sh
    return group_size == 32 || zero_points != nullptr ? 32 : 64;
  }
  [[gnu::always_inline]] std::int64_t spans() const noexcept { return (k + span() - 1) / span(); }
};

/// The rows of x rounded to integers of 8 bits, in the register tiles of the instruction set: a tile of R rows that begins at row m
/// is an array [.., R, ..] that begins where row m of an array of whole rows would. K is rounded up to a multiple of 8 with
/// zeros. Behind each array lie kPackedSlack bytes that may be read.
inline constexpr std::int64_t kPackedSlack = 64;
struct PackedRows {
  /// Tiles [words, R] of 4 bytes: 4 inputs, or 2 as 16 bits (int8_pairs.inl); for matrix units see linear_tiles.inl.
  std::int8_t* x = nullptr;
  float* scales = nullptr;  // tiles [spans, R]
  /// Tiles [spans, R, 2], minus the sums of x where k % 4 < 2, and where not. Only words of 4 inputs need them.
  std::int16_t* minus_sums = nullptr;

  /// The most bytes of a row in x.
  static constexpr std::int64_t row_bytes(ops::WeightFormat format, std::int64_t k) noexcept {
    const std::int64_t padded = (k + ops::kQuantizedStep - 1) / ops::kQuantizedStep * ops::kQuantizedStep;
    return format == ops::WeightFormat::int8 ? 2 * padded : padded;
  }
};

/// Of one running call of a product of floats: see LinearArgs::copied_floats() and sum_floats().
struct LinearSpace {
  float* copies = nullptr;
  float* sums = nullptr;
};

/// See ops::linear. A task is task_panels neighbouring panels of one block of at most block_rows rows, panels running
/// fastest; the blocks are as even as possible, so that tasks cost the same. Integer products have blocks of kLinearRows.
inline constexpr std::int64_t kTaskPanels = 4;  // task_panels is a multiple
inline constexpr std::int64_t kLinearRows = 128;
inline constexpr std::int64_t kMostDepth = 1024;
inline constexpr std::int64_t kFewRows = 48;  // which are soon done with a block of panels
struct LinearArgs : Matrix {
  const float* x = nullptr;   // [M, K]
  std::int64_t x_stride = 0;  // from row to row; products of integers read x as it is packed, from whole rows
  PackedRows packed;          // x for a product of integers, or nothing
  Weights bias;               // [N], data may be null
  ops::Activation activation = ops::Activation::kNone;
  const float* residual = nullptr;  // [M, N] or null
  float* y = nullptr;               // [M, N]
  std::int64_t m = 0;
  std::int64_t block_rows = kLinearRows, task_panels = kTaskPanels;
  std::int64_t depth =
      kMostDepth;  // inputs that a product of floats takes at once, at most kMostDepth, a multiple of 16
  LinearSpace space;

  std::int64_t blocks() const noexcept { return (m + block_rows - 1) / block_rows; }
  std::int64_t block_begin(std::int64_t block) const noexcept { return m * block / blocks(); }
  std::int64_t panel_groups() const noexcept { return (panels() + task_panels - 1) / task_panels; }
  std::int64_t tasks() const noexcept { return panel_groups() * blocks(); }

  /// The inputs are taken in depths() blocks, block d from depth_begin(d) on.
  [[gnu::always_inline]] std::int64_t depths() const noexcept {
    return k <= depth ? 1 : (k + depth - 1) / depth;
  }
  [[gnu::always_inline]] std::int64_t depth_begin(std::int64_t d) const noexcept {
    constexpr std::int64_t kEven = 16;  // rounded up: so no block has more than `depth`
    return d == depths() ? k : (k * d / depths() + kEven - 1) / kEven * kEven;
  }
  /// Whether the matrix lies as panels of floats. Else blocks of it are copied.
  [[gnu::always_inline]] bool in_place() const noexcept {
    return layout == ops::WeightLayout::kPanels && format == ops::WeightFormat::f32;
  }
  /// Whether sums wait in y while there are inputs left: it has a place for each, and nobody needs what is there.
  [[gnu::always_inline]] bool sums_in_y() const noexcept {
    return residual != y && n % ops::kPanelWidth == 0;
  }
  /// Floats of a call's panels [kTaskPanels, inputs of a block, 16], and of the sums [rows of a block, kTaskPanels, 16] that wait
  /// elsewhere.
  std::int64_t copied_floats() const noexcept {
    return in_place() ? 0 : kTaskPanels * (k < depth ? k : depth) * ops::kPanelWidth;
  }
  std::int64_t sum_floats() const noexcept {
    const std::int64_t rows = m < block_rows ? m : block_rows;
    return depths() == 1 || sums_in_y() ? 0 : rows * kTaskPanels * ops::kPanelWidth;
  }
};

/// See ops::layer_norm; the range is of rows.
struct LayerNormArgs {
  const float* x = nullptr;
  Weights gamma, beta;
  float epsilon = 0;
  float* y = nullptr;
  std::int64_t columns = 0;
};

/// See ops::layer_norm_backward.
struct LayerNormBackwardArgs {
  const float* x = nullptr;
  const float* dy = nullptr;
  Weights gamma;
  float epsilon = 0;
  float* dx = nullptr;  // each of these may be null
  float* dgamma = nullptr;
  float* dbeta = nullptr;
  float* statistics = nullptr;  // [R, 2]: mean and 1 / sqrt(var + epsilon)
  std::int64_t rows = 0, columns = 0;
};

/// See ops::embedding; the range is of rows.
struct EmbeddingArgs {
  const std::int32_t* ids = nullptr;
  const std::int32_t* positions = nullptr;
  Matrix wte, wpe;  // K = D
  float* y = nullptr;
};

/// See ops::Dropout. threshold 0 keeps everything.
struct DropoutKey {
  std::uint64_t seed = 0, stream = 0;
  std::uint32_t threshold = 0;  // elements whose bits are below become 0
  float scale = 1;              // the others are multiplied by it
};

/// See ops::attention, for one sequence. A task is one head of one block of the sequence's new tokens; the blocks
/// are the kAttentionRows positions from a multiple of it on, the last (and longest) one first.
inline constexpr std::int64_t kAttentionRows = 48;
struct AttentionArgs {
  const float* query = nullptr;  // of the sequence's first row, head 0
  const float* key = nullptr;
  const float* value = nullptr;
  std::int64_t stride = 0;  // from row to row of these three
  float* y = nullptr;       // of the sequence's first row, head 0
  std::int64_t y_stride = 0;
  std::int64_t rows = 0, past = 0;
  std::int64_t n_head = 0, head_dim = 0;
  float scale = 1;
  ops::KvLayer cache;
  float* statistics =
      nullptr;  // [rows, H, 2] or null: what the gradient needs of each row, the maximum and 1 / l

  DropoutKey dropout;  // of a whole sequence's probabilities

  std::int64_t blocks() const noexcept {
    return rows == 0 ? 0 : (past + rows - 1) / kAttentionRows - past / kAttentionRows + 1;
  }
  std::int64_t tasks() const noexcept { return n_head * blocks(); }
  [[gnu::always_inline]] float* statistics_of(std::int64_t row, std::int64_t head) const noexcept {
    return statistics == nullptr ? nullptr : statistics + (row * n_head + head) * 2;
  }
};

/// See ops::attention_backward, for one sequence. A task is one head.
struct AttentionBackwardArgs {
  const float* query = nullptr;  // of the sequence's first row, head 0; so are all others
  const float* key = nullptr;
  const float* value = nullptr;
  float* dquery = nullptr;
  float* dkey = nullptr;
  float* dvalue = nullptr;
  std::int64_t stride = 0;  // from row to row of these six
  const float* y = nullptr;
  const float* dy = nullptr;
  std::int64_t y_stride = 0;
  const float* statistics = nullptr;  // [rows, H, 2]
  float* deltas = nullptr;            // [H, rows], scratch
  std::int64_t rows = 0;
  std::int64_t n_head = 0, head_dim = 0;
  float scale = 1;
  DropoutKey dropout;  // as in the forward pass
};

/// See ops::embedding_backward; the range is of columns.
struct EmbeddingBackwardArgs {
  const std::int32_t* ids = nullptr;
  const std::int32_t* positions = nullptr;
  const float* dy = nullptr;  // [rows, columns]
  float* dwte = nullptr;      // each may be null
  float* dwpe = nullptr;
  std::int64_t rows = 0, columns = 0;
};

/// See ops::CrossEntropy, for one row.
struct CrossEntropyArgs {
  float* x = nullptr;  // logits, then their gradients
  std::int64_t columns = 0;
  std::int32_t label = 0;  // in [0, columns)
  float scale = 1;
  double smoothing = 0;
};
/// What its loss is made of.
struct CrossEntropyTerms {
  float label_logit = 0, max = 0;
  double sum = 0;        // of e^(x - max)
  double below_max = 0;  // the sum of x - max, with smoothing alone
};

/// Float32 numbers as ops::split leaves them.
struct SplitFloats {
  std::uint16_t* value = nullptr;  // the bits of bfloat16
  std::int16_t* rest = nullptr;
};

/// See ops::adamw; the range is of elements.
struct AdamWArgs {
  float* parameter = nullptr;  // null: it is split
  const float* gradient = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  float gradient_scale = 1;
  float keep = 1;              // 1 - lr weight_decay
  float beta1 = 0, rest1 = 1;  // beta, 1 - beta
  float beta2 = 0, rest2 = 1;
  float bias2_root = 1;  // sqrt(1 - beta2^t)
  float epsilon = 0;
  float step = 0;  // lr / (1 - beta1^t)
  SplitFloats split = {};
};

/// See ops::average; the range is of elements.
struct AverageArgs {
  const float* value = nullptr;  // null: it is split
  SplitFloats split = {};
  float* average = nullptr;
  float keep = 0;  // decay
  float rest = 1;  // 1 - decay
};

/// Products of integers. Only what one of these has packed may go to its product.
struct IntegerKernels {
  const char* name;
  /// Fills the arrays of args.packed from x; the range is of rows.
  void (*pack_rows)(const LinearArgs&, std::int64_t begin, std::int64_t end) noexcept;
  /// Of args.packed with the matrix; the range is of tasks.
  void (*linear)(const LinearArgs&, std::int64_t begin, std::int64_t end) noexcept;
};

struct KernelTable {
  const char* name;
  IntegerKernels integer;
  /// Whether `linear` reads the matrix as it lies, in one go: it needs no space then.
  bool (*streams)(const LinearArgs&) noexcept;
  /// panels [P, K, 16] = the matrix as float32; the range is of panels.
  void (*widen_panels)(const Matrix&, float* panels, std::int64_t begin, std::int64_t end) noexcept;
  /// A product of floats; the range is of tasks.
  void (*linear)(const LinearArgs&, std::int64_t begin, std::int64_t end) noexcept;
  void (*layer_norm)(const LayerNormArgs&, std::int64_t begin, std::int64_t end) noexcept;
  /// dx and the statistics of a range of rows.
  void (*layer_norm_backward)(const LayerNormBackwardArgs&, std::int64_t begin, std::int64_t end) noexcept;
  /// dgamma and dbeta of a range of columns, from the statistics of all rows.
  void (*layer_norm_parameters)(const LayerNormBackwardArgs&, std::int64_t begin, std::int64_t end) noexcept;
  void (*activation)(ops::Activation, const float* x, float* y, std::int64_t begin,
                     std::int64_t end) noexcept;
  /// dx = dy f'(x)
  void (*activation_backward)(ops::Activation, const float* x, const float* dy, float* dx, std::int64_t begin,
                              std::int64_t end) noexcept;
  void (*softmax)(const float* x, float* y, std::int64_t columns, std::int64_t begin,
                  std::int64_t end) noexcept;
  /// max[r] and sum[r] = sum of e^(x - max[r]) of each row.
  void (*exp_sum)(const float* x, std::int64_t columns, float* max, double* sum, std::int64_t begin,
                  std::int64_t end) noexcept;
  void (*embedding)(const EmbeddingArgs&, std::int64_t begin, std::int64_t end) noexcept;
  /// Puts the keys and values of a task's tokens into the cache.
  void (*append)(const AttentionArgs&, std::int64_t begin, std::int64_t end) noexcept;
  /// Needs the keys and values up to the task's last token in the cache.
  void (*attention)(const AttentionArgs&, std::int64_t begin, std::int64_t end) noexcept;
  void (*attention_backward)(const AttentionBackwardArgs&, std::int64_t begin, std::int64_t end) noexcept;
  /// y = residual + the elements of x that stay, times key.scale; the range is of elements and begins at a multiple of 16.
  void (*dropout)(const DropoutKey& key, const float* x, const float* residual, float* y, std::int64_t begin,
                  std::int64_t end) noexcept;
  void (*embedding_backward)(const EmbeddingBackwardArgs&, std::int64_t begin, std::int64_t end) noexcept;
  CrossEntropyTerms (*cross_entropy)(const CrossEntropyArgs&) noexcept;
  /// y[c * y_stride + r] = x[r * x_stride + c] for rows begin .. end, begin being a multiple of 16, and `columns` columns.
  void (*transpose)(const float* x, std::int64_t x_stride, float* y, std::int64_t y_stride,
                    std::int64_t columns, std::int64_t begin, std::int64_t end) noexcept;
  /// sums[c] += sum of x[r][c], x [rows, columns]; the range is of columns.
  void (*add_column_sums)(const float* x, std::int64_t rows, std::int64_t columns, float* sums,
                          std::int64_t begin, std::int64_t end) noexcept;
  /// y += x; the range is of elements.
  void (*add)(const float* x, float* y, std::int64_t begin, std::int64_t end) noexcept;
  /// In float32 by 16 lanes, in double every 4096 elements.
  double (*sum_of_squares)(const float* x, std::int64_t n) noexcept;
  /// float32 to bfloat16, rounded to nearest even, and back; the ranges of these four are of elements.
  void (*round)(const float* x, std::uint16_t* y, std::int64_t begin, std::int64_t end) noexcept;
  void (*widen)(const std::uint16_t* x, float* y, std::int64_t begin, std::int64_t end) noexcept;
  void (*split)(const float* x, const SplitFloats& to, std::int64_t begin, std::int64_t end) noexcept;
  void (*join)(const SplitFloats& from, float* y, std::int64_t begin, std::int64_t end) noexcept;
  void (*average)(const AverageArgs&, std::int64_t begin, std::int64_t end) noexcept;
  void (*adamw)(const AdamWArgs&, std::int64_t begin, std::int64_t end) noexcept;
};

enum class Isa : std::uint8_t { kScalar, kAvx2, kAvx512 };

/// The kernels of an instruction set, or null when this build or this CPU lacks it.
const KernelTable* table_of(Isa isa) noexcept;

/// The kernels to use: chosen once, the best the CPU has or what the environment variable GPT_FORCE_ISA
/// names. Throws UnsupportedError when that is unknown or not available.
const KernelTable& table();

/// What may stand beside AVX-512 for products of integers.
enum class IntegerUnits : std::uint8_t { kVnni, kAmx };

/// Their kernels, or null when this build or this CPU lacks them, or the process may not use them.
const IntegerKernels* kernels_of(IntegerUnits units) noexcept;

/// The integer products to use beside table(): the best that the process may use, or what GPT_FORCE_ISA names. Throws as table().
const IntegerKernels& integer_kernels();

/// See ops::use_amx.
bool use_amx();

}  // namespace gpt::kernels
