// Leaving out heads of the attention.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/models/language_model_loss.h"
#include "gpt/models/prune.h"
#include "gpt/nn/linear.h"
#include "gpt/nn/module.h"
#include "models/non_finite.h"

namespace gpt {
namespace {

/// Multiplies what the heads give by factors, all of them 1, for the sake of the factors' gradients.
class HeadFactors final : public nn::Adapter {
 public:
  explicit HeadFactors(const Gpt2& network) : shape_(network.adapted_shape()) {
    const Gpt2Config& c = network.config();
    for (std::int64_t layer = 0; layer < c.n_layer; ++layer) {
      Layer& of = layers_.emplace_back();
      of.factors = Tensor::empty({c.heads_of(layer) * c.head_dim()});
      std::ranges::fill(of.factors.span<float>(), 1.0f);
      of.gradient = Tensor::zeros(of.factors.shape());
    }
  }

  void watch(Tape& tape) {
    for (Layer& layer : layers_) tape.watch(layer.factors, layer.gradient);
  }
  /// Of a layer, for each feature of what its heads give.
  std::span<float> gradient(std::int64_t layer) {
    return layers_[static_cast<std::size_t>(layer)].gradient.span<float>();
  }

  nn::AdaptedShape shape() const noexcept override { return shape_; }
  const nn::LinearAdapter* linear(nn::LinearId id) const noexcept override {
    const bool takes_heads = id.layer >= 0 && id.place == nn::LinearPlace::kAttnCProj;
    return takes_heads ? &layers_[static_cast<std::size_t>(id.layer)] : nullptr;
  }
  void visit(const Visitor&) override {}
  std::string describe() const override { return {}; }
  void save(const std::filesystem::path&, std::optional<DType>) const override {}

 private:
  struct Layer final : nn::LinearAdapter {
    Tensor factors, gradient;

    bool changes_input() const noexcept override { return true; }
    ConstTensorView input(nn::Context& context, ConstTensorView x) const override {
      const TensorView scaled = context.arena.take(x.shape(), x.dtype());
      autograd::scale_columns(context.tape, x, factors, {}, scaled, context.arena);
      return scaled;
    }
    bool in_place() const noexcept override { return true; }
    TensorView output(nn::Context&, const nn::Linear&, ConstTensorView, TensorView z) const override {
      return z;
    }
  };

  nn::AdaptedShape shape_;
  std::vector<Layer> layers_;
};

/// Columns (or, of one column each, elements) [first, first + width) of each row, `row_bytes` long.
struct Stretch {
  std::size_t first, width;
};

/// Rows with some stretches of them alone, one after another.
Tensor stretches_of(const Tensor& matrix, std::int64_t rows, std::span<const Stretch> kept,
                    const Shape& shape) {
  const std::size_t size = size_of(matrix.dtype());
  const std::size_t row_bytes = matrix.nbytes() / static_cast<std::size_t>(rows);
  Tensor part = Tensor::empty(shape, matrix.dtype());
  std::byte* to = part.view().raw();
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::byte* const from = matrix.view().raw() + static_cast<std::size_t>(row) * row_bytes;
    for (const Stretch& s : kept) {
      std::memcpy(to, from + s.first * size, s.width * size);
      to += s.width * size;
    }
  }
  return part;
}

/// What a network is made of, by the names that the parts have in it.
struct Parts {
  std::map<std::string, Tensor> tensors = {};
  std::map<std::string, ops::Weight> weights = {};

  void operator()(const std::string& name, const Tensor& tensor, const Shape&) {
    tensors.emplace(name, tensor);
  }
  void operator()(const std::string& name, const ops::Weight& weight) { weights.emplace(name, weight); }
};
struct PartsTaker {
  Parts& from;

  void operator()(const std::string& name, Tensor& tensor, const Shape&) const {
    tensor = std::move(from.tensors.find(name)->second);
  }
  void operator()(const std::string& name, ops::Weight& weight) const {
    weight = std::move(from.weights.find(name)->second);
  }
};

/// Takes the columns of the kept heads from c_attn, and their rows from c_proj.
void narrow(Parts& parts, std::int64_t layer, std::span<const std::int64_t> kept, std::int64_t heads,
            std::int64_t head_dim) {
  constexpr std::string_view where = "without_heads";
  const std::string attention = concat("h.", layer, ".attn.");
  const auto dim = static_cast<std::size_t>(head_dim), width = static_cast<std::size_t>(heads) * dim;
  const std::int64_t left = std::ssize(kept) * head_dim;
  std::vector<Stretch> of_heads, of_qkv;
  for (const std::int64_t head : kept) of_heads.push_back({static_cast<std::size_t>(head) * dim, dim});
  for (const std::size_t part : {0u, 1u, 2u})
    for (const Stretch& s : of_heads) of_qkv.push_back({part * width + s.first, dim});
  const auto matrix = [&](const std::string& name) -> ops::Weight& {
    ops::Weight& weight = parts.weights.find(attention + name)->second;
    if (weight.quantized())
      fail<UnsupportedError>(where, "matrix ", attention, name,
                             " is quantized: prune the original, then quantize");
    return weight;
  };
  const auto replace = [](ops::Weight& weight, std::int64_t in, std::int64_t out, Tensor values) {
    const bool packed = weight.layout == ops::WeightLayout::kPanels;
    ops::Weight smaller{
        .in = in, .out = out, .layout = ops::WeightLayout::kInOut, .values = std::move(values)};
    weight = packed ? ops::pack(smaller) : std::move(smaller);
  };
  ops::Weight& qkv = matrix("c_attn.weight");
  const std::int64_t d = qkv.in;
  replace(qkv, d, 3 * left,
          stretches_of(ops::unpack(qkv, ops::WeightLayout::kInOut), d, of_qkv, {d, 3 * left}));
  Tensor& bias = parts.tensors.find(attention + "c_attn.bias")->second;
  bias = stretches_of(bias, 1, of_qkv, {3 * left});
  // Rows of c_proj are as many elements of one long row.
  ops::Weight& proj = matrix("c_proj.weight");
  std::vector<Stretch> of_rows;
  const auto features = static_cast<std::size_t>(proj.out);
  for (const Stretch& s : of_heads) of_rows.push_back({s.first * features, s.width * features});
  replace(proj, left, proj.out,
          stretches_of(ops::unpack(proj, ops::WeightLayout::kInOut), 1, of_rows, {left, proj.out}));
}

void refuse_adapter(std::string_view where, const Gpt2& network) {
  if (network.adapter() != nullptr) fail<UnsupportedError>(where, "an adapter is attached: merge it first");
}

}  // namespace

std::vector<HeadImportance> head_importance(const Gpt2& network, std::span<const TokenId> text,
                                            const std::stop_token& stop) {
  constexpr std::string_view where = "head_importance";
  if (text.size() < 2)
    fail<ArgumentError>(where, "the text has ", text.size(), " tokens, expected 2 or more");
  refuse_adapter(where, network);
  const DefaultFloatEnvironment environment;
  return with_memory_errors(where, [&] {
    const Gpt2Config& c = network.config();
    const auto factors = std::make_shared<HeadFactors>(network);
    Gpt2 watched = network;
    watched.attach(factors);
    std::vector<HeadImportance> all;
    for (std::int64_t layer = 0; layer < c.n_layer; ++layer)
      for (const std::int64_t head : c.heads_left(layer)) all.push_back({{layer, head}});
    Tape tape;
    factors->watch(tape);
    Arena arena;
    const auto most = static_cast<std::size_t>(c.n_positions);
    for (std::size_t done = 0; done + 1 < text.size(); done += most) {
      const LabelledSequence sequence{text.subspan(done, std::min(most + 1, text.size() - done))};
      for (std::int64_t layer = 0; layer < c.n_layer; ++layer)
        std::ranges::fill(factors->gradient(layer), 0.0f);
      arena.reset();
      language_model_loss(watched, {&sequence, 1}, arena, {.tape = &tape, .stop = stop});
      tape.backward(stop);
      auto next = all.begin();
      for (std::int64_t layer = 0; layer < c.n_layer; ++layer) {
        const std::span<const float> gradient = factors->gradient(layer);
        for (std::size_t head = 0; head < static_cast<std::size_t>(c.heads_of(layer)); ++head, ++next) {
          const auto dim = static_cast<std::size_t>(c.head_dim());
          double sum = 0;
          for (const float g : gradient.subspan(head * dim, dim)) sum += static_cast<double>(g);
          next->importance += std::abs(sum);
        }
      }
    }
    for (const auto& [id, importance] : all)
      if (!std::isfinite(importance))
        fail<NumericError>(where, "the importance of head ", id.head, " of layer ", id.layer, " is ",
                           importance, non_finite_clause(network, stop));
    // Layers differ in how large their gradients are.
    for (auto first = all.begin(); first != all.end();) {
      const auto last =
          std::find_if(first, all.end(), [&](const auto& h) { return h.id.layer != first->id.layer; });
      double squares = 0;
      for (auto h = first; h != last; ++h) squares += h->importance * h->importance;
      for (; first != last; ++first)
        if (squares > 0) first->importance /= math::sqrt(squares);
    }
    return all;
  });
}

Gpt2 without_heads(const Gpt2& network, std::span<const HeadId> heads) {
  constexpr std::string_view where = "without_heads";
  const Gpt2Config& c = network.config();
  Gpt2Config config = c;
  for (const auto& [layer, head] : heads) {
    if (layer < 0 || layer >= c.n_layer || head < 0 || head >= c.n_head)
      fail<ArgumentError>(where, "head ", head, " of layer ", layer, ", expected heads below ", c.n_head,
                          " of layers below ", c.n_layer);
    std::vector<std::int64_t>& pruned = config.pruned_heads[layer];
    const auto place = std::ranges::lower_bound(pruned, head);
    if (place != pruned.end() && *place == head)
      fail<ArgumentError>(where, "head ", head, " of layer ", layer, " is given twice, or gone already");
    pruned.insert(place, head);
    if (std::ssize(pruned) == c.n_head)
      fail<ArgumentError>(where, "all heads of layer ", layer, " are to go");
  }
  refuse_adapter(where, network);
  return with_memory_errors(where, [&] {
    Parts parts;
    network.visit(parts);
    for (std::int64_t layer = 0; layer < c.n_layer; ++layer) {
      const std::vector<std::int64_t> before = c.heads_left(layer), after = config.heads_left(layer);
      if (before.size() == after.size()) continue;
      std::vector<std::int64_t> kept;  // by their places
      for (std::size_t place = 0; place < before.size(); ++place)
        if (std::ranges::binary_search(after, before[place]))
          kept.push_back(static_cast<std::int64_t>(place));
      narrow(parts, layer, kept, std::ssize(before), c.head_dim());
    }
    Gpt2 smaller(config);
    smaller.visit(PartsTaker{parts});
    return smaller;
  });
}

}  // namespace gpt
