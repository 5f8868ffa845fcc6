#include "gpt/train/contrastive.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"

namespace gpt {
namespace {

constexpr std::string_view kContrastive = "contrastive";

/// Vectors of length 1, and how long they were.
struct Directions {
  Directions(std::size_t count, std::size_t features) : width(features), z(count * features), norm(count) {}

  std::span<double> operator[](std::size_t i) { return std::span(z).subspan(i * width, width); }
  std::span<const double> operator[](std::size_t i) const { return std::span(z).subspan(i * width, width); }

  std::size_t width;
  std::vector<double> z, norm;
};

Directions directions_of(const LossRows& rows, std::span<const std::size_t> learned) {
  const auto d = static_cast<std::size_t>(rows.hidden.dim(1));
  Directions all(learned.size(), d);
  for (std::size_t i = 0; i < learned.size(); ++i) {
    const float* h = rows.hidden.data<float>() + learned[i] * d;
    double squares = 0;
    for (std::size_t c = 0; c < d; ++c) squares += static_cast<double>(h[c]) * static_cast<double>(h[c]);
    all.norm[i] = std::sqrt(squares);
    for (std::size_t c = 0; c < d && squares > 0; ++c) all[i][c] = static_cast<double>(h[c]) / all.norm[i];
  }
  return all;
}

/// sum += factor x
void add_scaled(std::span<const double> x, double factor, std::span<double> sum) {
  for (std::size_t c = 0; c < x.size(); ++c) sum[c] += factor * x[c];
}

double inner_product_of(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t c = 0; c < a.size(); ++c) sum += a[c] * b[c];
  return sum;
}

/// The loss of each, and the gradient of their sum with respect to the directions, which is added to `gradient`.
std::vector<double> contrast(const Directions& z, std::span<const TokenId> labels, double temperature,
                             Directions& gradient) {
  const std::size_t n = labels.size();
  std::vector<double> losses(n), similar(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto alike = std::ranges::count(labels, labels[i]) - 1;
    if (alike == 0) continue;
    double most = -2 / temperature;
    for (std::size_t k = 0; k < n; ++k) {
      similar[k] = inner_product_of(z[i], z[k]) / temperature;
      if (k != i) most = std::max(most, similar[k]);
    }
    double sum = 0;
    for (std::size_t k = 0; k < n; ++k)
      if (k != i) sum += math::exp(similar[k] - most);
    const double whole = most + math::log(sum), part = 1 / static_cast<double>(alike);
    for (std::size_t k = 0; k < n; ++k) {
      if (k == i) continue;
      double slope = math::exp(similar[k] - whole);
      if (labels[k] == labels[i]) {
        losses[i] += part * (whole - similar[k]);
        slope -= part;
      }
      add_scaled(z[k], slope / temperature, gradient[i]);
      add_scaled(z[i], slope / temperature, gradient[k]);
    }
  }
  return losses;
}

}  // namespace

ContrastiveObjective::ContrastiveObjective(std::shared_ptr<RowObjective> inner, ContrastiveOptions options)
    : WrappedObjective(concat("contrastive, weight ", options.weight, ", temperature ", options.temperature),
                       inner),
      rows_(std::move(inner)),
      options_(options) {
  if (!(options.weight >= 0 && options.weight <= 1))
    fail<ArgumentError>(kContrastive, "weight is ", options.weight, ", expected 0 to 1");
  if (!(options.temperature > 0) || !std::isfinite(options.temperature))
    fail<ArgumentError>(kContrastive, "temperature is ", options.temperature, ", expected more than 0");
}

LossSum ContrastiveObjective::loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                                   const ObjectiveOptions& options) const try {
  if (options.tape == nullptr) return inner().loss(network, samples, arena, options);
  const LossRows rows = rows_->rows(network, samples, arena, options);
  if (rows.type != ProblemType::kSingleLabel)
    fail<ArgumentError>(kContrastive, "the objective is of type ", name_of(rows.type), ", expected ",
                        name_of(ProblemType::kSingleLabel));
  std::vector<std::size_t> learned, sample_of;
  std::vector<TokenId> labels;
  for (std::size_t i = 0; i < samples.size(); ++i)
    for (auto r = static_cast<std::size_t>(rows.begin[i]); r < static_cast<std::size_t>(rows.begin[i + 1]);
         ++r)
      if (rows.labels[r] != kIgnoredLabel) {
        learned.push_back(r);
        sample_of.push_back(i);
        labels.push_back(rows.labels[r]);
      }
  const Directions z = directions_of(rows, learned);
  Directions slopes(learned.size(), z.width);
  const std::vector<double> apart = contrast(z, labels, options_.temperature, slopes);

  const double weight = options_.weight, rest = 1 - weight;
  std::vector<LossSum> of_sample(samples.size());
  LossSum total = sum_of_losses(rows, options.tape, rest * options.scale, arena, options.stop, of_sample);
  total.sum *= rest;
  for (LossSum& sum : of_sample) sum.sum *= rest;
  const TensorView gradient = arena.take(rows.hidden.shape());
  std::memset(gradient.raw(), 0, gradient.nbytes());
  for (std::size_t i = 0; i < learned.size(); ++i) {
    total.sum += weight * apart[i];
    of_sample[sample_of[i]].sum += weight * apart[i];
    if (z.norm[i] == 0) continue;
    // Of a direction only what is across it is left.
    const double along = inner_product_of(z[i], slopes[i]), scale = options.scale * weight / z.norm[i];
    float* to = gradient.data<float>() + learned[i] * z.width;
    for (std::size_t c = 0; c < z.width; ++c)
      to[c] = static_cast<float>(scale * (slopes[i][c] - along * z[i][c]));
  }
  options.tape->seed(rows.hidden, gradient);
  if (!options.per_sample.empty()) std::ranges::copy(of_sample, options.per_sample.begin());
  return total;
} catch (...) {
  rethrow_with_memory_errors(kContrastive);
}

}  // namespace gpt
