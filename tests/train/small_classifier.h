// A classifier that takes a moment to train, and what it learns.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "gpt/core/rng.h"
#include "gpt/train/objectives.h"
#include "small_run.h"

namespace gpt::test {

/// Sequences of random tokens: those of class 1 have all but one in `strays` from the upper half, the others from the lower.
class HalvesOfTokens final : public Dataset {
 public:
  HalvesOfTokens(std::int64_t size, std::uint64_t seed, std::uint64_t strays = 4)
      : size_(size), rng_(seed), strays_(strays) {}

  std::int64_t size() const noexcept override { return size_; }
  Sample at(std::int64_t index) const override {
    Sample sample;
    const auto first = static_cast<std::uint64_t>(index) * 32;
    for (std::int64_t t = 0; t < length(index); ++t)
      sample.ids.push_back(token(first + static_cast<std::uint64_t>(t), index % 2 == 1));
    sample.targets = {static_cast<float>(index % 2)};
    return sample;
  }
  std::int64_t length(std::int64_t index) const override { return 5 + index % 7; }
  std::uint64_t fingerprint() const noexcept override { return rng_.bits(1u << 30); }

 private:
  TokenId token(std::uint64_t i, bool upper) const {
    const std::uint64_t bits = rng_.bits(i);
    const bool other = bits % strays_ == 0;
    return static_cast<TokenId>(bits / strays_ % 48 + (upper != other ? 48 : 0));
  }

  std::int64_t size_;
  CounterRng rng_;
  std::uint64_t strays_;
};

inline Classifier small_classifier(ProblemType type = ProblemType::kSingleLabel) {
  HfConfig file;
  tiny_config().to_hf(file);
  return {Model(random_network(tiny_config(), 1), file), {"without", "with"}, type};
}

inline TrainingArguments class_arguments() {
  TrainingArguments a;
  a.learning_rate = 1e-2;
  a.per_device_train_batch_size = 8;
  a.num_train_epochs = 16;
  a.logging_steps = 10;
  return a;
}

inline std::shared_ptr<RowObjective> objective_of(Classifier& classifier,
                                                  ClassificationOptions options = {}) {
  return std::make_shared<ClassificationObjective>(classifier, std::move(options));
}

inline bool same_classifiers(const Classifier& a, const Classifier& b) {
  return same(weights(a.model()), weights(b.model())) && same_bits(a.score().values, b.score().values);
}

inline std::vector<Sample> samples_of(const Dataset& data) {
  std::vector<Sample> samples;
  for (std::int64_t i = 0; i < data.size(); ++i) samples.push_back(data.at(i));
  return samples;
}

}  // namespace gpt::test
