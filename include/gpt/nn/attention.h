// Causal self-attention.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "gpt/core/error.h"
#include "gpt/nn/kv_cache.h"
#include "gpt/nn/linear.h"
#include "gpt/nn/module.h"

namespace gpt::nn {

/// One sequence's rows in a ragged batch, and the cache they extend; null: these rows are the whole sequence.
struct Segment {
  std::int64_t row = 0;
  std::int64_t rows = 0;
  KvCache* cache = nullptr;
  std::int64_t virtual_rows = 0;     // the first of them, of virtual tokens of a sequence that begins
  const Adapter* adapter = nullptr;  // of the sequence; null: none

  /// The rows of tokens.
  std::int64_t tokens() const noexcept { return rows - virtual_rows; }
};

/// Calls f(adapter, rows) for the virtual tokens of a batch, `rows` being where those of each sequence begin: once for
/// sequences that follow each other with the same adapter.
template <class F>
void for_virtual_tokens(const Context& context, std::span<const Segment> batch, const F& f) {
  for (std::size_t i = 0; i < batch.size();) {
    const Adapter* const adapter = batch[i].adapter;
    const std::size_t first = i;
    std::size_t count = 0;
    for (; i < batch.size() && batch[i].adapter == adapter; ++i) count += batch[i].virtual_rows > 0;
    if (count == 0) continue;
    const auto rows = context.arena.take_span<std::int64_t>(count);
    auto next = rows.begin();
    for (const Segment& s : batch.subspan(first, i - first))
      if (s.virtual_rows > 0) *next++ = s.row;
    f(*adapter, std::span<const std::int64_t>(rows));
  }
}

class Attention {
 public:
  /// Of n_head heads of head_dim features each, which the features may be more than (Gpt2Config::pruned_heads). The scores are multiplied
  /// by `scale`; `layer` is the layer of the caches this module uses.
  Attention(std::int64_t features, std::int64_t n_head, std::int64_t head_dim, float scale,
            std::int64_t layer);

  /// y = residual + c_proj(attention(c_attn(x))), all float32 [R, features]. Writes the new tokens' keys and
  /// values behind the caches' lengths.
  void forward(Context& context, ConstTensorView x, std::span<const Segment> batch, ConstTensorView residual,
               TensorView y) const;

  /// The two halves of forward, for a block of which not all results are needed: attention(c_attn(x)) float32 [R, n_head *
  /// head_dim], of the last `needed` rows of each segment alone (what the others hold does not matter), and the rest. Where rows are not
  /// needed, in inference in float32: else UnsupportedError.
  TensorView heads(Context& context, ConstTensorView x, std::span<const Segment> batch,
                   std::int64_t needed) const;
  void project(Context& context, ConstTensorView heads, ConstTensorView residual, TensorView y) const;

  bool keeps_input(const Context& context) const { return c_attn_.keeps_input(context); }

  template <class Visitor>
  void visit(const std::string& prefix, Visitor& f) {
    visit_parameters(*this, prefix, f);
  }
  template <class Visitor>
  void visit(const std::string& prefix, Visitor& f) const {
    visit_parameters(*this, prefix, f);
  }

 private:
  template <class Self, class Visitor>
  static void visit_parameters(Self& self, const std::string& prefix, Visitor& f) {
    self.c_attn_.visit(concat(prefix, "c_attn."), f);
    self.c_proj_.visit(concat(prefix, "c_proj."), f);
  }

  std::int64_t n_head_;
  std::int64_t head_dim_;
  float scale_;
  std::int64_t layer_;
  Linear c_attn_;
  Linear c_proj_;
};

}  // namespace gpt::nn
