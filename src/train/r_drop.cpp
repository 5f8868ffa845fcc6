#include "gpt/train/r_drop.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/ops/linear.h"

namespace gpt {
namespace {

constexpr std::string_view kRDrop = "r_drop";

double log_sum_exp(std::span<const float> logits) {
  const auto most = static_cast<double>(*std::ranges::max_element(logits));
  double sum = 0;
  for (const float x : logits) sum += math::exp(static_cast<double>(x) - most);
  return most + math::log(sum);
}

/// log sigmoid(x)
double log_sigmoid(double x) noexcept { return std::min(x, 0.0) - math::log(1 + math::exp(-std::fabs(x))); }

/// How far apart two rows of logits are, in both directions; theirs become the gradient with respect to ours.
double apart_in_both_directions(ProblemType type, std::span<const float> ours, std::span<float> theirs) {
  double sum = 0;
  switch (type) {
    case ProblemType::kSingleLabel: {
      const double our_sum = log_sum_exp(ours), their_sum = log_sum_exp(theirs);
      double forward = 0;  // D(P || Q)
      for (std::size_t c = 0; c < ours.size(); ++c) {
        const double log_p = static_cast<double>(ours[c]) - our_sum,
                     log_q = static_cast<double>(theirs[c]) - their_sum;
        forward += math::exp(log_p) * (log_p - log_q);
        sum += (math::exp(log_p) - math::exp(log_q)) * (log_p - log_q);
      }
      for (std::size_t c = 0; c < ours.size(); ++c) {
        const double log_p = static_cast<double>(ours[c]) - our_sum,
                     log_q = static_cast<double>(theirs[c]) - their_sum, p = math::exp(log_p);
        theirs[c] = static_cast<float>(p * (log_p - log_q - forward) + p - math::exp(log_q));
      }
      break;
    }
    case ProblemType::kMultiLabel:
      for (std::size_t c = 0; c < ours.size(); ++c) {
        // (p - q)(log p - log q) + (q - p)(log(1 - p) - log(1 - q)) = (p - q)(x - y) of the logits x and y.
        const auto x = static_cast<double>(ours[c]), y = static_cast<double>(theirs[c]);
        const double p = math::exp(log_sigmoid(x)), q = math::exp(log_sigmoid(y));
        sum += (p - q) * (x - y);
        theirs[c] = static_cast<float>(p * math::exp(log_sigmoid(-x)) * (x - y) + p - q);
      }
      break;
    case ProblemType::kRegression:
      for (std::size_t c = 0; c < ours.size(); ++c) {
        const double apart = static_cast<double>(ours[c]) - static_cast<double>(theirs[c]);
        sum += 2 * apart * apart;  // the same in both directions
        theirs[c] = static_cast<float>(4 * apart);
      }
      break;
  }
  return sum;
}

}  // namespace

RDropObjective::RDropObjective(std::shared_ptr<RowObjective> inner, double alpha)
    : WrappedObjective(concat("r_drop, alpha ", alpha), inner), rows_(std::move(inner)), alpha_(alpha) {
  if (!(alpha >= 0) || !std::isfinite(alpha))
    fail<ArgumentError>(kRDrop, "alpha is ", alpha, ", expected 0 or more");
}

LossSum RDropObjective::loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                             const ObjectiveOptions& options) const try {
  if (options.tape == nullptr) return inner().loss(network, samples, arena, options);
  // Of one pass: each sequence of a batch has dropout of its own.
  std::vector<Sample> twice(samples.begin(), samples.end());
  twice.insert(twice.end(), samples.begin(), samples.end());
  const LossRows rows = rows_->rows(network, twice, arena, options);
  const auto all = std::ssize(rows.labels), half = all / 2;
  const std::int64_t d = rows.hidden.dim(1), width = rows.head->out;
  std::vector<double> losses(rows.labels.size()), of_part(losses.size());
  std::vector<TokenId> labels(losses.size(), kIgnoredLabel);
  const TensorView other_logits = arena.take({std::min(half, autograd::kLossRows), width});
  for (const std::int64_t to_other : {half, -half}) {
    const std::int64_t first_row = to_other > 0 ? 0 : half;
    for (std::int64_t begin = first_row; begin < first_row + half; begin += autograd::kLossRows) {
      const std::int64_t end = std::min(first_row + half, begin + autograd::kLossRows), count = end - begin;
      const auto learned =
          std::span(rows.labels).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
      if (std::ranges::all_of(learned, [](TokenId label) { return label == kIgnoredLabel; })) continue;
      const TensorView others(other_logits.data<float>(), {count, width});
      {
        const Arena::Scope scope(arena);
        ops::linear(ConstTensorView(rows.hidden.data<float>() + (begin + to_other) * d, {count, d}),
                    *rows.head, {}, others, arena);
      }
      const ops::RowLoss loss = [&, begin](const ops::LossRow& row) {
        const auto other = others.span<float>().subspan(static_cast<std::size_t>((row.index - begin) * width),
                                                        static_cast<std::size_t>(width));
        const double apart = apart_in_both_directions(rows.type, row.logits, other);
        ops::LossRow of_inner = row;
        of_inner.scale = 0.5f * row.scale;
        const double own = rows.loss(of_inner);
        const double factor = 0.5 * alpha_ * static_cast<double>(row.scale);
        for (std::size_t c = 0; c < other.size(); ++c)
          row.logits[c] += static_cast<float>(factor * static_cast<double>(other[c]));
        return 0.5 * own + 0.25 * alpha_ * apart;  // the other row has the other half of it
      };
      std::ranges::copy(learned, labels.begin() + begin);
      autograd::head_loss(options.tape, rows.hidden, *rows.head, labels, loss,
                          static_cast<float>(options.scale), of_part, arena, options.stop);
      std::fill(labels.begin() + begin, labels.begin() + end, kIgnoredLabel);
      std::copy(of_part.begin() + begin, of_part.begin() + end, losses.begin() + begin);
    }
  }
  LossSum total;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    LossSum sum;
    for (std::int64_t row = rows.begin[i]; row < rows.begin[i + 1]; ++row) {
      sum.sum += losses[static_cast<std::size_t>(row)] + losses[static_cast<std::size_t>(row + half)];
      if (rows.labels[static_cast<std::size_t>(row)] != kIgnoredLabel) sum.count += rows.terms;
    }
    if (!options.per_sample.empty()) options.per_sample[i] = sum;
    total.sum += sum.sum;
    total.count += sum.count;
  }
  return total;
} catch (...) {
  rethrow_with_memory_errors(kRDrop);
}

}  // namespace gpt
