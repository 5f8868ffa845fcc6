#include "gpt/ops/attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "gpt/core/math.h"
#include "gpt/core/parallel.h"
#include "ops/checks.h"
#include "ops/dropout_key.h"

namespace gpt::ops {
namespace {

using kernels::AttentionArgs;

void check_cache(const AttentionSpan& s) {
  constexpr std::string_view op = "attention";
  const KvLayer& c = s.cache;
  if (s.past < 0 || c.pages == nullptr) fail<ShapeError>(op, "a sequence has no cache");
  if (!is_cache_dtype(c.dtype))
    fail<ShapeError>(op, "a cache is ", name_of(c.dtype), ", expected float32, float16, bfloat16 or int8");
  if (c.page_tokens <= 0 || c.page_tokens % kKeyGroup != 0)
    fail<ShapeError>(op, "a cache has pages of ", c.page_tokens, " tokens, expected a multiple of ",
                     kKeyGroup);
  if (s.past + s.rows > c.capacity())
    fail<ShapeError>(op, s.past, " cached and ", s.rows, " new tokens in a cache of capacity ", c.capacity());
}

void check(std::string_view op, ConstTensorView qkv, std::span<const AttentionSpan> batch,
           const AttentionShape& shape, ConstTensorView y, ConstTensorView statistics) {
  const std::int64_t d = shape.n_head * shape.head_dim;
  require_rank(op, "qkv", qkv, 2, "[R, 3 D]");
  require_dtype(op, "qkv", qkv, DType::f32);
  require_dtype(op, "y", y, DType::f32);
  require_shape(op, "qkv", qkv, {qkv.dim(0), 3 * d}, "[R, 3 D]");
  require_shape(op, "y", y, {qkv.dim(0), d}, "[R, D]");
  if (statistics.raw() != nullptr) {
    require_dtype(op, "statistics", statistics, DType::f32);
    require_shape(op, "statistics", statistics, {qkv.dim(0), shape.n_head, 2}, "[R, H, 2]");
  }
  for (const AttentionSpan& s : batch)
    if (s.row < 0 || s.rows < 0 || s.row + s.rows > qkv.dim(0))
      fail<ShapeError>(op, "rows [", s.row, ", ", s.row + s.rows, ") are outside qkv's ", qkv.dim(0));
  for (const AttentionSpan& s : batch)
    if (s.skipped < 0 || s.skipped > s.rows)
      fail<ShapeError>(op, "skipped is ", s.skipped, ", expected 0 to the sequence's ", s.rows, " rows");
}

/// What forward and backward read, as the kernels take it: one sequence at a time.
struct Inputs {
  std::span<const AttentionSpan> spans;
  AttentionShape shape;
  const float* qkv;
  kernels::DropoutKey dropout;

  std::int64_t width() const noexcept { return shape.n_head * shape.head_dim; }
  template <class Args>
  Args args(std::size_t i) const noexcept {
    const std::int64_t d = width();
    Args a;
    a.query = qkv + spans[i].row * 3 * d;
    a.key = a.query + d;
    a.value = a.key + d;
    a.stride = 3 * d;
    a.y_stride = d;
    a.rows = spans[i].rows;
    a.n_head = shape.n_head;
    a.head_dim = shape.head_dim;
    a.scale = shape.scale;
    a.dropout = dropout;
    a.dropout.stream += i;
    return a;
  }
};

struct Batch {
  Inputs inputs;
  float* y;
  float* statistics;

  /// With all rows, whose keys and values are put away.
  AttentionArgs appended(std::size_t i) const noexcept {
    const AttentionSpan& s = inputs.spans[i];
    auto a = inputs.args<AttentionArgs>(i);
    a.y = y + s.row * inputs.width();
    a.past = s.past;
    a.cache = s.cache;
    if (statistics != nullptr) a.statistics = statistics + s.row * a.n_head * 2;
    return a;
  }
  /// With the rows that have results; the keys and values of those before are in the cache by then.
  AttentionArgs queries(std::size_t i) const noexcept {
    AttentionArgs a = appended(i);
    const std::int64_t skipped = inputs.spans[i].skipped;
    a.query += skipped * a.stride;
    a.y += skipped * a.y_stride;
    if (a.statistics != nullptr) a.statistics += skipped * a.n_head * 2;
    a.past += skipped;
    a.rows -= skipped;
    return a;
  }
};

/// Calls body(args, task) for every task of every sequence i, of which args_of(i) has some, in one parallel loop whose threads
/// take the next task when they are done with one: tasks differ in cost, by their sequence's length and by how many keys the mask
/// leaves.
template <class ArgsOf, class Body>
void for_each_task(ArgsOf args_of, std::int64_t tasks, std::int64_t threads, Body body) noexcept {
  std::atomic<std::int64_t> next{0};
  parallel_for(threads, 1, [&](std::int64_t, std::int64_t) noexcept {
    std::size_t i = 0;
    std::int64_t first = 0;  // of sequence i
    AttentionArgs args = args_of(i);
    for (;;) {
      const std::int64_t task = next.fetch_add(1, std::memory_order_relaxed);
      if (task >= tasks) return;
      while (task - first >= args.tasks()) {
        first += args.tasks();
        args = args_of(++i);
      }
      body(args, task - first);
    }
  });
}

std::int64_t threads_for(std::int64_t work) noexcept {
  return std::clamp<std::int64_t>(work / grain_for(1), 1, num_threads());
}

}  // namespace

void attention(ConstTensorView qkv, std::span<const AttentionSpan> spans, const AttentionShape& shape,
               TensorView y, TensorView statistics) {
  check("attention", qkv, spans, shape, y, statistics);
  for (const AttentionSpan& s : spans) check_cache(s);
  const kernels::KernelTable& table = kernels::table();
  const Batch batch{{spans, shape, qkv.data<float>(), dropout_key("attention", shape.dropout)},
                    y.data<float>(),
                    statistics.raw() != nullptr ? statistics.data<float>() : nullptr};
  if (batch.inputs.dropout.threshold != 0)
    for (const AttentionSpan& s : spans) {
      if (s.past != 0) fail<UnsupportedError>("attention", "dropout in a sequence that goes on from a cache");
      if (s.skipped != 0) fail<UnsupportedError>("attention", "dropout in a sequence with skipped rows");
    }
  const auto appended = [&](std::size_t i) noexcept { return batch.appended(i); };
  const auto queries = [&](std::size_t i) noexcept { return batch.queries(i); };
  std::int64_t puts = 0, tasks = 0, work = 0, rows = 0;
  bool single = true;  // each head of a sequence is one task
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const AttentionArgs all = batch.appended(i), a = batch.queries(i);
    // A key and value that are read for one query alone take the time of about four multiply-adds per element.
    const std::int64_t reads = a.rows == 1 ? 4 : 1;
    puts += all.tasks();
    tasks += a.tasks();
    work += 2 * reads * a.rows * (a.past + (a.rows + 1) / 2);
    rows += all.rows;
    single = single && all.blocks() <= 1 && a.rows == all.rows;
  }
  if (puts == 0) return;
  const std::int64_t d = batch.inputs.width();
  if (single)  // then its keys and values are put away by the task that reads them
    return for_each_task(queries, tasks, threads_for(work * d),
                         [&](const AttentionArgs& a, std::int64_t task) noexcept {
                           table.append(a, task, task + 1);
                           table.attention(a, task, task + 1);
                         });
  constexpr std::int64_t kWorkPerElement = 4;  // a transposed store
  for_each_task(appended, puts, threads_for(kWorkPerElement * rows * d),
                [&](const AttentionArgs& a, std::int64_t task) noexcept { table.append(a, task, task + 1); });
  for_each_task(
      queries, tasks, threads_for(work * d),
      [&](const AttentionArgs& a, std::int64_t task) noexcept { table.attention(a, task, task + 1); });
}

void attention_probabilities(ConstTensorView qkv, const AttentionShape& shape, TensorView probabilities) {
  constexpr std::string_view op = "attention_probabilities";
  const std::int64_t h = shape.n_head, width = shape.head_dim, d = h * width;
  require_rank(op, "qkv", qkv, 2, "[T, 3 D]");
  require_dtype(op, "qkv", qkv, DType::f32);
  require_dtype(op, "probabilities", probabilities, DType::f32);
  const std::int64_t t = qkv.dim(0);
  require_shape(op, "qkv", qkv, {t, 3 * d}, "[T, 3 D]");
  require_shape(op, "probabilities", probabilities, {h, t, t}, "[H, T, T]");
  const float* rows = qkv.data<float>();
  float* all = probabilities.data<float>();
  parallel_for(h * t, grain_for(width * t), [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t index = begin; index < end; ++index) {
      const std::int64_t head = index / t, query = index % t;
      const float* q = rows + query * 3 * d + head * width;
      float* p = all + index * t;
      double most = -std::numeric_limits<double>::infinity(), sum = 0;
      for (std::int64_t key = 0; key <= query; ++key) {
        const float* k = rows + key * 3 * d + d + head * width;
        float score = 0;
        for (std::int64_t i = 0; i < width; ++i) score = std::fma(q[i], k[i], score);
        p[key] = score * shape.scale;
        most = std::max(most, static_cast<double>(p[key]));
      }
      for (std::int64_t key = 0; key <= query; ++key) sum += math::exp(static_cast<double>(p[key]) - most);
      for (std::int64_t key = 0; key <= query; ++key)
        p[key] = static_cast<float>(math::exp(static_cast<double>(p[key]) - most) / sum);
      std::fill(p + query + 1, p + t, 0.0f);
    }
  });
}

void attention_backward(ConstTensorView qkv, std::span<const AttentionSpan> spans,
                        const AttentionShape& shape, ConstTensorView y, ConstTensorView statistics,
                        ConstTensorView dy, TensorView dqkv, Arena& scratch) {
  constexpr std::string_view op = "attention_backward";
  check(op, qkv, spans, shape, y, statistics);
  if (statistics.raw() == nullptr) fail<ShapeError>(op, "statistics are missing");
  require_dtype(op, "dy", dy, DType::f32);
  require_dtype(op, "dqkv", dqkv, DType::f32);
  require_shape(op, "dy", dy, y.shape(), "the shape of y");
  require_shape(op, "dqkv", dqkv, qkv.shape(), "the shape of qkv");
  const Arena::Scope scope(scratch);
  const Inputs inputs{spans, shape, qkv.data<float>(), dropout_key(op, shape.dropout)};
  const std::int64_t d = inputs.width();
  const auto sequences = scratch.take_span<kernels::AttentionBackwardArgs>(spans.size());
  std::int64_t work = 0;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const AttentionSpan& s = spans[i];
    if (s.past != 0) fail<ShapeError>(op, "a sequence has ", s.past, " tokens in its cache, expected none");
    if (s.skipped != 0) fail<ShapeError>(op, "a sequence has ", s.skipped, " skipped rows, expected none");
    kernels::AttentionBackwardArgs& a = sequences[i];
    a = inputs.args<kernels::AttentionBackwardArgs>(i);
    a.dquery = dqkv.data<float>() + s.row * 3 * d;
    a.dkey = a.dquery + d;
    a.dvalue = a.dkey + d;
    a.y = y.data<float>() + s.row * d;
    a.dy = dy.data<float>() + s.row * d;
    a.statistics = statistics.data<float>() + s.row * shape.n_head * 2;
    a.deltas = scratch.take({shape.n_head, s.rows}).data<float>();
    work = std::max(work, 5 * s.rows * s.rows / 2 * shape.head_dim);
  }
  const kernels::KernelTable& table = kernels::table();
  const auto tasks = static_cast<std::int64_t>(spans.size()) * shape.n_head;
  parallel_for(tasks, grain_for(work), [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t task = begin; task < end; ++task)
      table.attention_backward(sequences[static_cast<std::size_t>(task / shape.n_head)], task % shape.n_head,
                               task % shape.n_head + 1);
  });
}

}  // namespace gpt::ops
