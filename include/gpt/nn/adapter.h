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

/// What the networks have in common that an adapter fits.
struct AdaptedShape {
  std::int64_t n_layer = 0;
  std::int64_t features = 0;
  std::int64_t inner = 0;  // of the feed-forward halves

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
  /// What the layer gives in the place of z = input(x) W + b, float32 [R, out]. Without a tape it is z, changed; with one it
  /// may be z, when it is z and something added, or another tensor.
  virtual TensorView output(Context& context, const Linear& layer, ConstTensorView x, TensorView z) const = 0;
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
  /// Sets the sums of embeddings of the virtual tokens of sequences that begin at these rows of x, float32 [R, D], where
  /// any others stand. wpe are the embeddings of positions, from D to n_positions.
  virtual void embed_virtual_tokens(Context& context, const ops::Weight& wpe,
                                    std::span<const std::int64_t> rows, TensorView x) const;
  /// Sets the keys and values of the virtual tokens that begin at these rows of qkv, float32 or bfloat16 [R, 3 D], or leaves
  /// them as they come from the layer before.
  virtual void set_keys_and_values(Context& context, std::int64_t layer, std::span<const std::int64_t> rows,
                                   TensorView qkv) const;
  /// Shows every tensor that is learned, with its name in the files.
  virtual void visit(const Visitor& f) = 0;
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
