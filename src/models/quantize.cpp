#include "gpt/models/quantize.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/ops/quantize.h"
#include "models/non_finite.h"

namespace gpt {
namespace {

constexpr std::string_view kQuantize = "quantize";

/// The format a matrix is to get, if any.
std::optional<ops::QuantizationFormat> format_of(const std::string& name, const ops::Weight& weight,
                                                 const QuantizeOptions& options) {
  if (weight.quantized()) return std::nullopt;
  for (const auto& [matrix, format] : options.overrides)
    if (matrix == name) return format;
  if (name == "wpe.weight") return std::nullopt;
  const bool embedding = name == "wte.weight" || name == "lm_head.weight";
  return embedding && !options.quantize_embeddings ? std::nullopt : std::optional(options.format);
}

void check(const Gpt2& network, const QuantizeOptions& options) {
  ops::check(options.format);
  for (const auto& [matrix, format] : options.overrides) {
    if (format) ops::check(*format);
    bool found = false;
    network.visit_matrices([&, &wanted = matrix](const std::string& name, const ops::Weight&) {
      found = found || name == wanted;
    });
    if (!found) fail<ArgumentError>(kQuantize, "the network has no matrix \"", matrix, "\" to override");
  }
}

/// The mean squares of what the matrices are multiplied by, over a text.
class InputSquares {
 public:
  /// Adds the rows of x, one after another: the order of a sum does not depend on how many threads there are.
  void add(const ops::Weight& weight, ConstTensorView x) {
    Sums& sums = sums_[&weight];
    const std::int64_t k = x.dim(1), rows = x.dim(0);
    sums.squares.resize(static_cast<std::size_t>(k));
    sums.rows += rows;
    const float* values = x.data<float>();
    double* squares = sums.squares.data();
    constexpr std::int64_t kGrain = 64;
    parallel_for(k, kGrain, [&](std::int64_t begin, std::int64_t end) noexcept {
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t i = begin; i < end; ++i) {
          const auto v = static_cast<double>(values[r * k + i]);
          squares[i] += v * v;
        }
    });
  }

  /// Empty for a matrix that was never used.
  std::vector<float> means(const ops::Weight& weight) const {
    std::vector<float> out;
    if (const auto found = sums_.find(&weight); found != sums_.end())
      for (const double square : found->second.squares)
        out.push_back(static_cast<float>(square / static_cast<double>(found->second.rows)));
    return out;
  }

 private:
  struct Sums {
    std::vector<double> squares;
    std::int64_t rows = 0;
  };
  std::map<const ops::Weight*, Sums> sums_;
};

const ops::Weight* head_of(const Gpt2& network) {
  const ops::Weight* head = nullptr;
  network.visit_matrices([&](const std::string& name, const ops::Weight& weight) {
    if (name == "lm_head.weight" || (name == "wte.weight" && network.config().tie_word_embeddings))
      head = &weight;
  });
  return head;
}

InputSquares read_text(const Gpt2& network, const QuantizeOptions& options) {
  InputSquares squares;
  Arena arena;
  const auto total = static_cast<std::int64_t>(options.calibration.size());
  const std::int64_t length = network.config().n_positions;
  for (std::int64_t done = 0; done < total;) {
    const std::int64_t count = std::min(length, total - done);
    arena.reset();
    nn::KvCache cache = network.make_cache(count);
    const Chunk chunk{
        options.calibration.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(count)), &cache};
    const ForwardOutput out =
        network.forward({&chunk, 1}, arena,
                        {.logits = LogitsRows::kNone,
                         .hidden_states = true,
                         .stop = options.stop,
                         .on_product = [&](const ops::Weight& w, ConstTensorView x) { squares.add(w, x); }});
    // The head's inputs, without a product with all of the vocabulary.
    squares.add(*head_of(network), out.hidden_states.back());
    done += count;
    if (options.on_progress) options.on_progress({"", done, total});
  }
  return squares;
}

/// sqrt(sum (w - q)^2 / sum w^2), 0 for a matrix of zeros. Sums over blocks of 4096 elements, in order.
double relative_error(const ops::Weight& weight, const ops::Weight& quantized) {
  const Tensor w = ops::dequantize(weight, weight.file_layout);
  const Tensor q = ops::dequantize(quantized, weight.file_layout);
  constexpr std::int64_t kBlock = 4096;
  const std::int64_t n = w.numel(), blocks = (n + kBlock - 1) / kBlock;
  std::vector<std::pair<double, double>> sums(static_cast<std::size_t>(blocks));
  parallel_for(blocks, 16, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t b = begin; b < end; ++b) {
      auto& [errors, squares] = sums[static_cast<std::size_t>(b)];
      for (std::int64_t i = b * kBlock; i < std::min(n, (b + 1) * kBlock); ++i) {
        const auto v = static_cast<double>(w.data<float>()[i]);
        const double d = v - static_cast<double>(q.data<float>()[i]);
        errors += d * d;
        squares += v * v;
      }
    }
  });
  double errors = 0, squares = 0;
  for (const auto& [e, s] : sums) {
    errors += e;
    squares += s;
  }
  return squares > 0 ? std::sqrt(errors / squares) : 0.0;
}

std::vector<QuantizedMatrix> quantize_all(Gpt2& network, const QuantizeOptions& options) {
  check(network, options);
  std::vector<std::pair<std::string, const ops::Weight*>> todo;
  network.visit_matrices([&](const std::string& name, const ops::Weight& weight) {
    if (format_of(name, weight, options)) todo.emplace_back(name, &weight);
  });
  // Before the work, whose last matrix it may be; and the calibration would spread it to the inputs of others.
  if (const auto found = find_non_finite(network, options.stop))
    fail<NumericError>(found->name, "element ", found->element, ", expected a finite number");
  const InputSquares squares = read_text(network, options);
  std::vector<QuantizedMatrix> report;
  std::map<const ops::Weight*, ops::Weight> results;
  for (const auto& [name, weight] : todo) {
    const ops::QuantizationFormat format = *format_of(name, *weight, options);
    ops::Weight result = ops::quantize(name, *weight, format, squares.means(*weight), options.stop);
    report.push_back({name, format, weight->nbytes(), result.nbytes(), relative_error(*weight, result)});
    results.emplace(weight, std::move(result));
    if (options.on_progress)
      options.on_progress(
          {name, static_cast<std::int64_t>(report.size()), static_cast<std::int64_t>(todo.size())});
  }
  network.visit_matrices([&](const std::string&, ops::Weight& weight) {
    if (const auto found = results.find(&weight); found != results.end()) weight = std::move(found->second);
  });
  return report;
}

}  // namespace

std::vector<QuantizedMatrix> quantize(Gpt2& network, const QuantizeOptions& options) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kQuantize, [&] { return quantize_all(network, options); });
}

}  // namespace gpt
