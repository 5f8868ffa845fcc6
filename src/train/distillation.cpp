#include "gpt/train/distillation.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/memory.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/ops/linear.h"
#include "train/fed_rows.h"

namespace gpt {
namespace {

constexpr std::string_view kDistillation = "distillation";

/// log of the sum of e^(x / temperature), in the order of the elements.
double log_sum_exp_at(std::span<const float> logits, double temperature) {
  const double most = static_cast<double>(*std::ranges::max_element(logits)) / temperature;
  double sum = 0;
  for (const float x : logits) sum += math::exp(static_cast<double>(x) / temperature - most);
  return most + math::log(sum);
}

/// The loss of a row beside the teacher's logits; the row's become its gradient.
double distil(const ops::LossRow& row, std::span<const float> teacher, const DistillationOptions& o) {
  const double t = o.temperature, hard = 1 - o.alpha;
  const double own = log_sum_exp_at(row.logits, 1), own_at_t = log_sum_exp_at(row.logits, t),
               theirs = log_sum_exp_at(teacher, t);
  const auto label = static_cast<std::size_t>(row.label);
  double loss = hard * (own - static_cast<double>(row.logits[label])), divergence = 0;
  for (std::size_t c = 0; c < row.logits.size(); ++c) {
    const auto z = static_cast<double>(row.logits[c]);
    const double log_q = z / t - own_at_t, log_p = static_cast<double>(teacher[c]) / t - theirs,
                 p = math::exp(log_p);
    divergence += p * (log_p - log_q);
    const double gradient =
        hard * (math::exp(z - own) - (c == label ? 1 : 0)) + o.alpha * t * (math::exp(log_q) - p);
    row.logits[c] = row.scale * static_cast<float>(gradient);
  }
  loss += o.alpha * t * t * divergence;
  return loss;
}

}  // namespace

DistillationObjective::DistillationObjective(const Gpt2& teacher, DistillationOptions options)
    : teacher_(teacher), options_(options) {
  if (!(options.alpha >= 0 && options.alpha <= 1))
    fail<ArgumentError>(kDistillation, "alpha is ", options.alpha, ", expected 0 to 1");
  if (!(options.temperature > 0) || !std::isfinite(options.temperature))
    fail<ArgumentError>(kDistillation, "temperature is ", options.temperature, ", expected more than 0");
}

std::int64_t DistillationObjective::terms(const Sample& sample) const {
  return count_labels({sample.ids, sample.labels});
}

LossSum DistillationObjective::loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                                    const ObjectiveOptions& options) const try {
  const std::int64_t vocab_size = network.config().vocab_size;
  if (teacher_.config().vocab_size != vocab_size)
    fail<ArgumentError>(kDistillation, "the teacher has a vocabulary of ", teacher_.config().vocab_size,
                        " tokens, expected ", vocab_size, ", as the network has");
  FedRows rows;
  for (const Sample& s : samples) rows.add(kDistillation, s.ids, s.labels);
  Arena own;
  const TensorView taught = run_rows(teacher_, rows, own, {.stop = options.stop});
  const TensorView hidden = run_rows(network, rows, arena, options);
  const std::int64_t d = taught.dim(1), all = taught.dim(0);
  std::vector<double> losses(rows.labels.size()), of_part(losses.size());
  const TensorView teacher_logits = own.take({std::min(all, autograd::kLossRows), vocab_size});
  // The teacher's logits are there for some rows at a time; the others have no labels then.
  for (std::int64_t begin = 0; begin < all; begin += autograd::kLossRows) {
    const std::int64_t count = std::min(all - begin, autograd::kLossRows);
    const auto first = static_cast<std::size_t>(begin), last = static_cast<std::size_t>(begin + count);
    std::vector<TokenId> labels(losses.size(), kIgnoredLabel);
    std::copy(rows.labels.begin() + begin, rows.labels.begin() + begin + count, labels.begin() + begin);
    const TensorView part(teacher_logits.raw(), DType::f32, {count, vocab_size});
    ops::linear(ConstTensorView(taught.data<float>() + begin * d, {count, d}), teacher_.head(), {}, part,
                own);
    const ops::RowLoss loss = [&](const ops::LossRow& row) {
      const auto width = static_cast<std::size_t>(vocab_size);
      return distil(row,
                    part.span<float>().subspan((static_cast<std::size_t>(row.index) - first) * width, width),
                    options_);
    };
    autograd::head_loss(options.tape, hidden, network.head(), labels, loss, static_cast<float>(options.scale),
                        of_part, arena, options.stop);
    std::copy(of_part.begin() + begin, of_part.begin() + static_cast<std::int64_t>(last),
              losses.begin() + begin);
  }
  LossSum total;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    LossSum sum;
    for (const double loss : rows.of_sequence(losses, i)) sum.sum += loss;
    sum.count = terms(samples[i]);
    if (!options.per_sample.empty()) options.per_sample[i] = sum;
    total.sum += sum.sum;
    total.count += sum.count;
  }
  return total;
} catch (...) {
  rethrow_with_memory_errors(kDistillation);
}

std::string DistillationObjective::describe() const {
  return concat("distillation, alpha ", options_.alpha, ", temperature ", options_.temperature, ", teacher ",
                teacher_.fingerprint());
}

}  // namespace gpt
