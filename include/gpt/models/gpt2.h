// The GPT-2 network: configuration, weights, and the one forward pass that everything runs through.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "gpt/core/arena.h"
#include "gpt/core/tensor.h"
#include "gpt/core/token.h"
#include "gpt/models/gpt2_config.h"
#include "gpt/nn/adapter.h"
#include "gpt/nn/block.h"
#include "gpt/nn/embedding.h"
#include "gpt/nn/kv_cache.h"
#include "gpt/nn/kv_pool.h"
#include "gpt/nn/layer_norm.h"
#include "gpt/nn/linear.h"

namespace gpt {

/// Tokens to append to one sequence: ids for the positions behind what the cache holds. Without a cache they are
/// a whole sequence, to which nothing will be appended.
struct Chunk {
  std::span<const TokenId> ids;
  nn::KvCache* cache = nullptr;
  /// In the place of the one that is attached to the network.
  const nn::Adapter* adapter = nullptr;
};

/// Which rows of logits a forward computes.
enum class LogitsRows {
  kNone,
  kLast,  // the last token of every chunk
  kAll,   // every token, and virtual ones as ForwardOptions::virtual_rows says
};

/// Where a training pass takes the random numbers of dropout from: 2^32 streams from `stream` on, which
/// are enough for 2^20 sequences in 585 layers.
struct DropoutSeed {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};

/// What is added to the embeddings of a pass, and the gradient that comes back to them: what adversarial training needs.
struct EmbeddingOffset {
  Tensor offset = {};  // float32 [R, D], added to the sum of token and position embeddings; empty: nothing is
  /// Unless it is empty, makes an offset of that shape where there is none: once `begin` is known.
  std::function<Tensor(const EmbeddingOffset& batch, const Shape& shape)> make = {};
  /// Made by a pass on a tape, float32 [R, D]: backward() adds the gradient of that sum to it. It flows on to the embeddings.
  Tensor gradient = {};
  std::vector<std::int64_t> begin = {};  // set by the pass: the first row of each sequence, and the end
};

struct ForwardOptions {
  LogitsRows logits = LogitsRows::kLast;
  bool hidden_states = false;
  bool final_hidden = false;
  bool last_hidden = false;  // of the last tokens alone, for what a network says of a whole text
  /// The attention's probabilities, of a single whole sequence in float32 activations, without gradient_checkpointing.
  bool attentions = false;
  /// Of a sequence that begins with an adapter's virtual tokens, logits of all rows and hidden states have rows for its tokens,
  /// and before them for so many of the last virtual ones: 1 to predict the first token.
  std::int64_t virtual_rows = 0;
  std::stop_token stop = {};          // asked before every matrix product
  nn::InputObserver on_product = {};  // sees the inputs of every matrix product
  /// Applies dropout, at the rates of the configuration; sequences then have no caches.
  std::optional<DropoutSeed> dropout = {};
  /// Records the pass up to the final hidden state; then results stay in the arena, and sequences have no caches. As backward()
  /// passes a block, what the arena holds of it goes back to the system, unless hidden states are asked for.
  Tape* tape = nullptr;
  /// With a tape: keep of each block its result alone, and compute the rest again when gradients flow back. The same bits for
  /// less memory, and about a third more time.
  bool gradient_checkpointing = false;
  /// The type that results inside a block are rounded to and kept in, between the operations that make and use them: f32, or
  /// bf16 for half the memory. The sums that go from block to block, the final hidden state and all arithmetic are float32.
  DType activations = DType::f32;
  /// With a tape, float32 [R, D]: the gradient of the sum of token and position embeddings is added to it.
  TensorView embedding_gradient = {};
  /// float32 [R, D], in the place of that sum: for what a network says beside its input. Empty: of the ids.
  ConstTensorView embeddings = {};
  /// Unless null. It must stay where it is until the tape is replayed.
  EmbeddingOffset* embedding_offset = nullptr;
};

/// Results live in the arena of the call.
struct ForwardOutput {
  /// float32 [rows, V], rows as LogitsRows says, chunk after chunk; empty for kNone.
  TensorView logits;
  /// When asked for, n_layer + 2 tensors float32 [R, D] over all R tokens: the embedding sum, the output of
  /// each block, and the final layer norm's. (transformers leaves out the last block's raw output.)
  std::vector<TensorView> hidden_states;
  /// When asked for, n_layer tensors float32 [H, T, T]: how much each token (in the middle) looks at each (last).
  std::vector<TensorView> attentions;
  /// When asked for, the final layer norm's result for all tokens, float32 [R, D]: what the head is multiplied by.
  TensorView final_hidden;
  /// When asked for, or with the last logits, the same for the last token of every chunk, float32 [chunks, D]; on no tape.
  TensorView last_hidden;
};

/// GPT-2 (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019), with the variations
/// that transformers' GPT2Config describes.
class Gpt2 {
 public:
  /// A network without weights, to be filled through visit(). Throws as Gpt2Config::validate.
  explicit Gpt2(const Gpt2Config& config);

  const Gpt2Config& config() const noexcept { return config_; }
  /// The rates of ForwardOptions::dropout. Throws as Gpt2Config::validate.
  void set_dropout(float resid_pdrop, float embd_pdrop, float attn_pdrop);
  /// The tokens that begin, end and fill up texts. What the network computes does not depend on them.
  void set_special_tokens(std::optional<TokenId> bos_token_id, std::vector<TokenId> eos_token_id,
                          std::optional<TokenId> pad_token_id) noexcept;
  /// The matrix from the final hidden state to the logits: wte when it is tied.
  const ops::Weight& head() const noexcept { return lm_head_ ? lm_head_->weight() : wte_.weight(); }

  /// Lets every sequence have this adapter that is not given another; null: none. What runs with the network meanwhile must have
  /// come to its end; to serve several, give each sequence its own. Throws ArgumentError for an adapter of another network.
  void attach(std::shared_ptr<nn::Adapter> adapter);
  /// Throws ArgumentError, beginning with `what`, when the adapter is of another network.
  void check(const nn::Adapter& adapter, std::string_view what = "the adapter") const;
  const std::shared_ptr<nn::Adapter>& adapter() const noexcept { return adapter_; }
  /// What an adapter must fit.
  nn::AdaptedShape adapted_shape() const noexcept;

  /// Tokens that an adapter (null: the attached one, if there is any) puts before a sequence, and those that then fit into
  /// n_positions.
  std::int64_t virtual_tokens(const nn::Adapter* adapter = nullptr) const noexcept;
  std::int64_t max_tokens(const nn::Adapter* adapter = nullptr) const noexcept;
  /// Whether the last virtual token of the attached adapter predicts a sequence's first token.
  bool predicts_first_token() const noexcept {
    return adapter_ != nullptr && adapter_->predicts_first_token();
  }

  /// Runs the network over several sequences at once (a ragged batch: no padding) and appends the tokens to
  /// their caches. A sequence's results do not depend on what else is in the batch or on how it was cut into
  /// chunks. On an exception, the caches keep their lengths. Throws ArgumentError (a token id outside [0, V),
  /// an empty chunk, a position outside n_positions or the cache's capacity, a cache of another shape, or for another number of
  /// virtual tokens, or
  /// given twice, or given beside a tape or dropout; an adapter of another network; on a tape, sequences with different adapters;
  /// dropout for more than DropoutSeed is enough for; attentions of anything but a single sequence; embedding_gradient
  /// without a tape; embeddings, or an offset to them, of another shape; activations of another type,
  /// or of bfloat16 beside on_product), CancelledError, MemoryError,
  /// ShapeError (weights that were never set).
  ForwardOutput forward(std::span<const Chunk> batch, Arena& arena, const ForwardOptions& options = {}) const;

  /// The logits of hidden states [R, D], such as a block's result: the final layer norm and the head, float32 [R, V] in the arena.
  /// Throws ShapeError, MemoryError, CancelledError.
  TensorView logits_of(ConstTensorView hidden, Arena& arena, const std::stop_token& stop = {}) const;

  /// Lays every matrix out in panels, as the kernels stream it, and all of them in regions of 2 MiB pages that they share;
  /// elements and results stay the same. A region lives as long as one matrix in it: quantize before packing. Each matrix' old
  /// memory is let go before the next is packed. Throws MemoryError.
  void pack();
  /// Whether pack() concerns the matrix of that name: not the positions, which are only ever looked up.
  static bool packs(std::string_view matrix) noexcept;

  /// Room for `capacity` tokens of this network (at most max_tokens(); that many when 0), held as float32, float16,
  /// bfloat16 or int8, and for the virtual tokens of the adapter (null: the attached one). Throws as nn::KvCache.
  nn::KvCache make_cache(std::int64_t capacity = 0, DType dtype = DType::f32,
                         const nn::Adapter* adapter = nullptr) const;
  /// Pages for the caches of many sequences of this network, of `page_tokens` tokens each and together of at most `budget`
  /// bytes. Throws as nn::KvPool.
  nn::KvPool make_pool(std::size_t budget, std::int64_t page_tokens, DType dtype = DType::f32) const;

  /// 64 bits of names, types, shapes and bits of all parameters as they lie in memory, to tell one set of weights from another;
  /// not against those who want two to look the same. Throws CancelledError when `stop` was requested before one of them.
  std::uint64_t fingerprint(const std::stop_token& stop = {}) const;

  /// Calls f(name, tensor, expected shape) for every parameter, in the order and with the names of Hugging
  /// Face's checkpoints, without the "transformer." prefix. lm_head.weight appears only when it is not tied
  /// to wte.
  template <class Visitor>
  void visit(Visitor&& f) {
    visit_parameters(*this, f);
  }
  template <class Visitor>
  void visit(Visitor&& f) const {
    visit_parameters(*this, f);
  }

  /// Calls f(name, ops::Weight&) for the matrices alone: embeddings, the weights of the linear layers, an untied head.
  template <class F>
  void visit_matrices(F&& f) {
    visit(MatrixVisitor<F>{f});
  }
  template <class F>
  void visit_matrices(F&& f) const {
    visit(MatrixVisitor<F>{f});
  }

 private:
  nn::KvShape cache_shape() const;
  bool fits(const nn::KvShape& shape) const noexcept;  // cache_shape(), without memory for it
  template <class F>
  struct MatrixVisitor {
    F& f;
    template <class Weight>
    requires std::same_as<std::remove_const_t<Weight>, ops::Weight>
    void operator()(const std::string& name, Weight& weight) const { f(name, weight); }
    template <class T>
    void operator()(const std::string&, T&, const Shape&) const {}
  };

  template <class Self, class Visitor>
  static void visit_parameters(Self& self, Visitor& f) {
    self.wte_.visit("wte.", f);
    self.wpe_.visit("wpe.", f);
    for (std::size_t i = 0; i < self.blocks_.size(); ++i) self.blocks_[i].visit(concat("h.", i, "."), f);
    self.ln_f_.visit("ln_f.", f);
    if (self.lm_head_) self.lm_head_->visit("lm_head.", f);
  }

  void check_batch(std::span<const Chunk> batch) const;

  Gpt2Config config_;
  nn::Embedding wte_;
  nn::Embedding wpe_;
  std::vector<nn::Block> blocks_;
  nn::LayerNorm ln_f_;
  std::optional<nn::Linear> lm_head_;  // absent when tied: then wte is the head
  std::shared_ptr<nn::Adapter> adapter_;
};

/// Logits of every position of a padded batch, as transformers' GPT2LMHeadModel computes them from input_ids
/// and attention_mask with position_ids = cumsum(mask) - 1.
///   input_ids       int64 [B, T]
///   attention_mask  int64 [B, T]: 1 = token, 0 = padding (left, right or between)
/// Returns float32 [B, T, V], zero at the padding; each row's values are those of the row alone.
/// Throws ShapeError, ArgumentError as forward.
Tensor logits_of_padded(const Gpt2& network, ConstTensorView input_ids, ConstTensorView attention_mask,
                        std::stop_token stop = {});

}  // namespace gpt
