// A table of vectors.
#pragma once

#include <cstdint>
#include <string>

#include "gpt/core/error.h"
#include "gpt/nn/module.h"
#include "gpt/ops/weight.h"

namespace gpt::nn {

/// Holds the table [entries, features], a matrix from features to entries as a tied head uses it; ops::embedding looks
/// tokens and positions up together.
class Embedding {
 public:
  Embedding(std::int64_t entries, std::int64_t features)
      : weight_{.in = features, .out = entries, .layout = ops::WeightLayout::kOutIn} {}

  const ops::Weight& weight() const noexcept { return weight_; }

  template <class Visitor>
  void visit(const std::string& prefix, Visitor& f) {
    visit_matrix(f, concat(prefix, "weight"), weight_);
  }
  template <class Visitor>
  void visit(const std::string& prefix, Visitor& f) const {
    visit_matrix(f, concat(prefix, "weight"), weight_);
  }

 private:
  ops::Weight weight_;
};

}  // namespace gpt::nn
