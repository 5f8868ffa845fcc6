#include "gpt/evaluate/explain.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "evaluate/ranked.h"
#include "gpt/autograd/ops.h"
#include "gpt/core/error.h"
#include "gpt/ops/loss.h"
#include "gpt/ops/softmax.h"
#include "models/non_finite.h"

namespace gpt {
namespace {

constexpr std::string_view kExplain = "explain";

/// What a value is at embeddings: those of a sequence, or others in their place.
struct Point {
  double value = 0;
  Tensor embeddings;  // float32 [T, D], the sequence's own
};

/// Adds the gradient of the embeddings to `gradient` [T, D], unless null.
Point run_at(const Gpt2& network, std::span<const TokenId> ids, const ExplainedValue& value,
             const Tensor* embeddings, Tensor* gradient, const std::stop_token& stop) {
  Tape tape;
  Arena arena;
  const Chunk chunk{ids};
  ForwardOptions options{.logits = LogitsRows::kNone, .final_hidden = true, .stop = stop};
  options.hidden_states = embeddings == nullptr;
  if (embeddings != nullptr) options.embeddings = embeddings->view();
  if (gradient != nullptr) {
    options.tape = &tape;
    options.embedding_gradient = gradient->view();
  }
  const ForwardOutput out = network.forward({&chunk, 1}, arena, options);
  Point point;
  if (embeddings == nullptr) {
    point.embeddings = Tensor::empty(out.hidden_states[0].shape());
    std::ranges::copy(out.hidden_states[0].span<float>(), point.embeddings.data<float>());
  }
  point.value = value(out.final_hidden, options.tape, arena);
  if (gradient != nullptr) tape.backward(stop);
  return point;
}

/// Throws NumericError naming a parameter that the numbers are none with, if there is one.
Attribution finite(Attribution attribution, const Gpt2& network, const std::stop_token& stop) {
  const auto require = [&](const auto&... what_and_value) {
    fail<NumericError>(kExplain, what_and_value..., non_finite_clause(network, stop));
  };
  if (!std::isfinite(attribution.value)) require("the value is ", attribution.value);
  if (!std::isfinite(attribution.baseline)) require("the value of the baseline is ", attribution.baseline);
  for (std::size_t t = 0; t < attribution.scores.size(); ++t)
    if (!std::isfinite(attribution.scores[t]))
      require("what token ", t, " contributes is ", attribution.scores[t]);
  return attribution;
}

/// The scalar products of the rows, each times factor.
std::vector<double> row_products(const Tensor& a, const Tensor& b, double factor) {
  std::vector<double> products;
  const std::int64_t d = a.dim(1);
  for (std::int64_t t = 0; t < a.dim(0); ++t) {
    double sum = 0;
    for (std::int64_t i = t * d; i < (t + 1) * d; ++i)
      sum += static_cast<double>(a.data<float>()[i]) * static_cast<double>(b.data<float>()[i]);
    products.push_back(factor * sum);
  }
  return products;
}

}  // namespace

ExplainedValue next_token_log_prob(const Gpt2& network, TokenId token) {
  return [&network, token](ConstTensorView hidden, Tape* tape, Arena& arena) {
    std::vector<TokenId> labels(static_cast<std::size_t>(hidden.dim(0)), kIgnoredLabel);
    labels.back() = token;
    std::vector<double> losses(labels.size());
    autograd::head_loss(tape, hidden, network.head(), labels, ops::CrossEntropy(), -1.0f, losses, arena);
    return -losses.back();
  };
}

ExplainedValue label_score(const Classifier& classifier, std::int64_t label) {
  if (label < 0 || label >= classifier.num_labels())
    fail<ArgumentError>(kExplain, "label is ", label, ", expected 0 to ", classifier.num_labels() - 1);
  return [&classifier, label](ConstTensorView hidden, Tape* tape, Arena& arena) {
    std::vector<TokenId> labels(static_cast<std::size_t>(hidden.dim(0)), kIgnoredLabel);
    labels.back() = static_cast<TokenId>(label);
    std::vector<double> losses(labels.size());
    const auto run = [&](const ops::RowLoss& loss) {
      autograd::head_loss(tape, hidden, classifier.score(), labels, loss, -1.0f, losses, arena);
    };
    if (classifier.problem_type() == ProblemType::kSingleLabel)
      run(ops::CrossEntropy());
    else
      run([](const ops::LossRow& row) {
        const float logit = row.logits[static_cast<std::size_t>(row.label)];
        std::ranges::fill(row.logits, 0.0f);
        row.logits[static_cast<std::size_t>(row.label)] = -row.scale;
        return -static_cast<double>(logit);
      });
    return -losses.back();
  };
}

Attribution gradient_times_input(const Gpt2& network, std::span<const TokenId> ids,
                                 const ExplainedValue& value, const std::stop_token& stop) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kExplain, [&] {
    Tensor gradient = Tensor::zeros({std::ssize(ids), network.config().n_embd});
    const Point point = run_at(network, ids, value, nullptr, &gradient, stop);
    return finite({row_products(point.embeddings, gradient, 1), point.value}, network, stop);
  });
}

Attribution integrated_gradients(const Gpt2& network, std::span<const TokenId> ids,
                                 const ExplainedValue& value, TokenId baseline, std::int64_t steps,
                                 const std::stop_token& stop) {
  constexpr std::int64_t kMostSteps = std::int64_t{1} << 24;  // that float32 tells apart
  if (steps < 1 || steps > kMostSteps)
    fail<ArgumentError>(kExplain, "steps is ", steps, ", expected 1 to ", kMostSteps);
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kExplain, [&] {
    const std::vector<TokenId> nothing(ids.size(), baseline);
    const Point end = run_at(network, ids, value, nullptr, nullptr, stop),
                begin = run_at(network, nothing, value, nullptr, nullptr, stop);
    const Shape shape = end.embeddings.shape();
    Tensor way = Tensor::empty(shape), point = Tensor::empty(shape), gradient = Tensor::zeros(shape);
    const float *first = begin.embeddings.data<float>(), *last = end.embeddings.data<float>();
    for (std::int64_t i = 0; i < way.numel(); ++i) way.data<float>()[i] = last[i] - first[i];
    for (std::int64_t step = 0; step < steps; ++step) {
      const auto part = static_cast<float>((static_cast<double>(step) + 0.5) / static_cast<double>(steps));
      for (std::int64_t i = 0; i < way.numel(); ++i)
        point.data<float>()[i] = std::fma(part, way.data<float>()[i], first[i]);
      run_at(network, ids, value, &point, &gradient, stop);
    }
    return finite({row_products(way, gradient, 1 / static_cast<double>(steps)), end.value, begin.value},
                  network, stop);
  });
}

std::vector<std::vector<std::vector<RankedToken>>> logit_lens(const Gpt2& network,
                                                              std::span<const TokenId> ids,
                                                              std::int64_t top_n,
                                                              const std::stop_token& stop) {
  const std::int64_t vocab_size = network.config().vocab_size;
  if (top_n < 1 || top_n > vocab_size)
    fail<ArgumentError>(kExplain, "top_n is ", top_n, ", expected 1 to vocab_size = ", vocab_size);
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kExplain, [&] {
    Arena arena;
    const Chunk chunk{ids};
    const ForwardOutput out = network.forward(
        {&chunk, 1}, arena, {.logits = LogitsRows::kNone, .hidden_states = true, .stop = stop});
    std::vector<std::vector<std::vector<RankedToken>>> layers;
    std::vector<double> sums(ids.size());
    for (std::size_t layer = 0; layer + 1 < out.hidden_states.size(); ++layer) {
      const Arena::Scope scratch(arena);
      const TensorView logits = network.logits_of(out.hidden_states[layer], arena, stop);
      ops::log_sum_exp(logits, sums);
      auto& tokens = layers.emplace_back();
      for (std::size_t t = 0; t < ids.size(); ++t) {
        if (!std::isfinite(sums[t]))
          fail<NumericError>(kExplain, "the logits of layer ", layer, " behind token ", t,
                             " are not finite numbers", non_finite_clause(network, stop));
        const auto row = logits.span<float>().subspan(t * static_cast<std::size_t>(vocab_size),
                                                      static_cast<std::size_t>(vocab_size));
        auto& top = tokens.emplace_back(evaluate::most_probable(row, static_cast<std::size_t>(top_n)));
        for (RankedToken& token : top) token.log_prob -= sums[t];
      }
    }
    return layers;
  });
}

std::vector<Tensor> attentions(const Gpt2& network, std::span<const TokenId> ids,
                               const std::stop_token& stop) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kExplain, [&] {
    Arena arena;
    const Chunk chunk{ids};
    const ForwardOutput out =
        network.forward({&chunk, 1}, arena, {.logits = LogitsRows::kNone, .attentions = true, .stop = stop});
    std::vector<Tensor> layers;
    for (const TensorView& probabilities : out.attentions) {
      layers.push_back(Tensor::empty(probabilities.shape()));
      std::ranges::copy(probabilities.span<float>(), layers.back().data<float>());
    }
    return layers;
  });
}

Tensor attention_rollout(std::span<const Tensor> attentions) {
  constexpr std::string_view where = "attention_rollout";
  if (attentions.empty()) fail<ArgumentError>(where, "there are no layers");
  const Shape& first = attentions.front().shape();
  for (const Tensor& layer : attentions)
    if (const Shape& shape = layer.shape(); shape.rank() != 3 || shape[0] < 1 || shape[1] != shape[2] ||
                                            shape[2] != first[2] || layer.dtype() != DType::f32)
      fail<ShapeError>(where, "a layer is ", name_of(layer.dtype()), " ", shape.to_string(),
                       ", expected float32 [H, T, T] with the T of the first layer, ", first.to_string());
  const DefaultFloatEnvironment environment;
  return with_memory_errors(where, [&] {
    const std::int64_t t = first[1];
    const auto at = [t](std::int64_t i, std::int64_t j) { return static_cast<std::size_t>(i * t + j); };
    std::vector<double> rollout(static_cast<std::size_t>(t * t)), next(rollout.size()),
        row(static_cast<std::size_t>(t));
    for (std::int64_t i = 0; i < t; ++i) rollout[at(i, i)] = 1;
    for (const Tensor& layer : attentions) {
      const std::int64_t heads = layer.dim(0);
      std::ranges::fill(next, 0.0);
      for (std::int64_t i = 0; i < t; ++i) {
        for (std::int64_t j = 0; j <= i; ++j) {
          double sum = 0;
          for (std::int64_t h = 0; h < heads; ++h)
            sum += static_cast<double>(layer.data<float>()[(h * t + i) * t + j]);
          row[static_cast<std::size_t>(j)] = (sum / static_cast<double>(heads) + (i == j ? 1 : 0)) / 2;
        }
        for (std::int64_t j = 0; j <= i; ++j)
          for (std::int64_t k = 0; k <= j; ++k)
            next[at(i, k)] += row[static_cast<std::size_t>(j)] * rollout[at(j, k)];
      }
      std::swap(rollout, next);
    }
    Tensor result = Tensor::empty({t, t});
    std::ranges::transform(rollout, result.data<float>(), [](double x) { return static_cast<float>(x); });
    return result;
  });
}

}  // namespace gpt
