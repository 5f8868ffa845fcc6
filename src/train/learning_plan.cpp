#include "train/learning_plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>

#include "gpt/core/error.h"

namespace gpt {
namespace {

/// The number of the block in a parameter's name, "h.3.attn.c_attn.bias" or an adapter's that ends like it, say.
std::optional<std::int64_t> block_of(std::string_view name) {
  for (std::size_t at = name.find("h."); at != std::string_view::npos; at = name.find("h.", at + 1)) {
    if (at > 0 && name[at - 1] != '.') continue;
    std::int64_t block = 0;
    const char* const first = name.data() + at + 2;
    const auto [end, error] = std::from_chars(first, name.data() + name.size(), block);
    if (error == std::errc() && end != name.data() + name.size() && *end == '.') return block;
  }
  return std::nullopt;
}

bool is_embedding(std::string_view name) { return name == "wte.weight" || name == "wpe.weight"; }

/// How many steps of the network stand above a parameter: 0 for the head and the last norm, 1 for the top block.
std::int64_t depth_of(const Parameter& p, std::int64_t n_layer) {
  if (p.of_objective) return 0;
  if (is_embedding(p.name)) return n_layer + 1;
  const auto block = block_of(p.name);
  return block ? n_layer - *block : 0;
}

/// x^n as a chain of products, which every machine computes alike.
double repeated_product(double x, std::int64_t n) {
  double product = 1;
  for (; n > 0; --n) product *= x;
  return product;
}

}  // namespace

LearningPlan::LearningPlan(const Parameters& parameters, const TrainingArguments& a, std::int64_t n_layer,
                           std::int64_t total_steps,
                           const std::function<std::int64_t(std::int64_t epoch)>& updates_of_epoch) {
  // The step at which one block more begins to learn, as often as there are updates.
  std::vector<std::int64_t> stages{0};
  if (a.unfreeze_steps > 0)
    while (stages.back() < total_steps && std::ssize(stages) <= n_layer + 1)
      stages.push_back(stages.back() + a.unfreeze_steps);
  for (std::int64_t epoch = 0;
       a.unfreeze_epochs > 0 && stages.back() < total_steps && std::ssize(stages) <= n_layer + 1;) {
    std::int64_t step = stages.back();
    for (std::int64_t i = 0; i < a.unfreeze_epochs && step < total_steps; ++i)
      step += updates_of_epoch(epoch++);
    stages.push_back(step);
  }
  const bool unfreezes = a.unfreeze_steps > 0 || a.unfreeze_epochs > 0;
  const bool has_head = std::ranges::any_of(parameters.all(), &Parameter::of_objective);
  for (const Parameter& p : parameters.all()) {
    PartOfStep& part = parts_.emplace_back();
    const std::int64_t depth = depth_of(p, n_layer);
    part.learning_rate_factor = repeated_product(a.layerwise_lr_decay, depth);
    if (a.learning_rate_factor_of && !p.of_objective) {
      const double factor = a.learning_rate_factor_of(p.name);
      if (!(factor >= 0) || !std::isfinite(factor))
        fail<ArgumentError>("trainer", "learning_rate_factor_of ", p.name, " is ", factor,
                            ", expected 0 or more");
      part.learning_rate_factor *= factor;
    }
    if (!unfreezes) continue;
    const auto stage = static_cast<std::size_t>(std::max<std::int64_t>(0, has_head ? depth : depth - 1));
    part.first_step = stage < stages.size() ? stages[stage]
                                            : std::numeric_limits<std::int64_t>::max();  // never in this run
  }
}

std::int64_t LearningPlan::awake(std::int64_t step) const noexcept {
  return std::ranges::count_if(parts_, [&](const PartOfStep& part) { return step >= part.first_step; });
}

}  // namespace gpt
