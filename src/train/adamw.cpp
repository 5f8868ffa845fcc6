#include "gpt/train/adamw.h"

#include <algorithm>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/ops/optimizer.h"
#include "train/zeros_together.h"

namespace gpt {

void check(const AdamWOptions& options) {
  const auto require = [](std::string_view name, double value, bool holds, std::string_view expected) {
    if (!holds) fail<ArgumentError>("adamw", name, " is ", value, ", expected ", expected);
  };
  for (const auto& [name, beta] :
       {std::pair("adam_beta1", options.adam_beta1), {"adam_beta2", options.adam_beta2}})
    require(name, beta, beta >= 0 && beta < 1, "0 or more, and less than 1");
  require("adam_epsilon", options.adam_epsilon, options.adam_epsilon >= 0, "0 or more");
  require("weight_decay", options.weight_decay, options.weight_decay >= 0, "0 or more");
}

AdamW::AdamW(const Parameters& parameters, const AdamWOptions& options) try
    : parameters_(parameters), options_((check(options), options)) {
  std::vector<Shape> shapes;
  for (const Parameter& p : parameters.all()) shapes.push_back(p.value.shape());
  m_ = zeros_together(shapes);
  v_ = zeros_together(shapes);
} catch (...) {
  rethrow_with_memory_errors("adamw");
}

void AdamW::step(double learning_rate, double gradient_scale, std::span<const PartOfStep> parts) {
  if (!parts.empty() && parts.size() != m_.size())
    fail<ArgumentError>("adamw", parts.size(), " parts of a step, expected one for each of ", m_.size(),
                        " parameters");
  ++steps_;
  for (std::size_t i = 0; i < m_.size(); ++i) {
    const Parameter& p = parameters_.all()[i];
    const PartOfStep part = parts.empty() ? PartOfStep{} : parts[i];
    if (steps_ <= part.first_step) continue;
    ops::adamw(p.value, p.gradient, m_[i], v_[i],
               {.learning_rate = learning_rate * part.learning_rate_factor,
                .beta1 = options_.adam_beta1,
                .beta2 = options_.adam_beta2,
                .epsilon = options_.adam_epsilon,
                .weight_decay = p.value.shape().rank() >= 2 ? options_.weight_decay : 0.0,
                .gradient_scale = gradient_scale,
                .step = steps_ - part.first_step},
               p.rest);
  }
}

double clip_factor(double norm, double max_norm) noexcept {
  if (!(max_norm > 0)) return 1.0;
  const DefaultFloatEnvironment environment;
  return fixed_here(std::min(1.0, max_norm / (fixed_here(norm) + 1e-6)));
}

}  // namespace gpt
