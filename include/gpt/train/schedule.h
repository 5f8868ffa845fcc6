// Learning-rate schedules, with the names and formulas of transformers (optimization.py).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace gpt {

/// SchedulerType, by the names that lr_scheduler_type takes:
///   kConstant            "constant"
///   kConstantWithWarmup  "constant_with_warmup"
///   kLinear              "linear"
///   kCosine              "cosine"
///   kCosineWithMinLr     "cosine_with_min_lr"
///   kWarmupStableDecay   "warmup_stable_decay"
enum class LrScheduler : std::uint8_t {
  kConstant,
  kConstantWithWarmup,
  kLinear,
  kCosine,
  kCosineWithMinLr,
  kWarmupStableDecay,
};

std::string_view name_of(LrScheduler scheduler) noexcept;
std::optional<LrScheduler> lr_scheduler_from_name(std::string_view name) noexcept;
/// All names, in the order of the schedulers.
std::span<const std::string_view> lr_scheduler_names() noexcept;

struct ScheduleOptions {
  LrScheduler type = LrScheduler::kLinear;
  std::int64_t warmup_steps = 0;  // ignored by kConstant
  std::int64_t total_steps = 0;   // updates of the whole run
  double num_cycles = 0.5;        // of the cosines: 0.5 falls once
  double min_lr_rate =
      0;  // of kCosineWithMinLr and kWarmupStableDecay (min_lr_ratio there): the factor at the end
  std::int64_t decay_steps = 0;  // of kWarmupStableDecay: the last ones, which fall as a cosine
};

/// What the base rate is multiplied by in the update after `step` others. With w = warmup_steps, n = total_steps, s = step:
///   kConstant              1
///   all others, s < w      s / max(1, w); kWarmupStableDecay: that, times (1 - min_lr_rate), plus min_lr_rate
///   kConstantWithWarmup    1
///   kLinear                max(0, (n - s) / max(1, n - w))
///   kCosine                max(0, (1 + cos(2 pi num_cycles (s - w) / max(1, n - w))) / 2)
///   kCosineWithMinLr       that, times (1 - min_lr_rate), plus min_lr_rate
///   kWarmupStableDecay     1 for s < n - d, d = decay_steps; then as kCosineWithMinLr, over d steps; min_lr_rate for s >= n
/// Throws ArgumentError naming an option out of its range.
double learning_rate_factor(const ScheduleOptions& schedule, std::int64_t step);

}  // namespace gpt
