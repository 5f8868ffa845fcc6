#include "gpt/ops/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "core/memory.h"
#include "gpt/core/parallel.h"
#include "ops/checks.h"
#include "ops/quantized_weight.h"
#include "ops/scale_search.h"

namespace gpt::ops {
namespace {

constexpr std::string_view kOp = "quantize";

bool is_normal_half(float scale) noexcept {
  const auto rounded = std::fabs(static_cast<float>(Float16(scale)));
  return rounded >= 0x1p-14f && rounded <= 65504.0f;
}

class Quantizer {
 public:
  Quantizer(std::string_view what, const Weight& weight, const QuantizationFormat& format,
            std::span<const float> importance, std::stop_token stop)
      : what_(what),
        format_(format),
        in_(weight.in),
        out_(weight.out),
        file_layout_(weight.file_layout),
        group_size_(format.group_size == 0 ? std::max<std::int64_t>(in_, 1) : format.group_size),
        panels_((out_ + kPanelWidth - 1) / kPanelWidth),
        importance_(importance.empty() ? nullptr : importance.data()),
        weights_(pack(weight).values.to(DType::f32)),
        stop_(std::move(stop)) {}

  Weight run() {
    const DType scale_dtype = choose_scale_dtype();
    Weight q = empty_quantized(in_, out_, format_, scale_dtype);
    q.file_layout = file_layout_;
    const QuantizedElements elements(q);
    const std::int64_t groups = groups_of(in_, format_.group_size);
    parallel_for(panels_ * groups, 1, [&](std::int64_t begin, std::int64_t end) noexcept {
      // Two inputs share a byte of int4, and no group is cut inside a step: groups are independent.
      for (std::int64_t i = begin; i < end && !stop_.stop_requested(); ++i)
        fill(q, elements, i / groups, i % groups, scale_dtype);
    });
    if (stop_.stop_requested()) fail<CancelledError>(what_, "quantizing was stopped");
    return q;
  }

 private:
  Group group(std::int64_t panel, std::int64_t g) const noexcept {
    const std::int64_t first = g * group_size_;
    return {weights_.data<float>() + (panel * in_ + first) * kPanelWidth,
            importance_ == nullptr ? nullptr : importance_ + first, std::min(group_size_, in_ - first)};
  }

  /// f16, unless a group needs more; throws when a weight is not finite.
  DType choose_scale_dtype() const {
    struct Panel {
      bool finite = true;
      bool half = true;
    };
    std::vector<Panel> found(static_cast<std::size_t>(panels_));
    const std::int64_t groups = groups_of(in_, format_.group_size);
    parallel_for(panels_, grain_for(in_ * kPanelWidth), [&](std::int64_t begin, std::int64_t end) noexcept {
      for (std::int64_t p = begin; p < end; ++p) {
        Panel& panel = found[static_cast<std::size_t>(p)];
        const float* w = weights_.data<float>() + p * in_ * kPanelWidth;
        panel.finite = std::all_of(w, w + in_ * kPanelWidth, [](float v) { return std::isfinite(v); });
        for (std::int64_t g = 0; g < groups; ++g) {
          const Extremes e = extremes_of(group(p, g));
          for (std::size_t j = 0; j < kLanes; ++j)
            if (e.least[j] != e.most[j] && !is_normal_half(plain_scale(format_, e.least[j], e.most[j])))
              panel.half = false;
        }
      }
    });
    bool half = true;
    for (std::size_t p = 0; p < found.size(); ++p) {
      if (!found[p].finite) fail_not_finite(static_cast<std::int64_t>(p));
      half = half && found[p].half;
    }
    return half ? DType::f16 : DType::f32;
  }

  [[noreturn]] void fail_not_finite(std::int64_t panel) const {
    const float* w = weights_.data<float>() + panel * in_ * kPanelWidth;
    std::int64_t at = 0;
    while (std::isfinite(w[at])) ++at;
    const std::int64_t k = at / kPanelWidth, n = panel * kPanelWidth + at % kPanelWidth;
    const bool in_out = file_layout_ == WeightLayout::kInOut;
    fail<NumericError>(what_, "element [", in_out ? k : n, ", ", in_out ? n : k, "] is ", w[at],
                       ", expected a finite number");
  }

  void fill(Weight& q, const QuantizedElements& elements, std::int64_t panel, std::int64_t g,
            DType scale_dtype) const noexcept {
    const Group from = group(panel, g);
    const Scaling s = best_scaling(from, format_, scale_dtype);
    const bool int8 = format_.format == WeightFormat::int8;
    for (std::size_t j = 0; j < kLanes; ++j) {
      const std::int64_t n = panel * kPanelWidth + static_cast<std::int64_t>(j);
      if (n >= out_) return;
      bool all_zero = true;
      for (std::int64_t i = 0; i < from.count; ++i) {
        const float w = from.weights[i * kPanelWidth + static_cast<std::int64_t>(j)];
        all_zero = all_zero && w == 0.0f;
        const float level = level_of(w, s.scale[j], s.low[j], s.high[j]);
        elements.set(g * group_size_ + i, n, static_cast<int>(int8 ? level : level - s.low[j]));
      }
      const float scale = all_zero ? 0.0f : s.scale[j];
      const std::int64_t place = elements.group(g, n);
      if (scale_dtype == DType::f16)
        q.scales.data<Float16>()[place] = Float16(scale);
      else
        q.scales.data<float>()[place] = scale;
      if (!format_.symmetric)
        q.zero_points.data<std::uint8_t>()[place] = static_cast<std::uint8_t>(-s.low[j]);
    }
  }

  std::string_view what_;
  QuantizationFormat format_;
  std::int64_t in_, out_;
  WeightLayout file_layout_;
  std::int64_t group_size_, panels_;
  const float* importance_;
  Tensor weights_;  // f32 [P, K, 16]
  std::stop_token stop_;
};

}  // namespace

void check(const QuantizationFormat& f) {
  if (f.format != WeightFormat::int8 && f.format != WeightFormat::int4)
    fail<ArgumentError>("quantization", "format is ", name_of(f.format), ", expected int8 or int4");
  constexpr std::int64_t kSizes[] = {0, 32, 64, 128, 256};
  if (std::find(std::begin(kSizes), std::end(kSizes), f.group_size) == std::end(kSizes))
    fail<ArgumentError>("quantization", "group_size is ", f.group_size,
                        ", expected 32, 64, 128, 256, or 0 for one per output");
  if (f.format == WeightFormat::int8 && !f.symmetric)
    fail<ArgumentError>("quantization", "int8 is symmetric: only int4 can have zero points");
}

Weight empty_quantized(std::int64_t in, std::int64_t out, const QuantizationFormat& format,
                       DType scale_dtype) {
  const auto zeroed = [](const Shape& shape, DType dtype, bool pages) {
    if (!pages) return Tensor::zeros(shape, dtype);
    const std::size_t bytes = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
    const auto memory = allocate_bytes(bytes, kOp);
    if (bytes > 0) std::memset(memory.get(), 0, bytes);
    return Tensor::borrow(memory, memory.get(), shape, dtype);
  };
  const std::int64_t panels = (out + kPanelWidth - 1) / kPanelWidth;
  const std::int64_t steps = (in + kQuantizedStep - 1) / kQuantizedStep;
  const Shape groups{panels, groups_of(in, format.group_size), kPanelWidth};
  Weight w;
  w.in = in;
  w.out = out;
  w.layout = WeightLayout::kPanels;
  w.values = format.format == WeightFormat::int8
                 ? zeroed({panels, 4 * steps, kPanelWidth, 2}, DType::i8, true)
                 : zeroed({panels, steps, kPanelWidth, 4}, DType::u8, true);
  w.scales = zeroed(groups, scale_dtype, false);
  if (!format.symmetric) w.zero_points = zeroed(groups, DType::u8, false);
  w.group_size = format.group_size;
  w.weight_only = format.weight_only;
  return w;
}

Weight quantize(std::string_view what, const Weight& weight, const QuantizationFormat& format,
                std::span<const float> importance, std::stop_token stop) {
  check(format);
  weight.check(what);
  if (weight.quantized())
    fail<UnsupportedError>(what, "the matrix is ", name_of(weight.format()), " already");
  if (!importance.empty() && static_cast<std::int64_t>(importance.size()) != weight.in)
    fail<ShapeError>(what, "importance has ", importance.size(), " elements, expected K = ", weight.in);
  for (std::size_t k = 0; k < importance.size(); ++k)
    if (!(importance[k] >= 0.0f && importance[k] <= std::numeric_limits<float>::max()))
      fail<ArgumentError>(what, "importance[", k, "] is ", importance[k], ", expected a number of 0 or more");
  return with_memory_errors(
      what, [&] { return Quantizer(what, weight, format, importance, std::move(stop)).run(); });
}

}  // namespace gpt::ops
