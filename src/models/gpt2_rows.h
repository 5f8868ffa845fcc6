// The rows of a forward pass: tokens of a ragged batch, and virtual tokens where sequences begin.
#pragma once

#include <cstdint>
#include <span>

#include "gpt/core/arena.h"
#include "gpt/models/gpt2.h"
#include "gpt/nn/attention.h"
#include "gpt/nn/module.h"

namespace gpt {

/// A ragged batch, row by row. A virtual token has an id, too, whose embedding its adapter replaces, or which it does not
/// matter.
struct BatchRows {
  std::span<TokenId> ids;
  std::span<std::int32_t> positions;
  std::span<nn::Segment> segments;
  std::span<nn::AdaptedRows> adapted;  // neighbours with the same adapter as one
  std::int64_t rows = 0, virtual_rows = 0;
};

/// `attached` is the adapter of those that are not given another; null: none.
BatchRows gather(std::span<const Chunk> batch, const nn::Adapter* attached, Arena& arena);

/// Which rows have an adapter, neighbours with the same as one, where each sequence has so many; a function of its segment.
template <class RowsOf>
std::span<nn::AdaptedRows> adapted_rows(std::span<const nn::Segment> segments, Arena& arena,
                                        const RowsOf& rows_of) {
  const auto all = arena.take_span<nn::AdaptedRows>(segments.size());
  std::size_t count = 0;
  std::int64_t row = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const nn::Adapter* const adapter = segments[i].adapter;
    const std::int64_t rows = rows_of(segments[i]);
    if (adapter != nullptr && i > 0 && segments[i - 1].adapter == adapter)
      all[count - 1].rows += rows;
    else if (adapter != nullptr)
      all[count++] = {row, rows, adapter};
    row += rows;
  }
  return all.first(count);
}

/// Virtual tokens that the chunk puts before its own.
std::int64_t virtual_rows_of(const Chunk& chunk, const nn::Adapter* adapter) noexcept;

/// Lets adapters set the embeddings of their virtual tokens.
void embed_virtual_tokens(nn::Context& context, const BatchRows& batch, const ops::Weight& wpe, TensorView x);

/// x without the rows of virtual tokens, but for the last `kept` before each sequence.
TensorView without_virtual_rows(Tape* tape, ConstTensorView x, const BatchRows& batch, std::int64_t kept,
                                Arena& arena);

}  // namespace gpt
