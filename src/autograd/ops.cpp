#include "gpt/autograd/ops.h"

#include <algorithm>
#include <cstring>

#include "gpt/core/error.h"
#include "gpt/ops/activation.h"
#include "gpt/ops/bfloat16.h"
#include "gpt/ops/elementwise.h"
#include "gpt/ops/embedding.h"
#include "gpt/ops/layer_norm.h"

namespace gpt::autograd {
namespace {

/// x as float32: itself, or widened in the arena. On the way back, first as it was on the way there.
ConstTensorView widened(ConstTensorView x, Arena& arena) {
  if (x.dtype() == DType::f32) return x;
  const TensorView wide = arena.take(x.shape());
  ops::convert(x, wide);
  return wide;
}

ConstTensorView widened(ConstTensorView x, Tape& tape) { return widened(tape.value_of(x), tape.scratch()); }

/// Lets compute(y) make y as float32, and rounds it where y is bfloat16.
template <class F>
void rounded(TensorView y, Arena& arena, const F& compute) {
  if (y.dtype() == DType::f32) return compute(y);
  const TensorView wide = arena.take(y.shape());
  compute(wide);
  ops::convert(wide, y);
}

/// A vector as float32: itself, empty, or widened in the arena.
ConstTensorView widened_vector(ConstTensorView v, Arena& arena) {
  if (v.raw() == nullptr || v.dtype() != DType::f16) return v.raw() == nullptr ? v : widened(v, arena);
  const TensorView wide = arena.take({v.numel()});
  for (std::int64_t i = 0; i < v.numel(); ++i)
    wide.data<float>()[i] = static_cast<float>(v.data<Float16>()[i]);
  return wide;
}

/// The gradients of y = x W + bias that are wanted.
void linear_backward(Tape& tape, ConstTensorView x, const ops::Weight& weight, ConstTensorView bias,
                     ConstTensorView dy) {
  const Arena::Scope scope(tape.scratch());
  ops::LinearGradients gradients;
  if (tape.wants(x)) {
    const Tape::Target dx = tape.target(x);
    gradients.dx = dx.view;
    gradients.add_to_dx = dx.add;
  }
  gradients.dweight = tape.gradient_of(weight.values);
  if (bias.raw() != nullptr) gradients.dbias = tape.gradient_of(bias);
  if (gradients.dweight.raw() != nullptr) x = widened(x, tape);
  ops::linear_backward(x, weight, dy, gradients, tape.scratch());
}

/// The sequences, with a cache from the arena for each that has none.
std::span<const ops::AttentionSpan> with_caches(const Tape* tape, std::span<const ops::AttentionSpan> batch,
                                                const ops::AttentionShape& shape, Arena& arena) {
  const auto without = [](const ops::AttentionSpan& s) { return s.cache.pages == nullptr; };
  if (tape == nullptr && std::none_of(batch.begin(), batch.end(), without)) return batch;
  const auto all = arena.take_span<ops::AttentionSpan>(batch.size());
  const std::int64_t padded = ops::padded_head_dim(shape.head_dim);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    all[i] = batch[i];
    if (!without(batch[i])) {
      if (tape != nullptr) fail<UnsupportedError>("attention", "a sequence with a cache on a tape");
      continue;
    }
    ops::KvLayer& cache = all[i].cache;
    cache.dtype = DType::f32;
    cache.page_tokens = ops::whole_groups(batch[i].rows);
    cache.page_count = 1;
    const TensorView page = arena.take({2, shape.n_head, cache.page_tokens, padded});
    cache.values = static_cast<std::int64_t>(page.nbytes() / 2);
    const auto pages = arena.take_span<std::byte*>(1);
    pages[0] = page.raw();
    cache.pages = pages.data();
  }
  return all;
}

/// The rows of x from `first` on.
template <class View>
View stretch(View x, std::int64_t first, std::int64_t rows) {
  return {x.template data<float>() + first * x.dim(1), {rows, x.dim(1)}};
}

TensorView gathered(ConstTensorView x, std::span<const std::int64_t> rows, Arena& arena) {
  const std::int64_t d = x.dim(1);
  const TensorView together = arena.take({static_cast<std::int64_t>(rows.size()), d});
  float* to = together.data<float>();
  for (const std::int64_t r : rows) to = std::copy_n(x.data<float>() + r * d, d, to);
  return together;
}

void scatter(ConstTensorView together, std::span<const std::int64_t> rows, TensorView x) {
  const std::int64_t d = x.dim(1);
  const float* from = together.data<float>();
  for (const std::int64_t r : rows) {
    std::copy_n(from, d, x.data<float>() + r * d);
    from += d;
  }
}

}  // namespace

void linear(Tape* tape, ConstTensorView x, const ops::Weight& weight, const ops::LinearEpilogue& epilogue,
            TensorView y, Arena& arena) {
  const bool is_float32 = x.dtype() == DType::f32 && y.dtype() == DType::f32;
  if (tape == nullptr && is_float32) return ops::linear(x, weight, epilogue, y, arena);
  const ConstTensorView bias = epilogue.bias, residual = epilogue.residual, values = weight.values;
  if (epilogue.activation == ops::Activation::kNone) {
    {
      const Arena::Scope scope(arena);
      const ConstTensorView wide_x = widened(x, arena);
      rounded(y, arena, [&](TensorView wide) { ops::linear(wide_x, weight, epilogue, wide, arena); });
    }
    if (tape == nullptr) return;
    tape->record({x, values, bias, residual}, y, [=, &weight](Tape& t, TensorView dy) {
      linear_backward(t, x, weight, bias, dy);
      if (residual.raw() != nullptr) t.give(residual, dy);
    });
    return;
  }
  if (residual.raw() != nullptr)
    fail<UnsupportedError>("linear", "an activation and a residual in one operation on a tape");
  const TensorView sum = arena.take(y.shape(), y.dtype());
  linear(tape, x, weight, {.bias = bias}, sum, arena);
  activation(tape, epilogue.activation, sum, y, arena);
}

void activation(Tape* tape, ops::Activation f, ConstTensorView x, TensorView y, Arena& arena) {
  const auto compute = [=](Arena& scratch) {
    const Arena::Scope scope(scratch);
    const ConstTensorView wide_x = widened(x, scratch);
    rounded(y, scratch, [&](TensorView wide) { ops::activation(f, wide_x, wide); });
  };
  compute(arena);
  if (tape == nullptr) return;
  tape->record({x}, y, [=](Tape& t, TensorView dy) {
    {
      const Arena::Scope scope(t.scratch());
      ops::activation_backward(f, widened(x, t), dy, dy);
    }
    t.give(x, dy);
  });
  tape->record_again(y, compute);
}

void add(Tape* tape, ConstTensorView x, ConstTensorView residual, TensorView y, Arena& arena) {
  {
    const Arena::Scope scope(arena);
    const ConstTensorView wide_x = widened(x, arena);
    rounded(y, arena, [&](TensorView wide) { ops::add(wide_x, residual, wide); });
  }
  if (tape == nullptr) return;
  tape->record({x, residual}, y, [=](Tape& t, TensorView dy) {
    if (residual.raw() != nullptr && t.wants(residual)) {
      if (!t.wants(x)) return t.give(residual, dy);
      const Tape::Target dx = t.target(x);
      if (dx.add)
        ops::add(dx.view, dy, dx.view);
      else
        std::memcpy(dx.view.raw(), dy.raw(), dy.nbytes());
      return t.give(residual, dy);
    }
    t.give(x, dy);
  });
}

void scale(Tape* tape, ConstTensorView x, float factor, TensorView y) {
  ops::scale(x, factor, y);
  if (tape == nullptr) return;
  tape->record({x}, y, [=](Tape& t, TensorView dy) {
    ops::scale(dy, factor, dy);
    t.give(x, dy);
  });
}

void add_columns(Tape* tape, ConstTensorView x, ConstTensorView v, TensorView y, Arena& arena) {
  {
    const Arena::Scope scope(arena);
    const ConstTensorView wide_x = widened(x, arena), wide_v = widened_vector(v, arena);
    rounded(y, arena, [&](TensorView wide) { ops::add_columns(wide_x, wide_v, wide); });
  }
  if (tape == nullptr) return;
  tape->record({x, v}, y, [=](Tape& t, TensorView dy) {
    if (t.wants(v)) {
      const Tape::Target dv = t.target(v);
      if (!dv.add) ops::zero(dv.view);
      ops::add_column_sums(dy, dv.view);
    }
    t.give(x, dy);
  });
}

void scale_columns(Tape* tape, ConstTensorView x, ConstTensorView v, ConstTensorView center, TensorView y,
                   Arena& arena) {
  {
    const Arena::Scope scope(arena);
    const ConstTensorView wide_x = widened(x, arena), wide_v = widened_vector(v, arena),
                          wide_center = widened_vector(center, arena);
    rounded(y, arena, [&](TensorView wide) { ops::scale_columns(wide_x, wide_v, wide_center, wide); });
  }
  if (tape == nullptr) return;
  tape->record({x, v}, y, [=](Tape& t, TensorView dy) {
    {
      const Arena::Scope scope(t.scratch());
      const ConstTensorView wide_v = widened_vector(v, t.scratch());
      if (t.wants(v)) {
        const Tape::Target dv = t.target(v);
        if (!dv.add) ops::zero(dv.view);
        ops::scale_columns_backward(widened(x, t), widened_vector(center, t.scratch()), dy, dv.view);
      }
      if (t.wants(x)) ops::scale_columns(dy, wide_v, {}, dy);
    }
    t.give(x, dy);
  });
}

void dropout(Tape* tape, ConstTensorView x, const ops::Dropout& dropout, ConstTensorView residual,
             TensorView y, Arena& arena) {
  {
    const Arena::Scope scope(arena);
    const ConstTensorView wide_x = widened(x, arena);
    rounded(y, arena, [&](TensorView wide) { ops::dropout(wide_x, dropout, residual, wide); });
  }
  if (tape == nullptr) return;
  tape->record({x, residual}, y, [=](Tape& t, TensorView dy) {
    if (t.wants(x)) {
      const Tape::Target dx = t.target(x);
      ops::dropout(dy, dropout, dx.add ? ConstTensorView(dx.view) : ConstTensorView(), dx.view);
    }
    if (residual.raw() != nullptr) t.give(residual, dy);
  });
}

void layer_norm(Tape* tape, ConstTensorView x, ConstTensorView gamma, ConstTensorView beta, float epsilon,
                TensorView y, Arena& arena) {
  const auto compute = [=](Arena& scratch) {
    const Arena::Scope scope(scratch);
    const ConstTensorView wide_x = widened(x, scratch);
    rounded(y, scratch, [&](TensorView wide) { ops::layer_norm(wide_x, gamma, beta, epsilon, wide); });
  };
  compute(arena);
  if (tape == nullptr) return;
  tape->record({x, gamma, beta}, y, [=](Tape& t, TensorView dy) {
    const Arena::Scope scope(t.scratch());
    const Tape::Target dx = t.wants(x) ? t.target(x) : Tape::Target{};
    if (dx.view.raw() != nullptr && !dx.add) ops::zero(dx.view);
    ops::layer_norm_backward(widened(x, t), gamma, epsilon, dy, dx.view, t.gradient_of(gamma),
                             t.gradient_of(beta), t.scratch());
  });
  tape->record_again(y, compute);
}

void attention(Tape* tape, ConstTensorView qkv, std::span<const ops::AttentionSpan> batch,
               const ops::AttentionShape& shape, TensorView y, Arena& arena) {
  const auto skips = [](const ops::AttentionSpan& s) { return s.skipped != 0; };
  if ((tape != nullptr || y.dtype() != DType::f32) && std::ranges::any_of(batch, skips))
    fail<UnsupportedError>("attention", "skipped rows on a tape, or of another type than float32");
  const TensorView statistics = tape != nullptr ? arena.take({qkv.dim(0), shape.n_head, 2}) : TensorView();
  const auto compute = [=](Arena& scratch) {
    const Arena::Scope scope(scratch);
    const ConstTensorView wide_qkv = widened(qkv, scratch);
    const auto spans = with_caches(tape, batch, shape, scratch);
    rounded(y, scratch, [&](TensorView wide) { ops::attention(wide_qkv, spans, shape, wide, statistics); });
  };
  compute(arena);
  if (tape == nullptr) return;
  tape->record({qkv}, y, [=](Tape& t, TensorView dy) {
    const Tape::Target dqkv = t.target(qkv);
    if (dqkv.add)
      fail<UnsupportedError>("attention", "queries, keys and values that something else uses, on a tape");
    Arena& scratch = t.scratch();
    const Arena::Scope scope(scratch);
    ops::attention_backward(widened(qkv, t), batch, shape, widened(y, t), statistics, dy, dqkv.view, scratch);
  });
  tape->record_again(y, compute);
}

void embedding(Tape* tape, std::span<const TokenId> ids, std::span<const std::int32_t> positions,
               const ops::Weight& wte, const ops::Weight& wpe, TensorView y) {
  ops::embedding(ids, positions, wte, wpe, y);
  if (tape == nullptr) return;
  const ConstTensorView tokens = wte.values, places = wpe.values;
  tape->record({tokens, places}, y, [=](Tape& t, TensorView dy) {
    ops::embedding_backward(ids, positions, dy, t.gradient_of(tokens), t.gradient_of(places));
  });
}

void replace_rows(Tape* tape, ConstTensorView rows, std::int64_t from, std::span<const std::int64_t> places,
                  std::int64_t to, std::int64_t width, TensorView y) {
  const std::int64_t n = rows.dim(0), all = rows.dim(1), wide = y.dim(1);
  bool fits = from >= 0 && to >= 0 && width >= 0 && from + width <= all && to + width <= wide;
  for (const std::int64_t place : places) fits = fits && place >= 0 && place + n <= y.dim(0);
  if (!fits)
    fail<ShapeError>("replace_rows", "columns [", from, ", ", from + width, ") of ", rows.shape().to_string(),
                     " do not fit columns from ", to, " on of ", y.shape().to_string());
  const auto row = [](auto x, std::int64_t r, std::int64_t column, std::int64_t count) {
    const std::int64_t offset = (r * x.dim(1) + column) * static_cast<std::int64_t>(size_of(x.dtype()));
    return decltype(x)(x.raw() + offset, x.dtype(), {count});
  };
  for (const std::int64_t place : places)
    for (std::int64_t i = 0; i < n; ++i) {
      const ConstTensorView source = row(rows, i, from, width);
      const TensorView target = row(y, place + i, to, width);
      if (source.dtype() == target.dtype())
        std::memcpy(target.raw(), source.raw(), target.nbytes());
      else
        ops::convert(source, target);
    }
  if (tape == nullptr) return;
  tape->record({rows, y}, y, [=](Tape& t, TensorView dy) {
    const bool wants = t.wants(rows);
    const Tape::Target drows = wants ? t.target(rows) : Tape::Target{};
    if (wants && !drows.add) ops::zero(drows.view);
    for (const std::int64_t place : places)
      for (std::int64_t i = 0; i < n; ++i) {
        const TensorView gradient = row(dy, place + i, to, width);
        if (wants) ops::add(gradient, row(drows.view, i, from, width));
        ops::zero(gradient);
      }
    t.give(y, dy);
  });
}

void take_rows(Tape* tape, ConstTensorView x, std::span<const RowRange> ranges, TensorView y) {
  const std::int64_t d = x.dim(1);
  std::int64_t end = 0, count = 0;
  bool fits = y.dim(1) == d && x.dtype() == DType::f32 && y.dtype() == DType::f32;
  for (const RowRange& range : ranges) {
    fits = fits && range.first >= end && range.count >= 0;
    end = range.first + range.count;
    count += range.count;
  }
  if (!fits || end > x.dim(0) || count != y.dim(0))
    fail<ShapeError>("take_rows", count, " rows of ", x.shape().to_string(), " for ", y.shape().to_string(),
                     ", expected float32, and ranges that rise");
  float* to = y.data<float>();
  for (const RowRange& range : ranges)
    to = std::copy_n(x.data<float>() + range.first * d, range.count * d, to);
  if (tape == nullptr) return;
  tape->record({x}, y, [=](Tape& t, TensorView dy) {
    const Tape::Target dx = t.target(x);
    if (!dx.add) ops::zero(dx.view);
    const float* from = dy.data<float>();
    for (const RowRange& range : ranges) {
      ops::add(ConstTensorView(from, {range.count, d}), stretch(dx.view, range.first, range.count));
      from += range.count * d;
    }
  });
}

void head_loss(Tape* tape, ConstTensorView h, const ops::Weight& head, std::span<const TokenId> labels,
               const ops::RowLoss& loss, float scale, std::span<double> losses, Arena& arena,
               const std::stop_token& stop) {
  constexpr std::string_view op = "head_loss";
  const std::int64_t d = head.in, vocabulary = head.out;
  if (h.shape() != Shape{h.dim(0), d} || h.dtype() != DType::f32)
    fail<ShapeError>(op, "h is ", name_of(h.dtype()), " ", h.shape().to_string(), ", expected float32 [R, ",
                     d, "]");
  if (labels.size() != static_cast<std::size_t>(h.dim(0)) || losses.size() != labels.size())
    fail<ShapeError>(op, labels.size(), " labels and room for ", losses.size(),
                     " losses, expected R = ", h.dim(0));
  for (std::size_t r = 0; r < labels.size(); ++r)
    if (labels[r] != kIgnoredLabel && (labels[r] < 0 || labels[r] >= vocabulary))
      fail<ArgumentError>(op, "label ", labels[r], " at row ", r, " is outside [0, ", vocabulary, ")");

  // The way back takes the same memory next.
  Arena& memory = tape != nullptr ? tape->scratch() : arena;
  const Arena::Scope scope(memory);
  const bool wants_h = tape != nullptr && tape->wants(h);
  const TensorView dweight = tape != nullptr ? tape->gradient_of(head.values) : TensorView();
  TensorView dh;
  if (wants_h) {
    dh = memory.take(h.shape());
    ops::zero(dh);
  }
  // Rows without a loss are left out of the products.
  const auto rows = memory.take_span<std::int64_t>(labels.size());
  std::int64_t count = 0;
  for (std::size_t r = 0; r < labels.size(); ++r) {
    losses[r] = 0;
    if (labels[r] != kIgnoredLabel) rows[static_cast<std::size_t>(count++)] = static_cast<std::int64_t>(r);
  }
  const Shape most{std::min(count, kLossRows), vocabulary};
  const Tape::Loan loan(tape, most, dweight);
  const TensorView all_logits = loan.view().raw() != nullptr ? loan.view() : memory.take(most);
  for (std::int64_t begin = 0; begin < count; begin += kLossRows) {
    if (stop.stop_requested()) fail<CancelledError>(op, "the loss was cancelled");
    const std::int64_t n = std::min(count - begin, kLossRows);
    const auto chunk = rows.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(n));
    const Arena::Scope of_chunk(memory);
    const TensorView logits(all_logits.data<float>(), {n, vocabulary});
    const std::int64_t first = chunk.front();
    const bool in_place = chunk.back() - first == n - 1;
    const ConstTensorView hidden = in_place ? stretch(h, first, n) : gathered(h, chunk, memory);
    ops::linear(hidden, head, {}, logits, memory);
    ops::row_losses(loss, logits, chunk, labels, scale, losses);
    if (tape == nullptr) continue;
    const TensorView gradient = !wants_h   ? TensorView()
                                : in_place ? stretch(dh, first, n)
                                           : memory.take({n, d});
    ops::linear_backward(hidden, head, logits, {.dx = gradient, .dweight = dweight}, memory);
    if (wants_h && !in_place) scatter(gradient, chunk, dh);
  }
  if (wants_h) tape->seed(h, dh);
}

}  // namespace gpt::autograd
