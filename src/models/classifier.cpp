#include "gpt/models/classifier.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "core/normal.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/core/rng.h"
#include "gpt/ops/linear.h"
#include "models/hidden_pass.h"
#include "models/non_finite.h"

namespace gpt {
namespace {

constexpr std::string_view kClassifier = "classifier";
constexpr std::array<std::string_view, 3> kProblemTypes{"regression", "single_label_classification",
                                                        "multi_label_classification"};

template <class... F>
struct HeadOverloaded : F... {
  using F::operator()...;
};
template <class... F>
HeadOverloaded(F...) -> HeadOverloaded<F...>;

/// The network without a head of its own.
Gpt2 without_head(Gpt2 network) {
  if (network.config().tie_word_embeddings) return network;
  Gpt2Config config = network.config();
  config.tie_word_embeddings = true;
  Gpt2 tied(config);
  std::vector<Tensor> tensors;
  std::vector<ops::Weight> matrices;
  network.visit(HeadOverloaded{
      [&](const std::string&, Tensor& tensor, const Shape&) { tensors.push_back(std::move(tensor)); },
      [&](const std::string&, ops::Weight& weight) { matrices.push_back(std::move(weight)); }});
  std::size_t next_tensor = 0, next_matrix = 0;  // the head is the last of its network
  tied.visit(HeadOverloaded{
      [&](const std::string&, Tensor& tensor, const Shape&) { tensor = std::move(tensors[next_tensor++]); },
      [&](const std::string&, ops::Weight& weight) { weight = std::move(matrices[next_matrix++]); }});
  tied.attach(network.adapter());
  return tied;
}

/// max(x, 0) - x y + log(1 + e^-|x|), PyTorch's binary_cross_entropy_with_logits.
double binary_cross_entropy(double x, double y) noexcept {
  return std::max(x, 0.0) - x * y + math::log(1 + math::exp(-std::fabs(x)));
}

double sigmoid(double x) noexcept {
  const double e = math::exp(-std::fabs(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

void check_targets(const Classifier& classifier, const TargetedSequence& sequence, std::size_t index) {
  const auto labels = static_cast<std::size_t>(classifier.num_labels());
  const bool single = classifier.problem_type() == ProblemType::kSingleLabel;
  if (sequence.ids.empty()) fail<ArgumentError>(kClassifier, "sequence ", index, " has no tokens");
  if (sequence.targets.size() != (single ? 1 : labels))
    fail<ArgumentError>(kClassifier, "sequence ", index, " has ", sequence.targets.size(),
                        " targets, expected ", single ? 1 : labels);
  for (const float target : sequence.targets) {
    const bool good = classifier.problem_type() == ProblemType::kRegression ? std::isfinite(target)
                      : single
                          ? target >= 0 && target < static_cast<float>(labels) && target == std::floor(target)
                          : target >= 0 && target <= 1;
    if (!good)
      fail<ArgumentError>(kClassifier, "a target of sequence ", index, " is ", target, ", expected ",
                          single ? concat("the number of a label below ", labels)
                          : classifier.problem_type() == ProblemType::kMultiLabel ? std::string("0 to 1")
                                                                                  : std::string("a number"));
  }
}

/// The losses of the rows of logits that sequences end with.
class SequenceLoss {
 public:
  SequenceLoss(ProblemType type, std::span<const TargetedSequence> batch,
               std::vector<std::int32_t> sequence_of, const ClassificationLossOptions& options)
      : type_(type),
        batch_(batch.begin(), batch.end()),
        sequence_of_(std::move(sequence_of)),
        logits_(options.logits),
        class_weights_(options.class_weights),
        cross_entropy_(options.label_smoothing_factor) {}

  double operator()(const ops::LossRow& row) const {
    const auto sequence = static_cast<std::size_t>(sequence_of_[static_cast<std::size_t>(row.index)]);
    if (logits_.raw() != nullptr)
      std::ranges::copy(row.logits, logits_.data<float>() + sequence * row.logits.size());
    if (type_ == ProblemType::kSingleLabel) {
      const double weight = weight_of(static_cast<std::size_t>(row.label));
      ops::LossRow weighted = row;
      weighted.scale = static_cast<float>(static_cast<double>(row.scale) * weight);
      return weight * cross_entropy_(weighted);
    }
    double loss = 0;
    for (std::size_t c = 0; c < row.logits.size(); ++c) {
      const auto x = static_cast<double>(row.logits[c]);
      const auto y = static_cast<double>(batch_[sequence].targets[c]);
      double term = 0, gradient = 0;
      if (type_ == ProblemType::kMultiLabel) {
        term = weight_of(c) * binary_cross_entropy(x, y);
        gradient = weight_of(c) * (sigmoid(x) - y);
      } else {
        term = (x - y) * (x - y);
        gradient = 2 * (x - y);
      }
      loss += term;
      row.logits[c] = static_cast<float>(static_cast<double>(row.scale) * gradient);
    }
    return loss;
  }

 private:
  double weight_of(std::size_t label) const noexcept {
    return class_weights_.empty() ? 1 : class_weights_[label];
  }

  ProblemType type_;
  std::vector<TargetedSequence> batch_;
  std::vector<std::int32_t> sequence_of_;
  TensorView logits_;
  std::span<const double> class_weights_;
  ops::CrossEntropy cross_entropy_;
};

void check_options(const Classifier& classifier, std::size_t sequences,
                   const ClassificationLossOptions& options) {
  if (!options.class_weights.empty()) {
    if (classifier.problem_type() == ProblemType::kRegression)
      fail<ArgumentError>(kClassifier, "class_weights are given, but a regression has no classes");
    if (options.class_weights.size() != static_cast<std::size_t>(classifier.num_labels()))
      fail<ArgumentError>(kClassifier, options.class_weights.size(),
                          " class_weights, expected one for each of ", classifier.num_labels(), " labels");
  }
  if (options.label_smoothing_factor != 0 && classifier.problem_type() != ProblemType::kSingleLabel)
    fail<ArgumentError>(kClassifier, "label_smoothing_factor is ", options.label_smoothing_factor,
                        ", which is for ", name_of(ProblemType::kSingleLabel), " alone");
  if (!options.per_sequence.empty() && options.per_sequence.size() != sequences)
    fail<ArgumentError>(kClassifier, "room for ", options.per_sequence.size(), " sums of ", sequences,
                        " sequences");
  const Shape expected{static_cast<std::int64_t>(sequences), classifier.num_labels()};
  if (options.logits.raw() != nullptr &&
      (options.logits.shape() != expected || options.logits.dtype() != DType::f32))
    fail<ShapeError>(kClassifier, "logits are ", name_of(options.logits.dtype()), " ",
                     options.logits.shape().to_string(), ", expected float32 ", expected.to_string());
}

/// Throws NumericError naming a parameter that the logits cannot be numbers with, if there is one.
void require_finite_logits(const Tensor& logits, const Classifier& classifier, const std::stop_token& stop) {
  const auto all = logits.span<float>();
  const auto bad = std::ranges::find_if(all, [](float x) { return !std::isfinite(x); });
  if (bad == all.end()) return;
  auto found = find_non_finite(classifier.model().network(), stop);
  if (!found) found = find_non_finite("score.weight", classifier.score().values);
  fail<NumericError>(kClassifier, "a logit of sequence ", (bad - all.begin()) / classifier.num_labels(),
                     " is ", *bad,
                     found ? concat("; parameter ", found->name, ": element ", found->element) : "");
}

LossRows rows_over(const Classifier& classifier, std::span<const TargetedSequence> batch, Arena& arena,
                   const ClassificationLossOptions& options) {
  check_options(classifier, batch.size(), options);
  std::vector<Chunk> chunks;
  std::vector<std::int32_t> sequence_of;  // of rows
  LossRows rows{.head = &classifier.score(), .type = classifier.problem_type(), .begin = {0}};
  const bool single = rows.type == ProblemType::kSingleLabel;
  if (!single) rows.terms = classifier.num_labels();
  for (std::size_t i = 0; i < batch.size(); ++i) {
    check_targets(classifier, batch[i], i);
    chunks.push_back({classifier.used(batch[i].ids)});
    rows.labels.resize(rows.labels.size() + chunks.back().ids.size(), kIgnoredLabel);
    rows.labels.back() = single ? static_cast<TokenId>(batch[i].targets.front()) : 0;
    rows.begin.push_back(std::ssize(rows.labels));
    sequence_of.resize(rows.labels.size(), static_cast<std::int32_t>(i));
  }
  rows.hidden = classifier.model().network().forward(chunks, arena, hidden_pass(options)).final_hidden;
  rows.loss = SequenceLoss(classifier.problem_type(), batch, std::move(sequence_of), options);
  return rows;
}

}  // namespace

std::string_view name_of(ProblemType type) noexcept { return kProblemTypes[static_cast<std::size_t>(type)]; }

std::optional<ProblemType> problem_type_from_name(std::string_view name) noexcept {
  const auto found = std::ranges::find(kProblemTypes, name);
  if (found == kProblemTypes.end()) return std::nullopt;
  return static_cast<ProblemType>(found - kProblemTypes.begin());
}

Classifier::Classifier(Model model, std::vector<std::string> labels, ProblemType problem_type,
                       std::uint64_t seed)
    : model_(std::move(model)), problem_type_(problem_type), labels_(std::move(labels)) {
  if (labels_.empty()) fail<ArgumentError>(kClassifier, "there are no labels");
  if (labels_.size() == 1 && problem_type_ == ProblemType::kSingleLabel)
    fail<ArgumentError>(kClassifier, "there is only the label ", labels_.front(), ", expected two or more");
  if (std::set<std::string>(labels_.begin(), labels_.end()).size() != labels_.size())
    fail<ArgumentError>(kClassifier, "two labels have the same name");
  const DefaultFloatEnvironment environment;
  model_.network() = without_head(std::move(model_.network()));
  const Gpt2Config& config = model_.config();
  const auto& eos = config.eos_token_id;
  if (!config.pad_token_id && !eos.empty() && eos.front() >= 0 && eos.front() < config.vocab_size)
    model_.network().set_special_tokens(config.bos_token_id, eos, eos.front());
  score_ = {.in = config.n_embd,
            .out = static_cast<std::int64_t>(labels_.size()),
            .layout = ops::WeightLayout::kOutIn,
            .values = Tensor::empty({static_cast<std::int64_t>(labels_.size()), config.n_embd})};
  const CounterRng rng(seed,
                       std::uint64_t{13} << 60);  // far from those that training takes from the same seed
  for (std::int64_t i = 0; i < score_.values.numel(); ++i)
    score_.values.data<float>()[i] = static_cast<float>(static_cast<double>(config.initializer_range) *
                                                        normal_here(rng, static_cast<std::uint64_t>(i)));
}

std::span<const TokenId> Classifier::used(std::span<const TokenId> ids) const noexcept {
  const std::optional<TokenId>& pad = pad_token_id();
  if (!pad) return ids;
  while (ids.size() > 1 && ids.back() == *pad) ids = ids.first(ids.size() - 1);
  return ids;
}

std::vector<TokenId> Classifier::encode(std::string_view text, std::int64_t max_length,
                                        bool* truncated) const {
  const std::int64_t positions = model_.config().n_positions;
  const auto most = static_cast<std::size_t>(max_length > 0 ? std::min(max_length, positions) : positions);
  std::vector<TokenId> ids = model_.tokenizer().encode(text, {.parse_special_tokens = false});
  if (truncated != nullptr) *truncated = ids.size() > most;
  if (ids.size() > most) ids.resize(most);
  if (ids.empty()) ids.push_back(pad_token_id().value_or(0));
  return ids;
}

Tensor Classifier::logits(std::span<const std::vector<TokenId>> sequences,
                          const std::stop_token& stop) const {
  constexpr std::int64_t kBatchTokens = 2048;  // results do not depend on it
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kClassifier, [&] {
    if (sequences.empty()) fail<ArgumentError>(kClassifier, "there are no sequences");
    const std::int64_t d = score_.in;
    Tensor hidden = Tensor::empty({static_cast<std::int64_t>(sequences.size()), d});
    Arena arena;
    std::vector<Chunk> batch;
    for (std::size_t i = 0; i < sequences.size();) {
      batch.clear();
      std::int64_t rows = 0;
      for (std::size_t j = i; j < sequences.size(); ++j) {
        const std::span<const TokenId> ids = used(sequences[j]);
        if (!batch.empty() && rows + static_cast<std::int64_t>(ids.size()) > kBatchTokens) break;
        batch.push_back({ids});
        rows += static_cast<std::int64_t>(ids.size());
      }
      arena.reset();
      const ForwardOutput out = model_.network().forward(
          batch, arena, {.logits = LogitsRows::kNone, .last_hidden = true, .stop = stop});
      std::copy_n(out.last_hidden.data<float>(), out.last_hidden.numel(),
                  hidden.data<float>() + static_cast<std::int64_t>(i) * d);
      i += batch.size();
    }
    Tensor result = Tensor::empty({static_cast<std::int64_t>(sequences.size()), score_.out});
    arena.reset();
    ops::linear(hidden, score_, {}, result, arena);
    require_finite_logits(result, *this, stop);
    return result;
  });
}

LossSum classification_loss(const Classifier& classifier, std::span<const TargetedSequence> batch,
                            Arena& arena, const ClassificationLossOptions& options) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kClassifier, [&] {
    return sum_of_losses(rows_over(classifier, batch, arena, options), options.tape, options.scale, arena,
                         options.stop, options.per_sequence);
  });
}

LossRows classification_rows(const Classifier& classifier, std::span<const TargetedSequence> batch,
                             Arena& arena, const ClassificationLossOptions& options) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kClassifier, [&] { return rows_over(classifier, batch, arena, options); });
}

std::vector<double> probabilities(ProblemType type, std::span<const float> logits, double temperature) try {
  if (!(temperature > 0) || !std::isfinite(temperature))
    fail<ArgumentError>(kClassifier, "temperature is ", temperature, ", expected more than 0");
  const DefaultFloatEnvironment environment;
  std::vector<double> p;
  for (const float logit : logits)
    p.push_back(type == ProblemType::kRegression ? static_cast<double>(logit)
                                                 : static_cast<double>(logit) / temperature);
  if (type == ProblemType::kMultiLabel)
    for (double& x : p) x = sigmoid(x);
  if (type != ProblemType::kSingleLabel || p.empty()) return p;
  const double most = *std::ranges::max_element(p);
  double sum = 0;
  for (double& x : p) sum += x = math::exp(x - most);
  for (double& x : p) x /= sum;
  return p;
} catch (...) {
  rethrow_with_memory_errors(kClassifier);
}

}  // namespace gpt
