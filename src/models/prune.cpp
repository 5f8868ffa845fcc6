#include "gpt/models/prune.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/core/parallel.h"
#include "models/input_squares.h"
#include "models/non_finite.h"

namespace gpt {
namespace {

constexpr std::string_view kPrune = "prune";
constexpr std::string_view kBlockPrefix = "h.";

void check(const PruneOptions& o) {
  if (!(o.sparsity >= 0 && o.sparsity <= 1))
    fail<ArgumentError>(kPrune, "sparsity is ", o.sparsity, ", expected 0 to 1");
  const bool pattern = o.keep != 0 || o.of_each != 0;
  if (pattern && (o.keep < 1 || o.of_each <= o.keep))
    fail<ArgumentError>(kPrune, "the pattern is ", o.keep, ":", o.of_each,
                        ", expected a first number of 1 or more and a larger second one");
  if (o.method == PruneMethod::kWanda && o.calibration.empty())
    fail<ArgumentError>(kPrune, "wanda needs a calibration text");
}

/// Calls f(name, weight) for the matrices of the blocks, none of which may be quantized.
template <class Network, class F>
void for_block_matrices(Network& network, const F& f) {
  network.visit_matrices([&](const std::string& name, auto& weight) {
    if (!name.starts_with(kBlockPrefix)) return;
    if (weight.quantized())
      fail<UnsupportedError>(kPrune, "matrix ", name, " is quantized: prune the original, then quantize");
    f(name, weight);
  });
}

/// The inputs of one output that are to become zero, chosen by the scores of all.
class Choice {
 public:
  Choice(const PruneOptions& options, std::int64_t inputs)
      : options_(options), order_(static_cast<std::size_t>(inputs)) {}

  template <class F>
  void for_each_dropped(const std::vector<float>& scores, const F& f) {
    const auto inputs = static_cast<std::int64_t>(scores.size());
    if (options_.of_each == 0)
      return drop(scores, 0, inputs,
                  static_cast<std::int64_t>(options_.sparsity * static_cast<double>(inputs)), f);
    for (std::int64_t first = 0; first + options_.of_each <= inputs; first += options_.of_each)
      drop(scores, first, options_.of_each, options_.of_each - options_.keep, f);
  }

 private:
  template <class F>
  void drop(const std::vector<float>& scores, std::int64_t first, std::int64_t group, std::int64_t count,
            const F& f) {
    const auto begin = order_.begin();
    std::iota(begin, begin + group, first);
    std::nth_element(begin, begin + count, begin + group, [&](std::int64_t a, std::int64_t b) {
      const float x = scores[static_cast<std::size_t>(a)], y = scores[static_cast<std::size_t>(b)];
      return x != y ? x < y : a < b;
    });
    for (auto dropped = begin; dropped != begin + count; ++dropped) f(*dropped);
  }

  const PruneOptions& options_;
  std::vector<std::int64_t> order_;
};

/// A copy of the matrix in its file's layout with zeros in it.
ops::Weight pruned(const ops::Weight& weight, const std::vector<float>& squares,
                   const PruneOptions& options) {
  ops::Weight result = weight;
  result.layout = weight.file_layout;
  const Tensor elements = ops::unpack(weight, weight.file_layout);
  result.values = elements.clone();
  const Tensor wide = elements.to(DType::f32);
  const float* from = wide.data<float>();
  std::byte* const to = result.values.view().raw();
  const std::size_t size = size_of(elements.dtype());
  const bool in_out = weight.file_layout == ops::WeightLayout::kInOut;
  const auto place = [&](std::int64_t in, std::int64_t out) {
    return static_cast<std::size_t>(in_out ? in * weight.out + out : out * weight.in + in);
  };
  Choice choice(options, weight.in);
  std::vector<float> scores(static_cast<std::size_t>(weight.in));
  for (std::int64_t out = 0; out < weight.out; ++out) {
    if (options.stop.stop_requested()) fail<CancelledError>(kPrune, "pruning was cancelled");
    for (std::int64_t in = 0; in < weight.in; ++in) {
      const auto i = static_cast<std::size_t>(in);
      scores[i] = std::abs(from[place(in, out)]) * (squares.empty() ? 1.0f : squares[i]);
    }
    choice.for_each_dropped(
        scores, [&](std::int64_t in) { std::fill_n(to + place(in, out) * size, size, std::byte{}); });
  }
  return weight.layout == ops::WeightLayout::kPanels ? ops::pack(result) : result;
}

std::int64_t zeros_in(const ops::Weight& weight) {
  const Tensor wide = ops::unpack(weight, weight.file_layout).to(DType::f32);
  return std::ranges::count(wide.span<float>(), 0.0f);
}

std::vector<PrunedMatrix> prune_all(Gpt2& network, const PruneOptions& options) {
  check(options);
  std::int64_t most =
      0;  // inputs; without some of its heads, a layer may have a narrow matrix that just stays
  for_block_matrices(std::as_const(network), [&](const std::string&, const ops::Weight& weight) {
    most = std::max(most, weight.in);
  });
  if (options.of_each > most)
    fail<ArgumentError>(kPrune, "the pattern is ", options.keep, ":", options.of_each,
                        ", but no matrix has more than ", most, " inputs");
  if (const auto found = find_non_finite(network, options.stop))
    fail<NumericError>(found->name, "element ", found->element, ", expected a finite number");
  std::optional<InputSquares> inputs;
  if (options.method == PruneMethod::kWanda)
    inputs = InputSquares::over(network, options.calibration, options.stop);
  std::map<const ops::Weight*, ops::Weight> results;
  for_block_matrices(std::as_const(network), [&](const std::string&, const ops::Weight& weight) {
    std::vector<float> norms;
    if (inputs) norms = inputs->means(weight);
    for (float& norm : norms) norm = std::sqrt(norm);
    results.emplace(&weight, pruned(weight, norms, options));
  });
  for_block_matrices(network, [&](const std::string&, ops::Weight& weight) {
    weight = std::move(results.find(&weight)->second);
  });
  return count_zeros(network);
}

}  // namespace

std::string_view name_of(PruneMethod method) noexcept {
  return method == PruneMethod::kWanda ? "wanda" : "magnitude";
}

std::optional<PruneMethod> prune_method_from_name(std::string_view name) noexcept {
  for (const PruneMethod method : {PruneMethod::kMagnitude, PruneMethod::kWanda})
    if (name == name_of(method)) return method;
  return std::nullopt;
}

std::vector<PrunedMatrix> prune(Gpt2& network, const PruneOptions& options) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kPrune, [&] { return prune_all(network, options); });
}

std::vector<PrunedMatrix> count_zeros(const Gpt2& network) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kPrune, [&] {
    std::vector<PrunedMatrix> all;
    for_block_matrices(network, [&](const std::string& name, const ops::Weight& weight) {
      all.push_back({name, zeros_in(weight), weight.in * weight.out});
    });
    return all;
  });
}

std::vector<double> layer_importance(const Gpt2& network, std::span<const TokenId> text,
                                     const std::stop_token& stop) {
  constexpr std::string_view where = "layer_importance";
  if (text.empty()) fail<ArgumentError>(where, "the text is empty");
  const DefaultFloatEnvironment environment;
  return with_memory_errors(where, [&] {
    const auto layers = static_cast<std::size_t>(network.config().n_layer);
    const std::int64_t d = network.config().n_embd;
    std::vector<double> sums(layers);
    Arena arena;
    for (std::size_t done = 0; done < text.size();) {
      const std::size_t count =
          std::min(static_cast<std::size_t>(network.config().n_positions), text.size() - done);
      arena.reset();
      const Chunk chunk{text.subspan(done, count)};
      const ForwardOutput out = network.forward(
          {&chunk, 1}, arena, {.logits = LogitsRows::kNone, .hidden_states = true, .stop = stop});
      for (std::size_t layer = 0; layer < layers; ++layer) {
        const float* before = out.hidden_states[layer].data<float>();
        const float* after = out.hidden_states[layer + 1].data<float>();
        for (std::size_t row = 0; row < count; ++row, before += d, after += d) {
          double product = 0, a = 0, b = 0;
          for (std::int64_t i = 0; i < d; ++i) {
            const auto x = static_cast<double>(before[i]), y = static_cast<double>(after[i]);
            product += x * y;
            a += x * x;
            b += y * y;
          }
          const double norms = math::sqrt(a * b);
          if (!std::isfinite(norms))
            fail<NumericError>(where, "a hidden state of layer ", layer, " is not finite",
                               non_finite_clause(network, stop));
          sums[layer] += norms > 0 ? 1 - product / norms : 0;
        }
      }
      done += count;
    }
    for (double& sum : sums) sum /= static_cast<double>(text.size());
    return sums;
  });
}

Gpt2 without_layers(const Gpt2& network, std::span<const std::int64_t> layers) try {
  constexpr std::string_view where = "without_layers";
  const std::int64_t n_layer = network.config().n_layer;
  std::vector<bool> dropped(static_cast<std::size_t>(n_layer));
  for (const std::int64_t layer : layers) {
    if (layer < 0 || layer >= n_layer)
      fail<ArgumentError>(where, "layer ", layer, " is outside [0, ", n_layer, ")");
    if (dropped[static_cast<std::size_t>(layer)])
      fail<ArgumentError>(where, "layer ", layer, " is given twice");
    dropped[static_cast<std::size_t>(layer)] = true;
  }
  if (std::ssize(layers) == n_layer) fail<ArgumentError>(where, "all ", n_layer, " layers are to go");
  if (network.config().scale_attn_by_inverse_layer_idx)
    fail<UnsupportedError>(where, "scale_attn_by_inverse_layer_idx gives each layer a scale by its number");
  if (network.adapter() != nullptr) fail<UnsupportedError>(where, "an adapter is attached: merge it first");
  return with_memory_errors(where, [&] {
    Gpt2Config config = network.config();
    config.n_layer -= std::ssize(layers);
    config.pruned_heads.clear();
    for (std::int64_t layer = 0, left = 0; layer < n_layer; ++layer) {
      if (dropped[static_cast<std::size_t>(layer)]) continue;
      if (const auto heads = network.config().pruned_heads.find(layer);
          heads != network.config().pruned_heads.end())
        config.pruned_heads.emplace(left, heads->second);
      ++left;
    }
    Gpt2 smaller(config);
    // What the network has, by the names that it has in the smaller one.
    std::map<std::string, std::int64_t> numbers;
    std::int64_t next = 0;
    for (std::int64_t layer = 0; layer < n_layer; ++layer)
      if (!dropped[static_cast<std::size_t>(layer)]) numbers[concat(kBlockPrefix, layer, ".")] = next++;
    const auto new_name = [&](const std::string& name) -> std::optional<std::string> {
      if (!name.starts_with(kBlockPrefix)) return name;
      const std::size_t end = name.find('.', kBlockPrefix.size()) + 1;
      const auto number = numbers.find(name.substr(0, end));
      if (number == numbers.end()) return std::nullopt;
      return concat(kBlockPrefix, number->second, ".", name.substr(end));
    };
    struct Keep {
      decltype(new_name)& name_of;
      std::map<std::string, const Tensor*>& tensors;
      std::map<std::string, const ops::Weight*>& weights;
      void operator()(const std::string& name, const Tensor& tensor, const Shape&) const {
        if (const auto kept = name_of(name)) tensors.emplace(*kept, &tensor);
      }
      void operator()(const std::string& name, const ops::Weight& weight) const {
        if (const auto kept = name_of(name)) weights.emplace(*kept, &weight);
      }
    };
    struct Take {
      const std::map<std::string, const Tensor*>& tensors;
      const std::map<std::string, const ops::Weight*>& weights;
      void operator()(const std::string& name, Tensor& tensor, const Shape&) const {
        tensor = *tensors.at(name);
      }
      void operator()(const std::string& name, ops::Weight& weight) const { weight = *weights.at(name); }
    };
    std::map<std::string, const Tensor*> tensors;
    std::map<std::string, const ops::Weight*> weights;
    network.visit(Keep{new_name, tensors, weights});
    smaller.visit(Take{tensors, weights});
    return smaller;
  });
} catch (...) {
  rethrow_with_memory_errors("without_layers");
}

}  // namespace gpt
