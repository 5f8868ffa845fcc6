#include "models/gpt2_rows.h"

#include <algorithm>

#include "gpt/autograd/ops.h"

namespace gpt {

std::int64_t virtual_rows_of(const Chunk& chunk, const nn::Adapter* adapter) noexcept {
  const bool begins = chunk.cache == nullptr || chunk.cache->length() == 0;
  return begins && adapter != nullptr ? adapter->virtual_tokens() : 0;
}

BatchRows gather(std::span<const Chunk> batch, const nn::Adapter* attached, Arena& arena) {
  BatchRows all;
  all.segments = arena.take_span<nn::Segment>(batch.size());
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const Chunk& chunk = batch[i];
    const nn::Adapter* const adapter = chunk.adapter != nullptr ? chunk.adapter : attached;
    const std::int64_t before = virtual_rows_of(chunk, adapter);
    const nn::Segment& s = all.segments[i] = {all.rows, before + static_cast<std::int64_t>(chunk.ids.size()),
                                              chunk.cache, before, adapter};
    all.rows += s.rows;
    all.virtual_rows += before;
  }
  all.adapted = adapted_rows(all.segments, arena, [](const nn::Segment& s) { return s.rows; });
  all.ids = arena.take_span<TokenId>(static_cast<std::size_t>(all.rows));
  all.positions = arena.take_span<std::int32_t>(static_cast<std::size_t>(all.rows));
  std::size_t row = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const nn::Segment& s = all.segments[i];
    const std::int64_t past = s.cache == nullptr ? 0 : s.cache->positions();
    for (std::int64_t t = 0; t < s.rows; ++t, ++row) {
      all.ids[row] = t < s.virtual_rows ? 0 : batch[i].ids[static_cast<std::size_t>(t - s.virtual_rows)];
      all.positions[row] = static_cast<std::int32_t>(past + t);
    }
  }
  return all;
}

void embed_virtual_tokens(nn::Context& context, const BatchRows& batch, const ops::Weight& wpe,
                          TensorView x) {
  nn::for_virtual_tokens(context, batch.segments,
                         [&](const nn::Adapter& adapter, std::span<const std::int64_t> rows) {
                           adapter.embed_virtual_tokens(context, wpe, rows, x);
                         });
}

TensorView without_virtual_rows(Tape* tape, ConstTensorView x, const BatchRows& batch, std::int64_t kept,
                                Arena& arena) {
  const auto ranges = arena.take_span<autograd::RowRange>(batch.segments.size());
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const nn::Segment& s = batch.segments[i];
    const std::int64_t left_out = std::max<std::int64_t>(0, s.virtual_rows - kept);
    ranges[i] = {s.row + left_out, s.rows - left_out};
    rows += ranges[i].count;
  }
  const TensorView y = arena.take({rows, x.dim(1)});
  autograd::take_rows(tape, x, ranges, y);
  return y;
}

}  // namespace gpt
