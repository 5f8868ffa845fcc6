// The fused operations of a forward pass, each with what it records for the way back. With a null tape they are the functions
// of gpt/ops, and allocate nothing more.
//
// Results of one operation that the next one takes may be float32 or bfloat16: x, y and qkv below, unless they say otherwise. A
// bfloat16 y is what the operation computes in float32, rounded to nearest even, and a bfloat16 x is widened for the time of
// the operation, on the way back too: so bfloat16 is what is kept, and never what is computed with. Residuals and gradients are
// float32.
#pragma once

#include <cstdint>
#include <span>
#include <stop_token>

#include "gpt/autograd/tape.h"
#include "gpt/core/arena.h"
#include "gpt/core/tensor.h"
#include "gpt/core/token.h"
#include "gpt/ops/attention.h"
#include "gpt/ops/dropout.h"
#include "gpt/ops/linear.h"
#include "gpt/ops/loss.h"
#include "gpt/ops/weight.h"

namespace gpt::autograd {

/// ops::linear, and the gradients of x, the weight, the bias and the residual. With a tape and an activation, the sum before
/// the activation is kept in `arena`, in the type of y; a bfloat16 sum is rounded before the activation, tape or not.
void linear(Tape* tape, ConstTensorView x, const ops::Weight& weight, const ops::LinearEpilogue& epilogue,
            TensorView y, Arena& arena);

/// y = f(x), and the gradient of x.
void activation(Tape* tape, ops::Activation f, ConstTensorView x, TensorView y, Arena& arena);

/// y = residual + x, x alone where the residual is empty, and the gradients of both. y may be x, on a tape as well: x is used
/// by nothing else then.
void add(Tape* tape, ConstTensorView x, ConstTensorView residual, TensorView y, Arena& arena);

/// y = factor x, float32, and the gradient of x. y may be x, as above.
void scale(Tape* tape, ConstTensorView x, float factor, TensorView y);

/// ops::add_columns, and the gradients of x and v, which may be bfloat16 or float16. y may be x, as in add.
void add_columns(Tape* tape, ConstTensorView x, ConstTensorView v, TensorView y, Arena& arena);

/// ops::scale_columns, and the gradients of x and v; v and center, which has none, may be bfloat16 or float16. With a tape, y is
/// not x.
void scale_columns(Tape* tape, ConstTensorView x, ConstTensorView v, ConstTensorView center, TensorView y,
                   Arena& arena);

/// ops::dropout, and the gradients of x and the residual; y is not x.
void dropout(Tape* tape, ConstTensorView x, const ops::Dropout& dropout, ConstTensorView residual,
             TensorView y, Arena& arena);

/// ops::layer_norm; with a tape, y is not x.
void layer_norm(Tape* tape, ConstTensorView x, ConstTensorView gamma, ConstTensorView beta, float epsilon,
                TensorView y, Arena& arena);

/// ops::attention, where a sequence without a cache (null keys, past = 0) gets a float32 one for the time of the call. With a
/// tape all sequences are such, and `batch` must live as long as its operations. Rows are skipped without a tape, in float32: else
/// UnsupportedError.
void attention(Tape* tape, ConstTensorView qkv, std::span<const ops::AttentionSpan> batch,
               const ops::AttentionShape& shape, TensorView y, Arena& arena);

/// ops::embedding; y is float32. With a tape the ids and positions must live as long as its operations.
void embedding(Tape* tape, std::span<const TokenId> ids, std::span<const std::int32_t> positions,
               const ops::Weight& wte, const ops::Weight& wpe, TensorView y);

/// In y [R, W], in place, the N rows from each of `places` on become the columns [from, from + width) of `rows`, in y's
/// columns [to, to + width); of y no gradient flows back from there, and each place's is added to that of `rows`, in order.
///   rows  float32, bfloat16 or float16 [N, ...]; y float32, or bfloat16, which they are rounded to
/// With a tape the places must live as long as its operations. Throws ShapeError.
void replace_rows(Tape* tape, ConstTensorView rows, std::int64_t from, std::span<const std::int64_t> places,
                  std::int64_t to, std::int64_t width, TensorView y);

/// Rows [first, first + count) of a matrix.
struct RowRange {
  std::int64_t first = 0, count = 0;
};

/// y = the rows of x in these ranges, which rise and do not overlap, one after another; and the gradient of x. All float32. With
/// a tape the ranges must live as long as its operations. Throws ShapeError.
void take_rows(Tape* tape, ConstTensorView x, std::span<const RowRange> ranges, TensorView y);

/// The losses of the logits h W^T of rows h, without ever holding all logits: kLossRows rows at a time, logits, losses and
/// gradients are made in one visit.
///   h       float32 [R, D]
///   head    from D to V
///   labels  R ids in [0, V), or kIgnoredLabel where there is no loss
///   losses  R numbers, 0 where there is no loss
/// With a tape, gradients of scale times the sum of the losses go to h and to the head.
/// Throws ShapeError, ArgumentError (another label), MemoryError, CancelledError (`stop` is asked before the rows of each
/// visit), and what the loss throws: the head's gradient then holds a part of the rows.
void head_loss(Tape* tape, ConstTensorView h, const ops::Weight& head, std::span<const TokenId> labels,
               const ops::RowLoss& loss, float scale, std::span<double> losses, Arena& arena,
               const std::stop_token& stop = {});

inline constexpr std::int64_t kLossRows = 256;

}  // namespace gpt::autograd
