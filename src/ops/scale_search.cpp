#include "ops/scale_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gpt::ops {
namespace {

/// sum of importance (w - scale level)^2 per lane.
Doubles error_of(const Group& g, const Scaling& s) noexcept {
  Doubles error{};
  for (std::int64_t i = 0; i < g.count; ++i) {
    const float* w = g.weights + i * kPanelWidth;
    const double h = g.importance != nullptr ? static_cast<double>(g.importance[i]) : 1.0;
    for (std::size_t j = 0; j < kLanes; ++j) {
      const float value = s.scale[j] * level_of(w[j], s.scale[j], s.low[j], s.high[j]);
      const double d = static_cast<double>(w[j]) - static_cast<double>(value);
      error[j] += h * d * d;
    }
  }
  return error;
}

/// With the levels that `s` gives, the scale of least error is wl / ll, and that error is sum h w^2 - wl^2 / ll.
struct Projection {
  Doubles wl{}, ll{};
};

Projection project(const Group& g, const Scaling& s) noexcept {
  Projection p;
  for (std::int64_t i = 0; i < g.count; ++i) {
    const float* w = g.weights + i * kPanelWidth;
    const double h = g.importance != nullptr ? static_cast<double>(g.importance[i]) : 1.0;
    for (std::size_t j = 0; j < kLanes; ++j) {
      const auto level = static_cast<double>(level_of(w[j], s.scale[j], s.low[j], s.high[j]));
      p.wl[j] += h * level * static_cast<double>(w[j]);
      p.ll[j] += h * level * level;
    }
  }
  return p;
}

/// Searches the scaling of least error. Starts from `first`, whose result is the bound; the grid shows where the best may
/// be, finish() improves the best of it by turns: levels for the scale, scale for the levels.
class Search {
 public:
  Search(const Group& group, DType scale_dtype, const Scaling& first)
      : group_(group), half_(scale_dtype == DType::f16), best_(first), promising_(first) {
    least_ = error_of(group_, best_);
    gain_.fill(-1.0);
  }

  /// Judges the levels of a scaling by what the best scale makes of them.
  void try_grid(const Scaling& s) noexcept {
    const Projection p = project(group_, s);
    for (std::size_t j = 0; j < kLanes; ++j) {
      if (!(p.ll[j] > 0.0)) continue;
      const double gain = p.wl[j] * p.wl[j] / p.ll[j];
      if (!(gain > gain_[j])) continue;
      gain_[j] = gain;
      promising_.scale[j] = static_cast<float>(p.wl[j] / p.ll[j]);
      promising_.low[j] = s.low[j];
      promising_.high[j] = s.high[j];
    }
  }

  /// Judges a scaling as it is.
  void try_exact(Scaling s) noexcept {
    for (std::size_t j = 0; j < kLanes; ++j)
      if (!store_as(s.scale[j])) copy_lane(best_, s, j);
    const Doubles error = error_of(group_, s);
    for (std::size_t j = 0; j < kLanes; ++j) {
      if (!(error[j] < least_[j])) continue;
      least_[j] = error[j];
      copy_lane(s, best_, j);
    }
  }

  Scaling finish() noexcept {
    constexpr int kTurns = 4;
    Scaling s = promising_;
    for (std::size_t j = 0; j < kLanes; ++j)
      if (gain_[j] < 0.0) copy_lane(best_, s, j);  // no grid
    for (int turn = 0; turn < kTurns; ++turn) {
      try_exact(s);
      const Projection p = project(group_, s);
      for (std::size_t j = 0; j < kLanes; ++j)
        if (p.ll[j] > 0.0) s.scale[j] = static_cast<float>(p.wl[j] / p.ll[j]);
    }
    return best_;
  }

 private:
  static void copy_lane(const Scaling& from, Scaling& to, std::size_t j) noexcept {
    to.scale[j] = from.scale[j];
    to.low[j] = from.low[j];
    to.high[j] = from.high[j];
  }

  /// Rounds a scale to its stored type; false when it is no normal number of that type.
  bool store_as(float& scale) const noexcept {
    if (half_) scale = static_cast<float>(Float16(scale));
    const float size = std::fabs(scale);
    return size >= (half_ ? 0x1p-14f : std::numeric_limits<float>::min()) &&
           size <= std::numeric_limits<float>::max();
  }

  Group group_;
  bool half_;
  Scaling best_, promising_;
  Doubles least_{}, gain_{};
};

void set_zero_point(Scaling& s, std::size_t lane, float zero) noexcept {
  s.low[lane] = -zero;
  s.high[lane] = 15.0f - zero;
}

Scaling times(const Scaling& s, float factor) noexcept {
  Scaling out = s;
  for (float& scale : out.scale) scale *= factor;
  return out;
}

/// Factors of the plain scale for int4: from the largest magnitudes sticking out of the range, which pays in large
/// groups with outliers, to the range reaching a little beyond them.
constexpr int kFirstStep = -16, kLastStep = 4;
constexpr float kStep = 1.0f / 32.0f;

Scaling search_int4(const Group& g, DType scale_dtype, const Scaling& plain) noexcept {
  Search search(g, scale_dtype, plain);
  for (int step = kFirstStep; step <= kLastStep; ++step)
    for (const float sign : {1.0f, -1.0f})
      search.try_grid(times(plain, sign * (1.0f + static_cast<float>(step) * kStep)));
  return search.finish();
}

/// With 127 levels no scale is better by far; the best is the one that happens to bring most weights close to a level.
/// Candidates are so close together that the farthest levels move by a fraction of their distance.
Scaling search_int8(const Group& g, DType scale_dtype, const Scaling& plain) noexcept {
  constexpr int kCandidates = 40;  // on each side
  constexpr float kDistance = 1.0f / 640.0f;
  Search search(g, scale_dtype, plain);
  for (int i = -kCandidates; i <= kCandidates; ++i)
    search.try_exact(times(plain, 1.0f + static_cast<float>(i) * kDistance));
  for (int step = kFirstStep; step < 0; step += 2)
    search.try_exact(times(plain, 1.0f + static_cast<float>(step) * kStep));
  return search.finish();
}

Scaling search_asymmetric(const Group& g, DType scale_dtype, const Scaling& plain) noexcept {
  Search search(g, scale_dtype, plain);
  Scaling s = plain;
  for (int shift = -2; shift <= 2; ++shift) {
    for (std::size_t j = 0; j < kLanes; ++j)
      set_zero_point(s, j, std::clamp(-plain.low[j] + static_cast<float>(shift), 0.0f, 15.0f));
    for (int step = kFirstStep; step <= kLastStep; step += 2)
      search.try_grid(times(s, 1.0f + static_cast<float>(step) * kStep));
  }
  return search.finish();
}

}  // namespace

Extremes extremes_of(const Group& g) noexcept {
  Extremes e;
  for (std::int64_t i = 0; i < g.count; ++i)
    for (std::size_t j = 0; j < kLanes; ++j) {
      const float w = g.weights[i * kPanelWidth + static_cast<std::int64_t>(j)];
      e.least[j] = w < e.least[j] ? w : e.least[j];
      e.most[j] = w > e.most[j] ? w : e.most[j];
    }
  return e;
}

float plain_scale(const QuantizationFormat& f, float least, float most) noexcept {
  if (f.format == WeightFormat::int8) return std::max(-least, most) / 127.0f;
  if (!f.symmetric) return most / 15.0f - least / 15.0f;
  return -least >= most ? least / -8.0f
                        : most / -8.0f;  // negative when the largest magnitude is that of `most`
}

Scaling best_scaling(const Group& g, const QuantizationFormat& f, DType scale_dtype) noexcept {
  const Extremes e = extremes_of(g);
  const bool int8 = f.format == WeightFormat::int8;
  Scaling plain;
  for (std::size_t j = 0; j < kLanes; ++j) {
    float scale = plain_scale(f, e.least[j], e.most[j]);
    if (scale_dtype == DType::f16) scale = static_cast<float>(Float16(scale));
    if (scale_dtype == DType::f32 && std::fabs(scale) < std::numeric_limits<float>::min())
      scale = std::numeric_limits<float>::min();
    if (e.least[j] == e.most[j]) scale = 1.0f;  // both are 0
    plain.scale[j] = scale;
    plain.low[j] = int8 ? -127.0f : -8.0f;
    plain.high[j] = int8 ? 127.0f : 7.0f;
    if (!f.symmetric) set_zero_point(plain, j, level_of(-e.least[j], scale, 0.0f, 15.0f));
  }
  if (int8) return search_int8(g, scale_dtype, plain);
  return f.symmetric ? search_int4(g, scale_dtype, plain) : search_asymmetric(g, scale_dtype, plain);
}

}  // namespace gpt::ops
