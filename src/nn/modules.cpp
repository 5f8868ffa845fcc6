// The forward passes of the modules: short, and in the order of a block.
#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "gpt/autograd/ops.h"
#include "gpt/nn/attention.h"
#include "gpt/nn/block.h"
#include "gpt/nn/layer_norm.h"
#include "gpt/nn/linear.h"
#include "gpt/nn/mlp.h"
#include "nn/last_rows.h"

namespace gpt::nn {
namespace {

/// The rows of a matrix that have an adapter.
template <class View>
View rows_of(View x, const AdaptedRows& adapted) {
  const std::int64_t row_bytes = x.dim(1) * static_cast<std::int64_t>(size_of(x.dtype()));
  return {x.raw() + adapted.row * row_bytes, x.dtype(), {adapted.rows, x.dim(1)}};
}

/// Whether the result of attention is computed again for gradients rather than kept: where that takes half a percent of a step at
/// most (it grows with the rows of a sequence, what else a block does with its features), and not more memory than it saves
/// (for keys are padded to whole groups).
bool passes(std::span<const Segment> batch, std::int64_t features) {
  return std::ranges::all_of(
      batch, [features](const Segment& s) { return s.rows >= ops::kKeyGroup && s.rows <= features / 8; });
}

}  // namespace

ConstTensorView LinearAdapter::input(Context&, ConstTensorView x) const { return x; }

void Adapter::begin_training(std::int64_t) {}

void Adapter::add_penalty(std::span<const LearnedTensor>) const {}

void Adapter::after_update(std::span<const LearnedTensor>, const UpdateInfo&) {}

void Adapter::visit_state(const Visitor&) {}

TensorView Adapter::norm_output(Context&, NormId, TensorView y) const { return y; }

void Adapter::embed_virtual_tokens(Context&, const ops::Weight&, std::span<const std::int64_t>,
                                   TensorView) const {}

void Adapter::set_keys_and_values(Context&, std::int64_t, std::span<const std::int64_t>, TensorView) const {}

void Linear::forward(Context& context, ConstTensorView x, TensorView y, ops::Activation f,
                     ConstTensorView residual) const {
  context.throw_if_stopped();
  context.observe(weight_, x);
  if (is_adapted(context)) return forward_adapted(context, x, y, f, residual);
  autograd::linear(context.tape, x, weight_, {.bias = bias(), .activation = f, .residual = residual}, y,
                   context.arena);
}

bool Linear::is_adapted(const Context& context) const noexcept {
  return std::ranges::any_of(context.adapted,
                             [&](const AdaptedRows& a) { return a.adapter->linear(id_) != nullptr; });
}

ConstTensorView Linear::adapted_input(Context& context, ConstTensorView x) const {
  const auto changes = [&](const AdaptedRows& a) {
    const LinearAdapter* part = a.adapter->linear(id_);
    return part != nullptr && part->changes_input();
  };
  if (std::ranges::none_of(context.adapted, changes)) return x;
  if (context.tape != nullptr) return context.adapted.front().adapter->linear(id_)->input(context, x);
  const TensorView all = context.arena.take(x.shape(), x.dtype());
  std::memcpy(all.raw(), x.raw(), x.nbytes());
  for (const AdaptedRows& a : context.adapted) {
    if (!changes(a)) continue;
    const Arena::Scope scratch(context.arena);
    const ConstTensorView changed = a.adapter->linear(id_)->input(context, rows_of(x, a));
    std::memcpy(rows_of(all, a).raw(), changed.raw(), changed.nbytes());
  }
  return all;
}

/// One product for all rows, whatever their adapters, then each adapter for its own.
void Linear::forward_adapted(Context& context, ConstTensorView x, TensorView y, ops::Activation f,
                             ConstTensorView residual) const {
  std::optional<Arena::Scope> scratch;
  if (context.tape == nullptr) scratch.emplace(context.arena);
  // On a tape, y is written to again when a part has made another tensor of z.
  const auto needs_z = [&](const AdaptedRows& a) {
    const LinearAdapter* part = a.adapter->linear(id_);
    return part != nullptr && !part->in_place();
  };
  const bool in_place = f == ops::Activation::kNone && y.dtype() == DType::f32 && y.raw() != residual.raw() &&
                        (context.tape == nullptr || std::ranges::none_of(context.adapted, needs_z));
  TensorView z = in_place ? y : context.arena.take(y.shape());
  autograd::linear(context.tape, adapted_input(context, x), weight_, {.bias = bias()}, z, context.arena);
  for (const AdaptedRows& a : context.adapted) {
    const LinearAdapter* part = a.adapter->linear(id_);
    if (part == nullptr) continue;
    if (context.tape != nullptr)
      z = part->output(context, *this, x, z);  // which is of all rows
    else
      part->output(context, *this, rows_of(x, a), rows_of(z, a));
  }
  if (f != ops::Activation::kNone) {
    const TensorView result = residual.raw() == nullptr ? y : context.arena.take(y.shape());
    autograd::activation(context.tape, f, z, result, context.arena);
    z = result;
  }
  if (residual.raw() != nullptr || z.raw() != y.raw())
    autograd::add(context.tape, z, residual, y, context.arena);
}

void Linear::forward_dropped(Context& context, ConstTensorView x, ConstTensorView residual,
                             TensorView y) const {
  const float rate = context.dropout.resid_pdrop;
  if (rate == 0) return forward(context, x, y, ops::Activation::kNone, residual);
  const TensorView sum = context.take(y.shape());
  forward(context, x, sum);
  autograd::dropout(context.tape, sum, context.dropout.take(rate), residual, y, context.arena);
}

bool LayerNorm::is_repeatable(const Context& context) const noexcept {
  return std::ranges::none_of(context.adapted,
                              [](const AdaptedRows& a) { return a.adapter->changes_norms(); });
}

void LayerNorm::forward(Context& context, ConstTensorView x, TensorView y) const {
  autograd::layer_norm(context.tape, x, weight_, bias_, epsilon_, y, context.arena);
  for (const AdaptedRows& a : context.adapted) {
    if (!a.adapter->changes_norms()) continue;
    const TensorView rows = context.tape == nullptr ? rows_of(y, a) : y;  // of all, where there is a tape
    const TensorView changed = a.adapter->norm_output(context, id_, rows);
    if (changed.raw() != rows.raw()) autograd::add(context.tape, changed, {}, rows, context.arena);
  }
}

Attention::Attention(std::int64_t features, std::int64_t n_head, std::int64_t head_dim, float scale,
                     std::int64_t layer)
    : n_head_(n_head),
      head_dim_(head_dim),
      scale_(scale),
      layer_(layer),
      c_attn_(features, 3 * n_head * head_dim, ops::WeightLayout::kInOut, true,
              {layer, LinearPlace::kAttnCAttn}),
      c_proj_(n_head * head_dim, features, ops::WeightLayout::kInOut, true,
              {layer, LinearPlace::kAttnCProj}) {}

void Attention::forward(Context& context, ConstTensorView x, std::span<const Segment> batch,
                        ConstTensorView residual, TensorView y) const {
  project(context, heads(context, x, batch, x.dim(0)), residual, y);
}

void Attention::project(Context& context, ConstTensorView heads, ConstTensorView residual,
                        TensorView y) const {
  c_proj_.forward_dropped(context, heads, residual, y);
}

TensorView Attention::heads(Context& context, ConstTensorView x, std::span<const Segment> batch,
                            std::int64_t needed) const {
  const TensorView qkv = context.take({x.dim(0), c_attn_.out_features()});
  c_attn_.forward(context, x, qkv);
  for_virtual_tokens(context, batch, [&](const Adapter& adapter, std::span<const std::int64_t> rows) {
    adapter.set_keys_and_values(context, layer_, rows, qkv);
  });
  const auto spans = context.arena.take_span<ops::AttentionSpan>(batch.size());
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const Segment& s = batch[i];
    spans[i] = {.row = s.row, .rows = s.rows, .skipped = std::max<std::int64_t>(0, s.rows - needed)};
    if (s.cache == nullptr) continue;
    spans[i].past = s.cache->positions();
    spans[i].cache = s.cache->layer(layer_);
  }
  const TensorView heads =
      context.take({x.dim(0), n_head_ * head_dim_}, !passes(batch, x.dim(1)), context.passing.heads);
  if (context.attentions != nullptr)
    ops::attention_probabilities(
        qkv, {n_head_, head_dim_, scale_},
        context.attentions->emplace_back(context.arena.take({n_head_, x.dim(0), x.dim(0)})));
  const ops::Dropout dropout = context.dropout.take(context.dropout.attn_pdrop);
  autograd::attention(context.tape, qkv, spans, {n_head_, head_dim_, scale_, dropout}, heads, context.arena);
  return heads;
}

Mlp::Mlp(std::int64_t features, std::int64_t inner, ops::Activation f, std::int64_t layer)
    : c_fc_(features, inner, ops::WeightLayout::kInOut, true, {layer, LinearPlace::kMlpCFc}),
      c_proj_(inner, features, ops::WeightLayout::kInOut, true, {layer, LinearPlace::kMlpCProj}),
      activation_(f) {}

void Mlp::forward(Context& context, ConstTensorView x, ConstTensorView residual, TensorView y) const {
  // An activation is computed again where a gradient needs its result, a product is not.
  const bool is_kept = activation_ == ops::Activation::kNone && c_proj_.keeps_input(context);
  const TensorView inner = context.take({x.dim(0), c_fc_.out_features()}, is_kept, context.passing.inner);
  c_fc_.forward(context, x, inner, activation_);
  c_proj_.forward_dropped(context, inner, residual, y);
}

Block::Block(LayerNorm ln_1, Attention attn, LayerNorm ln_2, Mlp mlp)
    : ln_1_(std::move(ln_1)), attn_(std::move(attn)), ln_2_(std::move(ln_2)), mlp_(std::move(mlp)) {}

void Block::forward(Context& context, ConstTensorView x, std::span<const Segment> batch, TensorView y) const {
  const TensorView h = context.arena.take(x.shape());
  const auto room = [&](const LayerNorm& norm, bool is_used_again) {
    return context.take(x.shape(), is_used_again && !norm.is_repeatable(context), context.passing.normal);
  };
  const TensorView normal_1 = room(ln_1_, attn_.keeps_input(context));
  ln_1_.forward(context, x, normal_1);
  attn_.forward(context, normal_1, batch, x, h);
  const TensorView normal_2 = context.tape == nullptr ? normal_1 : room(ln_2_, mlp_.keeps_input(context));
  ln_2_.forward(context, h, normal_2);
  mlp_.forward(context, normal_2, h, y);
}

void Block::forward_last(Context& context, ConstTensorView x, std::span<const Segment> batch,
                         std::span<const AdaptedRows> adapted, TensorView y) const {
  Arena& arena = context.arena;
  const bool is_needed = y.raw() != nullptr;
  const TensorView normal_1 = context.take(x.shape());
  ln_1_.forward(context, x, normal_1);
  const TensorView heads = attn_.heads(context, normal_1, batch, is_needed ? 1 : 0);
  if (!is_needed) return;
  Context last = context;
  last.adapted = adapted;
  const TensorView h = arena.take(y.shape()), normal_2 = last.take(y.shape());
  attn_.project(last, last_rows(heads, batch, arena), last_rows(x, batch, arena), h);
  ln_2_.forward(last, h, normal_2);
  mlp_.forward(last, normal_2, h, y);
}

}  // namespace gpt::nn
