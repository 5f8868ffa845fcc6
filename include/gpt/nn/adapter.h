// What parameter-efficient tuning attaches to a network. The network knows nothing of the methods, and nothing of an adapter
// is stored in it: a forward pass is given one for each sequence, and each dense layer of the blocks asks it for its part.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "gpt/core/dtype.h"
#include "gpt/core/tensor.h"
#include "gpt/ops/weight.h"

namespace gpt::nn {

struct Context;
class Linear;

/// The dense layers of a block, in the order in which they are computed.
enum class LinearPlace : std::uint8_t { kAttnCAttn, kAttnCProj, kMlpCFc, kMlpCProj };
inline constexpr std::int64_t kLinearPlaces = 4;

/// Which dense layer of a network one is; a layer below 0 is none that an adapter can have a part for.
struct LinearId {
  std::int64_t layer = -1;
  LinearPlace place = LinearPlace::kAttnCAttn;

  constexpr std::int64_t index() const noexcept {
    return layer * kLinearPlaces + static_cast<std::int64_t>(place);
  }
};

/// Which layer norm of a network one is: the first or second of a layer, or below layer 0 the one behind the blocks.
struct NormId {
  std::int64_t layer = -1;
  bool second = false;
};

/// What the networks have in common that an adapter fits.
struct AdaptedShape {
  std::int64_t n_layer = 0;
  std::int64_t features = 0;
  std::int64_t inner = 0;          // of the feed-forward halves
  std::uint64_t pruned_heads = 0;  // stands for the heads that are missing; 0: none is

  friend bool operator==(const AdaptedShape&, const AdaptedShape&) = default;
};

/// An adapter's part in one dense layer. Without a tape it works row by row: a row's result does not depend on the others.
class LinearAdapter {
 public:
  virtual ~LinearAdapter() = default;

  /// Whether input() gives anything but x.
  virtual bool changes_input() const noexcept { return false; }
  /// What the layer multiplies in the place of x, float32 or bfloat16 [R, in]: another tensor of that type.
  virtual ConstTensorView input(Context& context, ConstTensorView x) const;
  /// Whether output() gives z itself, and on a tape needs nothing of what it was.
  virtual bool in_place() const noexcept { return false; }
  /// What the layer gives in the place of z = input(x) W + b, float32 [R, out]. Without a tape it is z, changed; with one it
  /// may be z, when it is z and something added, or another tensor.
  virtual TensorView output(Context& context, const Linear& layer, ConstTensorView x, TensorView z) const = 0;
};

/// A tensor of an adapter while that is trained.
struct LearnedTensor {
  TensorView value;     // float32; or bfloat16, what the network computes with
  TensorView gradient;  // float32; empty when this one is not learned (TrainingArguments::learns)
  TensorView rest;      // int16, what a bfloat16 value lacks of what is learned (ops::split); else empty
};

/// An update of the optimizer that has been made.
struct UpdateInfo {
  std::int64_t step = 0;      // from 1
  double gradient_scale = 1;  // what the gradients were multiplied by, to clip them
};

/// An adapter as a network and its trainer see it. Const and shareable between threads while it is not trained.
class Adapter {
 public:
  using Visitor = std::function<void(const std::string& name, Tensor& tensor, const Shape& shape)>;

  virtual ~Adapter() = default;
  /// The networks it fits.
  virtual AdaptedShape shape() const noexcept = 0;
  /// Its part in a layer; null when it has none there.
  virtual const LinearAdapter* linear(LinearId id) const noexcept = 0;
  /// Tokens that it puts before every sequence, which take the first positions; the token's own come behind them.
  virtual std::int64_t virtual_tokens() const noexcept { return 0; }
  /// Whether the last of them predicts the sequence's first token: what embeddings before it do, and keys and values alone do not.
  virtual bool predicts_first_token() const noexcept { return false; }
  /// Sets the sums of embeddings of the virtual tokens of sequences that begin at these rows of x, float32 [R, D], where
  /// any others stand. wpe are the embeddings of positions, from D to n_positions.
  virtual void embed_virtual_tokens(Context& context, const ops::Weight& wpe,
                                    std::span<const std::int64_t> rows, TensorView x) const;
  /// Sets the keys and values of the virtual tokens that begin at these rows of qkv, float32 or bfloat16 [R, 3 D], or leaves
  /// them as they come from the layer before.
  virtual void set_keys_and_values(Context& context, std::int64_t layer, std::span<const std::int64_t> rows,
                                   TensorView qkv) const;
  /// Whether norm_output() gives anything but y.
  virtual bool changes_norms() const noexcept { return false; }
  /// What a layer norm gives in the place of y, float32 or bfloat16 [R, D]: y, changed, or another tensor of that type.
  virtual TensorView norm_output(Context& context, NormId id, TensorView y) const;
  /// Shows every tensor that is learned, with its name in the files.
  virtual void visit(const Visitor& f) = 0;

  /// Before a run of so many updates, also one that is resumed.
  virtual void begin_training(std::int64_t total_steps);
  /// Adds the gradients of what the method adds to the loss. `learned` are the tensors that visit() shows, in its order.
  virtual void add_penalty(std::span<const LearnedTensor> learned) const;
  /// After each update; may change values, and what they lack.
  virtual void after_update(std::span<const LearnedTensor> learned, const UpdateInfo& update);
  /// Shows the tensors that a training run has beside those that are learned, float32, with names of their own: a checkpoint
  /// keeps them.
  virtual void visit_state(const Visitor& f);

  /// What it is and how it was made, as JSON: what two runs that shall be the same have in common.
  virtual std::string describe() const = 0;
  /// Writes a directory from which it can be loaded again, the tensors as `dtype`, or as they are. Throws as Model::save.
  virtual void save(const std::filesystem::path& directory, std::optional<DType> dtype = {}) const = 0;
};

/// Rows of a batch that have an adapter.
struct AdaptedRows {
  std::int64_t row = 0;
  std::int64_t rows = 0;
  const Adapter* adapter = nullptr;
};

}  // namespace gpt::nn
