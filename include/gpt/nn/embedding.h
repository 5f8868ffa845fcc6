// A table of vectors.
#pragma once

#include <cstdint>
#include <string>

#include "gpt/core/tensor.h"

namespace gpt::nn {

/// Holds the table [entries, features]; ops::embedding looks tokens and positions up together.
class Embedding {
 public:
  Embedding(std::int64_t entries, std::int64_t features) noexcept : entries_(entries), features_(features) {}

  const Tensor& weight() const noexcept { return weight_; }

  template <class Visitor>
  void visit(const std::string& prefix, Visitor& f) {
    f(prefix + "weight", weight_, Shape{entries_, features_});
  }
  template <class Visitor>
  void visit(const std::string& prefix, Visitor& f) const {
    f(prefix + "weight", weight_, Shape{entries_, features_});
  }

 private:
  std::int64_t entries_;
  std::int64_t features_;
  Tensor weight_;
};

}  // namespace gpt::nn
