#include "gpt/models/average.h"

#include <string>
#include <vector>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"

namespace gpt {
namespace {

constexpr std::string_view kAverage = "average_weights";

/// The mean of tensors of one shape.
Tensor mean_of(std::span<const Tensor> tensors) {
  std::vector<const float*> from;
  for (const Tensor& tensor : tensors) from.push_back(tensor.data<float>());
  Tensor mean = Tensor::empty(tensors.front().shape());
  float* const to = mean.data<float>();
  constexpr std::int64_t kGrain = 1 << 14;  // elements that are worth waking a thread for
  parallel_for(mean.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t i = begin; i < end; ++i) {
      double sum = 0;
      for (const float* x : from) sum += static_cast<double>(x[i]);
      to[i] = static_cast<float>(sum / static_cast<double>(from.size()));
    }
  });
  return mean;
}

struct AveragedTensor {
  std::string name;
  Tensor tensor;
};

std::vector<AveragedTensor> averaged_tensors(const Gpt2& network) {
  if (network.adapter() != nullptr)
    fail<UnsupportedError>(kAverage, "a network has an adapter: merge it first");
  std::vector<AveragedTensor> all;
  network.visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
    all.push_back({name, tensor});
  });
  return all;
}

/// Throws where one is not like the first.
void require_alike(const std::string& name, const Tensor& first, const Tensor& other) {
  if (first.shape() != other.shape())
    fail<ArgumentError>(kAverage, name, " has shape ", other.shape().to_string(), ", expected ",
                        first.shape().to_string(), " in one of the others");
}

/// Shapes alone do not tell heads apart, nor what is computed with the weights.
void require_alike(const Gpt2& first, const Gpt2& other) {
  const Gpt2Config &a = first.config(), &b = other.config();
  const auto require = [](std::string_view name, auto found, auto expected) {
    if (found != expected)
      fail<ArgumentError>(kAverage, "one of the others has ", name, " = ", found, ", expected ", expected);
  };
  require("activation_function", ops::name_of(b.activation_function), ops::name_of(a.activation_function));
  require("layer_norm_epsilon", b.layer_norm_epsilon, a.layer_norm_epsilon);
  require("scale_attn_weights", static_cast<int>(b.scale_attn_weights),
          static_cast<int>(a.scale_attn_weights));
  require("scale_attn_by_inverse_layer_idx", static_cast<int>(b.scale_attn_by_inverse_layer_idx),
          static_cast<int>(a.scale_attn_by_inverse_layer_idx));
  if (a.n_head != b.n_head || a.pruned_heads != b.pruned_heads)
    fail<ArgumentError>(kAverage, "one of the others has n_head = ", b.n_head, ", expected ", a.n_head,
                        a.pruned_heads != b.pruned_heads ? ", and the same pruned_heads" : "");
}

}  // namespace

void average_weights(Gpt2& network, std::span<const Gpt2* const> others) {
  const DefaultFloatEnvironment environment;
  with_memory_errors(kAverage, [&] {
    if (others.empty()) fail<ArgumentError>(kAverage, "there is one network, expected two or more");
    const std::vector<AveragedTensor> own = averaged_tensors(network);
    std::vector<std::vector<AveragedTensor>> theirs;
    for (const Gpt2* other : others) {
      theirs.push_back(averaged_tensors(*other));
      if (theirs.back().size() != own.size())
        fail<ArgumentError>(kAverage, "one of the others has ", theirs.back().size(),
                            " parameters, expected ", own.size());
      for (std::size_t i = 0; i < own.size(); ++i)
        require_alike(own[i].name, own[i].tensor, theirs.back()[i].tensor);
      require_alike(network, *other);
    }
    std::size_t next = 0;
    network.visit([&](const std::string&, Tensor& tensor, const Shape&) {
      std::vector<Tensor> all{tensor.to(DType::f32)};
      for (const auto& other : theirs) all.push_back(other[next].tensor.to(DType::f32));
      tensor = mean_of(all);
      ++next;
    });
  });
}

void average_weights(Classifier& classifier, std::span<const Classifier* const> others) {
  const DefaultFloatEnvironment environment;
  with_memory_errors(kAverage, [&] {
    std::vector<const Gpt2*> networks;
    std::vector<Tensor> heads{classifier.score().values.to(DType::f32)};
    for (const Classifier* other : others) {
      if (other->labels() != classifier.labels() || other->problem_type() != classifier.problem_type())
        fail<ArgumentError>(kAverage,
                            "one of the other classifiers has other labels, or another problem_type");
      require_alike("score.weight", heads.front(), other->score().values);
      networks.push_back(&other->model().network());
      heads.push_back(other->score().values.to(DType::f32));
    }
    average_weights(classifier.model().network(), networks);
    classifier.score().values = mean_of(heads);
  });
}

}  // namespace gpt
