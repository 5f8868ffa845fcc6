#include "gpt/models/quantize.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/ops/quantize.h"
#include "models/input_squares.h"
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
  const auto total = static_cast<std::int64_t>(options.calibration.size());
  const InputSquares squares =
      InputSquares::over(network, options.calibration, options.stop, [&](std::int64_t done) {
        if (options.on_progress) options.on_progress({"", done, total});
      });
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
