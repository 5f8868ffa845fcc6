#include "gpt/models/gpt2.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "core/fingerprint.h"
#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/ops/elementwise.h"
#include "models/gpt2_rows.h"
#include "nn/last_rows.h"
#include "ops/pack.h"

namespace gpt {
namespace {

/// What the scores of a layer are multiplied by. A call, since the compiler may take arithmetic out of an environment's
/// scope.
[[gnu::noinline]] float attention_scale(const Gpt2Config& config, std::int64_t layer) {
  double scale = 1.0;
  if (config.scale_attn_weights) scale /= std::sqrt(static_cast<double>(config.head_dim()));
  if (config.scale_attn_by_inverse_layer_idx) scale /= static_cast<double>(layer + 1);
  return static_cast<float>(scale);
}

nn::Block make_block(const Gpt2Config& c, std::int64_t layer) {
  const DefaultFloatEnvironment environment;
  return {nn::LayerNorm(c.n_embd, c.layer_norm_epsilon, {layer, false}),
          nn::Attention(c.n_embd, c.heads_of(layer), c.head_dim(), attention_scale(c, layer), layer),
          nn::LayerNorm(c.n_embd, c.layer_norm_epsilon, {layer, true}),
          nn::Mlp(c.n_embd, c.inner_dim(), c.activation_function, layer)};
}

/// Keeps nothing but y, and records how to compute the rest again.
void forward_recomputed(const nn::Block& block, nn::Context& context, ConstTensorView x,
                        std::span<const nn::Segment> segments, TensorView y) {
  Tape& tape = *context.tape;
  tape.record_recomputed(
      y, [&block, &tape, stop = context.stop, dropout = context.dropout, activations = context.activations,
          adapted = context.adapted, x, segments](Arena& memory) {
        nn::Context again{memory, stop, nullptr, &tape, dropout, activations, adapted};
        const TensorView result = memory.take(x.shape());
        block.forward(again, x, segments, result);
        return result;
      });
  const Arena::Scope scratch(context.arena);
  context.tape = nullptr;
  block.forward(context, x, segments, y);
  context.tape = &tape;
}

bool needs_last_rows(const ForwardOptions& options) {
  return options.last_hidden || options.logits == LogitsRows::kLast;
}

/// Whether of rows that are no sequence's last the last block has but to put keys and values into the caches.
bool needs_no_other_rows(const ForwardOptions& options, const BatchRows& batch) {
  const bool shows_all = options.hidden_states || options.final_hidden || options.attentions ||
                         options.on_product || options.logits == LogitsRows::kAll;
  return !shows_all && options.tape == nullptr && !options.dropout && options.activations == DType::f32 &&
         (!needs_last_rows(options) || batch.rows > std::ssize(batch.segments));
}

/// Two uses of the same random numbers would be one mask. A layer has three of its own, and one for each adapted linear layer.
void check_dropout(std::size_t sequences, std::int64_t n_layer) {
  constexpr std::size_t kUses = 3 + nn::kLinearPlaces;
  constexpr std::size_t kMostLayers =
      (nn::DropoutState::kMostUses - 1) / kUses;  // beside that of the embeddings
  if (sequences > nn::DropoutState::kMostSequences || static_cast<std::size_t>(n_layer) > kMostLayers)
    fail<ArgumentError>("gpt2", "dropout for ", sequences, " sequences and ", n_layer,
                        " layers, expected at most ", nn::DropoutState::kMostSequences, " and ", kMostLayers);
}

/// What is only for a look inside.
void check_inspection(std::span<const Chunk> batch, const ForwardOptions& options) {
  if (options.attentions && (batch.size() != 1 || batch.front().cache != nullptr ||
                             options.activations != DType::f32 || options.gradient_checkpointing))
    fail<ArgumentError>("gpt2",
                        "attentions are of a single sequence without a cache, in float32 activations, "
                        "without gradient_checkpointing");
  if (options.embedding_gradient.raw() != nullptr && options.tape == nullptr)
    fail<ArgumentError>("gpt2", "an embedding_gradient without a tape");
}

const float* given_embeddings(std::string_view what, ConstTensorView given, const Shape& shape) {
  if (given.shape() != shape || given.dtype() != DType::f32)
    fail<ArgumentError>("gpt2", what, " are ", name_of(given.dtype()), " ", given.shape().to_string(),
                        ", expected float32 ", shape.to_string());
  return given.data<float>();
}

/// Adds what there is to add to the embeddings x, and lets their gradient come back.
void offset_embeddings(Tape* tape, std::span<const Chunk> batch, EmbeddingOffset& to, TensorView x) {
  to.begin.assign(1, 0);
  for (const Chunk& chunk : batch)
    to.begin.push_back(to.begin.back() + static_cast<std::int64_t>(chunk.ids.size()));
  if (to.offset.empty() && to.make) to.offset = to.make(to, x.shape());
  if (!to.offset.empty()) {
    given_embeddings("offsets of embeddings", to.offset, x.shape());
    ops::add(to.offset, x);
  }
  if (tape == nullptr) return;
  to.gradient = Tensor::zeros(x.shape());
  tape->observe(x, to.gradient);
}

}  // namespace

Gpt2::Gpt2(const Gpt2Config& config) try
    : config_((config.validate(), config)),
      wte_(config.vocab_size, config.n_embd),
      wpe_(config.n_positions, config.n_embd),
      ln_f_(config.n_embd, config.layer_norm_epsilon) {
  blocks_.reserve(static_cast<std::size_t>(config.n_layer));
  for (std::int64_t i = 0; i < config.n_layer; ++i) blocks_.push_back(make_block(config, i));
  if (!config.tie_word_embeddings)
    lm_head_.emplace(config.n_embd, config.vocab_size, ops::WeightLayout::kOutIn, false);
} catch (...) {
  rethrow_with_memory_errors("gpt2");
}

void Gpt2::set_dropout(float resid_pdrop, float embd_pdrop, float attn_pdrop) try {
  Gpt2Config changed = config_;
  changed.resid_pdrop = resid_pdrop;
  changed.embd_pdrop = embd_pdrop;
  changed.attn_pdrop = attn_pdrop;
  changed.validate();
  config_ = std::move(changed);
} catch (...) {
  rethrow_with_memory_errors("gpt2");
}

void Gpt2::set_special_tokens(std::optional<TokenId> bos_token_id, std::vector<TokenId> eos_token_id,
                              std::optional<TokenId> pad_token_id) noexcept {
  config_.bos_token_id = bos_token_id;
  config_.eos_token_id = std::move(eos_token_id);
  config_.pad_token_id = pad_token_id;
}

bool Gpt2::packs(std::string_view matrix) noexcept { return matrix != "wpe.weight"; }

void Gpt2::pack() try {
  PagePool pool;
  visit_matrices([&pool](const std::string& name, ops::Weight& weight) {
    if (packs(name)) weight = ops::pack(weight, pool);
  });
} catch (...) {
  rethrow_with_memory_errors("gpt2");
}

nn::KvShape Gpt2::cache_shape() const {
  return with_memory_errors("kv_cache", [&] {
    nn::KvShape shape{config_.n_layer, config_.n_head, config_.head_dim()};
    for (std::int64_t layer = 0; !config_.pruned_heads.empty() && layer < config_.n_layer; ++layer)
      shape.layer_heads.push_back(config_.heads_of(layer));
    return shape;
  });
}

bool Gpt2::fits(const nn::KvShape& shape) const noexcept {
  bool all = shape.n_layer == config_.n_layer && shape.n_head == config_.n_head &&
             shape.head_dim == config_.head_dim();
  for (std::int64_t layer = 0; all && layer < config_.n_layer; ++layer)
    all = shape.heads(layer) == config_.heads_of(layer);
  return all;
}

nn::KvCache Gpt2::make_cache(std::int64_t capacity, DType dtype, const nn::Adapter* adapter) const {
  const std::int64_t most = max_tokens(adapter);
  return {cache_shape(), capacity > 0 ? std::min(capacity, most) : most, dtype, virtual_tokens(adapter)};
}

nn::KvPool Gpt2::make_pool(std::size_t budget, std::int64_t page_tokens, DType dtype) const {
  return {cache_shape(), page_tokens, budget, dtype};
}

ForwardOutput Gpt2::forward(std::span<const Chunk> batch, Arena& arena, const ForwardOptions& options) const
    try {
  check_batch(batch);
  if (options.tape != nullptr || options.dropout)
    for (const Chunk& chunk : batch)
      if (chunk.cache != nullptr)
        fail<ArgumentError>("gpt2", "a cache beside a tape or dropout, expected whole sequences");
  if (options.dropout) check_dropout(batch.size(), config_.n_layer);
  if (options.activations != DType::f32 && (options.activations != DType::bf16 || options.on_product))
    fail<ArgumentError>("gpt2", "activations are ", name_of(options.activations), ", expected float32",
                        options.on_product ? " beside on_product" : " or bfloat16");
  if (options.virtual_rows < 0)
    fail<ArgumentError>("gpt2", "virtual_rows is ", options.virtual_rows, ", expected 0 or more");
  check_inspection(batch, options);
  for (const Chunk& chunk : batch)
    if (chunk.cache != nullptr)
      chunk.cache->reserve(chunk.cache->length() + static_cast<std::int64_t>(chunk.ids.size()));
  nn::Context context{arena, options.stop, options.on_product ? &options.on_product : nullptr, options.tape};
  context.activations = options.activations;
  const BatchRows all = gather(batch, adapter_.get(), arena);
  const std::span<const nn::Segment> segments = all.segments;
  context.adapted = all.adapted;
  if (options.tape != nullptr && !context.adapted.empty() && context.adapted.front().rows != all.rows)
    fail<ArgumentError>("gpt2", "sequences with different adapters on a tape, expected one for all");
  if (all.virtual_rows > 0 &&
      (options.attentions || options.embeddings.raw() != nullptr ||
       options.embedding_gradient.raw() != nullptr || options.embedding_offset != nullptr))
    fail<UnsupportedError>(
        "gpt2", "a look at, or an offset to, the embeddings of a sequence that begins with virtual tokens");
  const auto shown = [&](TensorView of) {
    return all.virtual_rows == 0 ? of
                                 : without_virtual_rows(options.tape, of, all, options.virtual_rows, arena);
  };
  ForwardOutput out;
  if (options.attentions) context.attentions = &out.attentions;

  TensorView x = arena.take({all.rows, config_.n_embd});
  TensorView y = arena.take(x.shape());
  if (options.embeddings.raw() != nullptr)
    std::copy_n(given_embeddings("embeddings", options.embeddings, x.shape()), x.numel(), x.data<float>());
  else
    autograd::embedding(options.tape, all.ids, all.positions, wte_.weight(), wpe_.weight(), x);
  if (options.embedding_gradient.raw() != nullptr) options.tape->watch(x, options.embedding_gradient);
  if (options.embedding_offset != nullptr)
    offset_embeddings(options.tape, batch, *options.embedding_offset, x);
  embed_virtual_tokens(context, all, wpe_.weight(), x);
  if (options.dropout) {
    context.dropout = {config_.resid_pdrop,   config_.embd_pdrop,      config_.attn_pdrop,
                       options.dropout->seed, options.dropout->stream, true};
    if (config_.embd_pdrop > 0) {
      autograd::dropout(options.tape, x, context.dropout.take(config_.embd_pdrop), {}, y, arena);
      std::swap(x, y);
    }
  }
  const auto adapted_last = [&] {
    return adapted_rows(segments, arena, [](const nn::Segment&) { return 1; });
  };
  const bool narrows = needs_no_other_rows(options, all);
  for (const nn::Block& block : std::span(blocks_).first(blocks_.size() - (narrows ? 1 : 0))) {
    if (options.hidden_states) out.hidden_states.push_back(shown(x));
    if (options.hidden_states || options.tape != nullptr) y = arena.take(x.shape());
    if (options.tape != nullptr && options.gradient_checkpointing) {
      forward_recomputed(block, context, x, segments, y);
    } else {
      std::optional<Arena::Scope> scratch;
      if (options.tape == nullptr && !options.attentions) scratch.emplace(arena);
      block.forward(context, x, segments, y);
    }
    std::swap(x, y);
  }
  if (narrows) {
    y = needs_last_rows(options) ? arena.take({std::ssize(segments), config_.n_embd}) : TensorView();
    const auto adapted = adapted_last();
    const Arena::Scope scratch(arena);
    blocks_.back().forward_last(context, x, segments, adapted, y);
    x = y;
  }
  context.throw_if_stopped();
  const TensorView last = x;
  if (options.hidden_states || options.final_hidden || options.logits == LogitsRows::kAll) {
    x = shown(x);
    context.adapted = adapted_rows(segments, arena, [&](const nn::Segment& s) {
      return s.tokens() + std::min(s.virtual_rows, options.virtual_rows);
    });
  }
  if (options.hidden_states || options.final_hidden) {
    out.final_hidden = arena.take(x.shape());
    ln_f_.forward(context, x, out.final_hidden);
  }
  if (options.hidden_states) {
    out.hidden_states.push_back(x);
    out.hidden_states.push_back(out.final_hidden);
  }
  nn::Context untaped{arena, options.stop};
  if (needs_last_rows(options)) {
    const TensorView rows = narrows ? last : nn::last_rows(last, segments, arena);
    untaped.adapted = adapted_last();
    out.last_hidden = arena.take(rows.shape());
    ln_f_.forward(untaped, rows, out.last_hidden);
  }
  if (options.logits != LogitsRows::kNone) {
    TensorView normal = out.last_hidden;
    if (options.logits == LogitsRows::kAll) {
      untaped.adapted = context.adapted;
      normal = arena.take(x.shape());
      ln_f_.forward(untaped, x, normal);
    }
    out.logits = arena.take({normal.dim(0), config_.vocab_size});
    context.observe(head(), normal);
    ops::linear(normal, head(), {}, out.logits, arena);
  }
  for (const nn::Segment& s : segments)
    if (s.cache != nullptr) s.cache->advance(s.tokens());
  return out;
} catch (...) {
  rethrow_with_memory_errors("gpt2");
}

TensorView Gpt2::logits_of(ConstTensorView hidden, Arena& arena, const std::stop_token& stop) const {
  const TensorView normal = arena.take(hidden.shape());
  nn::Context context{arena, stop};
  context.throw_if_stopped();
  ln_f_.forward(context, hidden, normal);
  const TensorView logits = arena.take({hidden.dim(0), config_.vocab_size});
  ops::linear(normal, head(), {}, logits, arena);
  return logits;
}

void Gpt2::attach(std::shared_ptr<nn::Adapter> adapter) {
  if (adapter != nullptr) check(*adapter);
  adapter_ = std::move(adapter);
}

nn::AdaptedShape Gpt2::adapted_shape() const noexcept {
  std::uint64_t pruned = 0;
  if (!config_.pruned_heads.empty()) {
    Fingerprint sum;
    for (const auto& [layer, heads] : config_.pruned_heads) {
      sum.add(layer);
      for (const std::int64_t head : heads) sum.add(head);
    }
    pruned = sum.value();
  }
  return {config_.n_layer, config_.n_embd, config_.inner_dim(), pruned};
}

void Gpt2::check(const nn::Adapter& adapter, std::string_view what) const {
  const nn::AdaptedShape mine = adapted_shape(), its = adapter.shape();
  if (its != mine)
    fail<ArgumentError>("gpt2", what, " is for n_layer = ", its.n_layer, ", n_embd = ", its.features,
                        ", n_inner = ", its.inner, ", expected ", mine.n_layer, ", ", mine.features, ", ",
                        mine.inner, its.pruned_heads != mine.pruned_heads ? ", and its pruned_heads" : "");
}

std::int64_t Gpt2::virtual_tokens(const nn::Adapter* adapter) const noexcept {
  if (adapter == nullptr) adapter = adapter_.get();
  return adapter == nullptr ? 0 : adapter->virtual_tokens();
}

std::int64_t Gpt2::max_tokens(const nn::Adapter* adapter) const noexcept {
  return std::max<std::int64_t>(0, config_.n_positions - virtual_tokens(adapter));
}

void Gpt2::check_batch(std::span<const Chunk> batch) const {
  constexpr std::string_view where = "gpt2";
  if (batch.empty()) fail<ArgumentError>(where, "the batch is empty");
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const auto& [ids, cache, adapter] = batch[i];
    if (adapter != nullptr) check(*adapter, concat("the adapter of chunk ", i));
    const auto count = static_cast<std::int64_t>(ids.size());
    const std::int64_t before = virtual_tokens(adapter), past = cache == nullptr ? 0 : cache->length();
    if (count == 0) fail<ArgumentError>(where, "chunk ", i, " has no tokens");
    if (cache != nullptr && !fits(cache->shape()))
      fail<ArgumentError>(where, "the cache of chunk ", i,
                          " was made for another network, of n_layer = ", cache->shape().n_layer,
                          ", n_head = ", cache->shape().n_head, ", head_dim = ", cache->shape().head_dim,
                          ", expected ", config_.n_layer, ", ", config_.n_head, ", ", config_.head_dim(),
                          config_.pruned_heads.empty() ? "" : " and its pruned_heads");
    for (std::size_t j = 0; cache != nullptr && j < i; ++j)
      if (batch[j].cache == cache)
        fail<ArgumentError>(where, "chunks ", j, " and ", i, " have the same cache");
    if (cache != nullptr && cache->virtual_tokens() != before)
      fail<ArgumentError>(where, "the cache of chunk ", i, " was made for ", cache->virtual_tokens(),
                          " virtual tokens, expected ", before, ", as its adapter has");
    if (past + count > config_.n_positions - before)
      fail<ArgumentError>(where, "chunk ", i, ": ", past, " cached and ", count, " new tokens",
                          before > 0 ? concat(" behind ", before, " virtual ones") : "",
                          " do not fit into n_positions = ", config_.n_positions);
    if (cache != nullptr && past + count > cache->capacity())
      fail<ArgumentError>(where, "chunk ", i, ": ", past, " cached and ", count,
                          " new tokens do not fit into the cache's capacity of ", cache->capacity());
    for (std::size_t t = 0; t < ids.size(); ++t)
      if (ids[t] < 0 || ids[t] >= config_.vocab_size)
        fail<ArgumentError>(where, "token id ", ids[t], " at index ", t, " of chunk ", i, " is outside [0, ",
                            config_.vocab_size, ")");
  }
}

std::uint64_t Gpt2::fingerprint(const std::stop_token& stop) const try {
  struct Adder {
    Fingerprint& sum;
    const std::stop_token& stop;
    void operator()(const std::string& name, const Tensor& tensor, const Shape&) const {
      if (stop.stop_requested()) fail<CancelledError>("network", "taking the fingerprint was cancelled");
      sum.add(name).add(static_cast<int>(tensor.dtype()));
      for (int i = 0; i < tensor.shape().rank(); ++i) sum.add(tensor.shape()[i]);
      sum.add({reinterpret_cast<const char*>(tensor.view().raw()), tensor.nbytes()});
    }
    void operator()(const std::string& name, const ops::Weight& weight) const {
      sum.add(static_cast<int>(weight.layout));
      for (const Tensor* part : {&weight.values, &weight.scales, &weight.zero_points})
        (*this)(name, *part, {});
    }
  };
  Fingerprint sum;
  visit(Adder{sum, stop});
  return sum.value();
} catch (...) {
  rethrow_with_memory_errors("network");
}

Tensor logits_of_padded(const Gpt2& network, ConstTensorView input_ids, ConstTensorView attention_mask,
                        std::stop_token stop) try {
  constexpr std::string_view where = "logits_of_padded";
  if (input_ids.shape().rank() != 2)
    fail<ShapeError>(where, "input_ids has shape ", input_ids.shape().to_string(), ", expected [B, T]");
  if (attention_mask.shape() != input_ids.shape())
    fail<ShapeError>(where, "attention_mask has shape ", attention_mask.shape().to_string(), ", expected ",
                     input_ids.shape().to_string(), ", the shape of input_ids");
  const std::int64_t b = input_ids.dim(0), t = input_ids.dim(1), v = network.config().vocab_size;
  const auto* ids = input_ids.data<std::int64_t>();
  const auto* mask = attention_mask.data<std::int64_t>();
  Tensor logits = Tensor::zeros({b, t, v});
  Arena arena;
  std::vector<TokenId> row;
  std::vector<std::int64_t> columns;
  for (std::int64_t i = 0; i < b; ++i) {
    row.clear();
    columns.clear();
    for (std::int64_t j = 0; j < t; ++j) {
      const std::int64_t m = mask[i * t + j], id = ids[i * t + j];
      if (m != 0 && m != 1)
        fail<ArgumentError>(where, "attention_mask[", i, ", ", j, "] is ", m, ", expected 0 or 1");
      if (m == 0) continue;
      if (id < 0 || id >= v)
        fail<ArgumentError>(where, "input_ids[", i, ", ", j, "] is ", id, ", outside [0, ", v, ")");
      row.push_back(static_cast<TokenId>(id));
      columns.push_back(j);
    }
    if (row.empty()) continue;
    arena.reset();
    const Chunk chunk{row};
    const ForwardOutput out = network.forward(
        {&chunk, 1}, arena, {.logits = LogitsRows::kAll, .hidden_states = false, .stop = stop});
    for (std::size_t r = 0; r < columns.size(); ++r)
      std::copy_n(out.logits.data<float>() + static_cast<std::int64_t>(r) * v, v,
                  logits.data<float>() + (i * t + columns[r]) * v);
  }
  return logits;
} catch (...) {
  rethrow_with_memory_errors("logits_of_padded");
}

}  // namespace gpt
