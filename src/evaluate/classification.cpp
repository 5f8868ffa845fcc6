#include "gpt/evaluate/classification.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"

namespace gpt {
namespace {

constexpr std::string_view kScores = "classification";

double ratio(std::int64_t a, std::int64_t b) noexcept {
  return b == 0 ? 0 : static_cast<double>(a) / static_cast<double>(b);
}

void check_classes(std::span<const std::int32_t> numbers, std::int64_t classes) {
  for (std::size_t i = 0; i < numbers.size(); ++i)
    if (numbers[i] < 0 || numbers[i] >= classes)
      fail<ArgumentError>(kScores, "class ", numbers[i], " at ", i, " is outside [0, ", classes, ")");
}

void check_rows(std::span<const std::int32_t> truth, std::span<const double> probabilities,
                std::int64_t classes) {
  if (truth.empty() || classes < 1) fail<ArgumentError>(kScores, "there is nothing to judge");
  check_classes(truth, classes);
  if (probabilities.size() != truth.size() * static_cast<std::size_t>(classes))
    fail<ArgumentError>(kScores, probabilities.size(), " probabilities, expected ", classes, " for each of ",
                        truth.size());
}

std::span<const double> row_of(std::span<const double> probabilities, std::size_t row, std::int64_t classes) {
  const auto width = static_cast<std::size_t>(classes);
  return probabilities.subspan(row * width, width);
}

ClassScores scores_of(const std::vector<std::vector<std::int64_t>>& confusion, std::size_t c) {
  std::int64_t answered = 0, support = 0;
  for (std::size_t i = 0; i < confusion.size(); ++i) {
    answered += confusion[i][c];
    support += confusion[c][i];
  }
  ClassScores scores{ratio(confusion[c][c], answered), ratio(confusion[c][c], support), 0, support};
  scores.f1 = ratio(2 * confusion[c][c], answered + support);
  return scores;
}

void add_scaled(ClassScores& sum, const ClassScores& scores, double weight) {
  sum.precision += weight * scores.precision;
  sum.recall += weight * scores.recall;
  sum.f1 += weight * scores.f1;
  sum.support += scores.support;
}

/// The derivative by 1 / temperature of what is least at the best: it rises with it.
double slope(ConstTensorView logits, std::span<const std::int32_t> truth, double inverse) {
  const std::int64_t classes = logits.dim(1);
  double sum = inverse - 1;
  for (std::size_t r = 0; r < truth.size(); ++r) {
    const float* z = logits.data<float>() + static_cast<std::int64_t>(r) * classes;
    const auto most = static_cast<double>(*std::max_element(z, z + classes));
    const auto right = static_cast<double>(z[truth[r]]);
    double total = 0, mean = 0;  // of what the logits are above the right one
    for (std::int64_t c = 0; c < classes; ++c) {
      const double p = math::exp(inverse * (static_cast<double>(z[c]) - most));
      total += p;
      mean += p * (static_cast<double>(z[c]) - right);
    }
    sum += mean / total;
  }
  return sum;
}

}  // namespace

ClassificationScores classification_scores(std::span<const std::int32_t> truth,
                                           std::span<const std::int32_t> answers, std::int64_t classes) {
  return with_memory_errors(kScores, [&] {
    const DefaultFloatEnvironment environment;
    if (truth.empty() || classes < 1) fail<ArgumentError>(kScores, "there is nothing to judge");
    if (truth.size() != answers.size())
      fail<ArgumentError>(kScores, answers.size(), " answers for ", truth.size());
    check_classes(truth, classes);
    check_classes(answers, classes);
    ClassificationScores all;
    const auto n = container_size<decltype(all.confusion)>(static_cast<std::size_t>(classes), kScores);
    all.count = static_cast<std::int64_t>(truth.size());
    all.confusion.assign(n, std::vector<std::int64_t>(n));
    std::int64_t right = 0;
    for (std::size_t i = 0; i < truth.size(); ++i) {
      ++all.confusion[static_cast<std::size_t>(truth[i])][static_cast<std::size_t>(answers[i])];
      right += truth[i] == answers[i];
    }
    all.accuracy = ratio(right, all.count);
    std::vector<bool> occurs(n);
    for (const auto& numbers : {truth, answers})
      for (const std::int32_t c : numbers) occurs[static_cast<std::size_t>(c)] = true;
    const double each = 1 / static_cast<double>(std::count(occurs.begin(), occurs.end(), true));
    for (std::size_t c = 0; c < n; ++c) {
      const ClassScores& scores = all.per_class.emplace_back(scores_of(all.confusion, c));
      if (!occurs[c]) continue;
      add_scaled(all.macro, scores, each);
      add_scaled(all.weighted, scores, ratio(scores.support, all.count));
    }
    return all;
  });
}

std::optional<double> roc_auc(std::span<const bool> positive, std::span<const double> scores) {
  return with_memory_errors(kScores, [&]() -> std::optional<double> {
    const DefaultFloatEnvironment environment;
    if (positive.size() != scores.size())
      fail<ArgumentError>(kScores, scores.size(), " scores for ", positive.size());
    for (const double score : scores)
      if (std::isnan(score)) fail<ArgumentError>(kScores, "a score is not a number");
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
    // Pairs in which the positive is above, counted twice, so that ties are whole numbers.
    std::int64_t positives = 0, negatives = 0, pairs = 0;
    for (std::size_t i = 0; i < order.size();) {
      std::int64_t here_positive = 0, here_negative = 0;
      const double score = scores[order[i]];
      for (; i < order.size() && scores[order[i]] == score; ++i)
        ++(positive[order[i]] ? here_positive : here_negative);
      pairs += here_positive * (2 * negatives + here_negative);
      positives += here_positive;
      negatives += here_negative;
    }
    if (positives == 0 || negatives == 0) return std::nullopt;
    return static_cast<double>(pairs) / (2 * static_cast<double>(positives) * static_cast<double>(negatives));
  });
}

std::optional<double> roc_auc(std::span<const std::int32_t> truth, std::span<const double> probabilities,
                              std::int64_t classes) {
  check_rows(truth, probabilities, classes);
  return with_memory_errors(kScores, [&]() -> std::optional<double> {
    const auto positive = std::make_unique<bool[]>(truth.size());
    std::vector<double> scores(truth.size());
    double sum = 0;
    const std::int64_t first = classes == 2 ? 1 : 0;
    for (std::int64_t c = first; c < classes; ++c) {
      for (std::size_t i = 0; i < truth.size(); ++i) {
        positive[i] = truth[i] == c;
        scores[i] = row_of(probabilities, i, classes)[static_cast<std::size_t>(c)];
      }
      const auto area = roc_auc(std::span<const bool>(positive.get(), truth.size()), scores);
      if (!area) return std::nullopt;
      sum += *area;
    }
    return sum / static_cast<double>(classes - first);
  });
}

double calibration_error(std::span<const std::int32_t> truth, std::span<const double> probabilities,
                         std::int64_t classes, std::int64_t bins) {
  check_rows(truth, probabilities, classes);
  if (bins < 1) fail<ArgumentError>(kScores, "bins is ", bins, ", expected 1 or more");
  return with_memory_errors(kScores, [&] {
    const DefaultFloatEnvironment environment;
    using Sums = std::vector<double>;
    Sums excess(container_size<Sums>(static_cast<std::size_t>(bins),
                                     kScores));  // of probability less those that are right
    for (std::size_t i = 0; i < truth.size(); ++i) {
      const auto row = row_of(probabilities, i, classes);
      const std::int32_t answer = most_likely(row);
      const double p = row[static_cast<std::size_t>(answer)];
      // A bin is open below and closed above, as in the papers.
      const double place = std::ceil(p * static_cast<double>(bins)) - 1;
      const auto bin = static_cast<std::size_t>(std::clamp(place, 0.0, static_cast<double>(bins - 1)));
      excess[bin] += p - (answer == truth[i] ? 1 : 0);
    }
    double sum = 0;
    for (const double e : excess) sum += std::fabs(e);
    return sum / static_cast<double>(truth.size());
  });
}

double log_loss(std::span<const std::int32_t> truth, std::span<const double> probabilities,
                std::int64_t classes) {
  check_rows(truth, probabilities, classes);
  const DefaultFloatEnvironment environment;
  double sum = 0;
  for (std::size_t i = 0; i < truth.size(); ++i)
    sum -=
        math::log(std::max(row_of(probabilities, i, classes)[static_cast<std::size_t>(truth[i])], 0x1p-52));
  return sum / static_cast<double>(truth.size());
}

double fit_temperature(ConstTensorView logits, std::span<const std::int32_t> truth) {
  if (logits.shape().rank() != 2 || logits.dtype() != DType::f32 ||
      logits.dim(0) != static_cast<std::int64_t>(truth.size()))
    fail<ShapeError>(kScores, "logits are ", name_of(logits.dtype()), " ", logits.shape().to_string(),
                     ", expected float32 [", truth.size(), ", classes]");
  if (truth.empty()) fail<ArgumentError>(kScores, "there is nothing to judge");
  check_classes(truth, logits.dim(1));
  const DefaultFloatEnvironment environment;
  double low = 1.0 / 64, high = 64;  // of the inverse
  for (int step = 0; step < 64; ++step) {
    const double middle = std::sqrt(low * high);
    if (middle <= low || middle >= high) break;
    (slope(logits, truth, middle) < 0 ? low : high) = middle;
  }
  return 1 / high;
}

std::int32_t most_likely(std::span<const double> probabilities) {
  return static_cast<std::int32_t>(std::ranges::max_element(probabilities) - probabilities.begin());
}

}  // namespace gpt
