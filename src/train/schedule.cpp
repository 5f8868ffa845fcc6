#include "gpt/train/schedule.h"

#include <algorithm>
#include <array>

#include "core/float_environment.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"

namespace gpt {
namespace {

constexpr std::array<std::string_view, 6> kNames{"constant", "constant_with_warmup", "linear",
                                                 "cosine",   "cosine_with_min_lr",   "warmup_stable_decay"};

double quotient(std::int64_t a, std::int64_t b) noexcept {
  return static_cast<double>(a) / static_cast<double>(std::max<std::int64_t>(1, b));
}

/// From 1 down to min_lr_rate as `progress` goes from 0 to 1 (with half a cycle).
double cosine(const ScheduleOptions& s, double progress, double min_lr_rate) noexcept {
  const double wave = (1 + math::cos_2pi(s.num_cycles * progress)) / 2;
  return std::max(0.0, wave * (1 - min_lr_rate) + min_lr_rate);
}

void check(const ScheduleOptions& s, std::int64_t step) {
  constexpr std::string_view where = "lr_scheduler";
  const auto not_negative = [&](std::string_view name, std::int64_t value) {
    if (value < 0) fail<ArgumentError>(where, name, " is ", value, ", expected 0 or more");
  };
  not_negative("step", step);
  not_negative("warmup_steps", s.warmup_steps);
  not_negative("total_steps", s.total_steps);
  not_negative("decay_steps", s.decay_steps);
  if (!(s.min_lr_rate >= 0 && s.min_lr_rate <= 1))
    fail<ArgumentError>(where, "min_lr_rate is ", s.min_lr_rate, ", expected 0 to 1");
  if (!(s.num_cycles >= 0 && s.num_cycles <= 1e6))
    fail<ArgumentError>(where, "num_cycles is ", s.num_cycles, ", expected 0 to 1e6");
}

[[gnu::noinline]] double factor(const ScheduleOptions& s, std::int64_t step) {
  if (s.type == LrScheduler::kConstant) return 1;
  if (step < s.warmup_steps) {
    const double rise = quotient(step, s.warmup_steps);
    return s.type == LrScheduler::kWarmupStableDecay ? rise * (1 - s.min_lr_rate) + s.min_lr_rate : rise;
  }
  const std::int64_t rest = s.total_steps - s.warmup_steps;
  switch (s.type) {
    case LrScheduler::kLinear: return std::max(0.0, quotient(s.total_steps - step, rest));
    case LrScheduler::kCosine: return cosine(s, quotient(step - s.warmup_steps, rest), 0);
    case LrScheduler::kCosineWithMinLr:
      return cosine(s, quotient(step - s.warmup_steps, rest), s.min_lr_rate);
    case LrScheduler::kWarmupStableDecay: {
      const std::int64_t decay = step - (s.total_steps - s.decay_steps);
      if (decay < 0) return 1;
      if (step >= s.total_steps) return s.min_lr_rate;
      return cosine(s, quotient(decay, s.decay_steps), s.min_lr_rate);
    }
    default: return 1;
  }
}

}  // namespace

std::string_view name_of(LrScheduler scheduler) noexcept {
  return kNames[static_cast<std::size_t>(scheduler)];
}

std::optional<LrScheduler> lr_scheduler_from_name(std::string_view name) noexcept {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<LrScheduler>(found - kNames.begin());
}

std::span<const std::string_view> lr_scheduler_names() noexcept { return kNames; }

double learning_rate_factor(const ScheduleOptions& options, std::int64_t step) {
  check(options, step);
  const DefaultFloatEnvironment environment;
  return factor(options, step);
}

}  // namespace gpt
