#include "gpt/ops/weight.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/memory.h"
#include "gpt/core/parallel.h"
#include "gpt/ops/quantize.h"
#include "ops/checks.h"
#include "ops/pack.h"
#include "ops/quantized_weight.h"

namespace gpt::ops {
namespace {

std::int64_t panels_of(std::int64_t out) { return (out + kPanelWidth - 1) / kPanelWidth; }
std::int64_t steps_of(std::int64_t in) { return (in + kQuantizedStep - 1) / kQuantizedStep; }

Shape plain_shape(const Weight& w, WeightLayout layout) {
  return layout == WeightLayout::kOutIn ? Shape{w.out, w.in} : Shape{w.in, w.out};
}

Shape panel_shape(const Weight& w) {
  const std::int64_t p = panels_of(w.out), s = steps_of(w.in);
  switch (w.format()) {
    case WeightFormat::int8: return {p, 4 * s, kPanelWidth, 2};
    case WeightFormat::int4: return {p, s, kPanelWidth, 4};
    default: return {p, w.in, kPanelWidth};
  }
}

/// Calls f(k, n, index of the element in a plain layout) for all elements of a panel.
template <class F>
void for_each_in_panel(const Weight& w, WeightLayout plain, std::int64_t panel, F f) {
  const std::int64_t first = panel * kPanelWidth, last = std::min(first + kPanelWidth, w.out);
  for (std::int64_t k = 0; k < w.in; ++k)
    for (std::int64_t n = first; n < last; ++n)
      f(k, n, plain == WeightLayout::kInOut ? k * w.out + n : n * w.in + k);
}

/// Copies elements of one size between a plain layout and panels.
template <class Element, bool to_panels>
void copy_panels(const Weight& w, WeightLayout plain, Element* elements, Element* panels) {
  const auto copy = [](Element& element, Element& in_panel) {
    if constexpr (to_panels)
      in_panel = element;
    else
      element = in_panel;
  };
  const auto copy_panel = [&](std::int64_t p) noexcept {
    const std::int64_t n0 = p * kPanelWidth, columns = std::min(kPanelWidth, w.out - n0);
    Element* panel = panels + n0 * w.in;
    if constexpr (to_panels)
      if (columns < kPanelWidth) std::fill_n(panel, w.in * kPanelWidth, Element{});
    if (plain == WeightLayout::kInOut) {
      for (std::int64_t k = 0; k < w.in; ++k)
        for (std::int64_t j = 0; j < columns; ++j)
          copy(elements[k * w.out + n0 + j], panel[k * kPanelWidth + j]);
      return;
    }
    constexpr std::int64_t kTile = 16;  // inputs at a time: a square that fits the first-level cache
    for (std::int64_t k0 = 0; k0 < w.in; k0 += kTile)
      for (std::int64_t j = 0; j < columns; ++j)
        for (std::int64_t k = k0; k < std::min(k0 + kTile, w.in); ++k)
          copy(elements[(n0 + j) * w.in + k], panel[k * kPanelWidth + j]);
  };
  parallel_for(panels_of(w.out), grain_for(4 * kPanelWidth * w.in),
               [&](std::int64_t begin, std::int64_t end) noexcept {
                 for (std::int64_t p = begin; p < end; ++p) copy_panel(p);
               });
}

template <bool to_panels>
void copy_panels(const Weight& w, WeightLayout plain, void* elements, void* panels) {
  if (size_of(w.values.dtype()) == 4)
    copy_panels<std::uint32_t, to_panels>(w, plain, static_cast<std::uint32_t*>(elements),
                                          static_cast<std::uint32_t*>(panels));
  else
    copy_panels<std::uint16_t, to_panels>(w, plain, static_cast<std::uint16_t*>(elements),
                                          static_cast<std::uint16_t*>(panels));
}

float value_of(const Tensor& t, std::int64_t i) {
  return t.dtype() == DType::f32 ? t.data<float>()[i] : static_cast<float>(t.data<Float16>()[i]);
}

}  // namespace

std::string_view name_of(WeightFormat format) noexcept {
  switch (format) {
    case WeightFormat::f32: return "float32";
    case WeightFormat::f16: return "float16";
    case WeightFormat::bf16: return "bfloat16";
    case WeightFormat::int8: return "int8";
    case WeightFormat::int4: return "int4";
  }
  return "invalid";
}

WeightFormat Weight::format() const noexcept {
  switch (values.dtype()) {
    case DType::f16: return WeightFormat::f16;
    case DType::bf16: return WeightFormat::bf16;
    case DType::i8: return WeightFormat::int8;
    case DType::u8: return WeightFormat::int4;
    default: return WeightFormat::f32;
  }
}

QuantizationFormat Weight::quantization() const noexcept {
  return {format(), group_size, zero_points.empty(), weight_only};
}

Shape Weight::file_shape() const { return plain_shape(*this, file_layout); }

std::size_t Weight::nbytes() const noexcept {
  return values.nbytes() + scales.nbytes() + zero_points.nbytes();
}

void Weight::check(std::string_view what) const {
  if (!is_weight_dtype(values.dtype()) && values.dtype() != DType::i8 && values.dtype() != DType::u8)
    fail<ShapeError>(what, "weight is ", gpt::name_of(values.dtype()),
                     ", expected float32, float16, bfloat16, or panels of int8 or int4");
  const Shape expected = layout == WeightLayout::kPanels ? panel_shape(*this) : plain_shape(*this, layout);
  if (values.shape() != expected)
    fail<ShapeError>(what, "weight has shape ", values.shape().to_string(), ", expected ",
                     expected.to_string());
  if (!quantized()) return;
  ops::check(quantization());
  if (layout != WeightLayout::kPanels) fail<ShapeError>(what, "a quantized weight must be in panels");
  const Shape groups{panels_of(out), groups_of(in, group_size), kPanelWidth};
  if (scales.shape() != groups || (scales.dtype() != DType::f32 && scales.dtype() != DType::f16))
    fail<ShapeError>(what, "the scales are ", gpt::name_of(scales.dtype()), " ", scales.shape().to_string(),
                     ", expected float32 or float16 ", groups.to_string());
  if (!zero_points.empty() && (zero_points.shape() != groups || zero_points.dtype() != DType::u8))
    fail<ShapeError>(what, "the zero points are ", gpt::name_of(zero_points.dtype()), " ",
                     zero_points.shape().to_string(), ", expected uint8 ", groups.to_string());
}

namespace {

void require_plain(std::string_view op, WeightLayout layout) {
  if (layout != WeightLayout::kInOut && layout != WeightLayout::kOutIn)
    fail<ArgumentError>(op, "layout is panels, expected [in, out] or [out, in]");
}

}  // namespace

namespace {

std::size_t panel_bytes(const Weight& w) {
  return static_cast<std::size_t>(panel_shape(w).numel()) * size_of(w.values.dtype());
}

/// A matrix in a file's layout, in panels in this memory.
Weight packed_into(const Weight& weight, const std::shared_ptr<std::byte>& memory) {
  Weight packed = weight;
  packed.layout = WeightLayout::kPanels;
  packed.values = Tensor::borrow(memory, memory.get(), panel_shape(weight), weight.values.dtype());
  copy_panels<true>(weight, weight.layout, const_cast<std::byte*>(weight.values.view().raw()), memory.get());
  return packed;
}

}  // namespace

Weight pack(const Weight& weight) {
  weight.check("pack");
  if (weight.layout == WeightLayout::kPanels) return weight;
  return packed_into(weight, allocate_bytes(panel_bytes(weight), "pack"));
}

Weight pack(const Weight& weight, PagePool& pool) {
  weight.check("pack");
  if (weight.layout != WeightLayout::kPanels)
    return packed_into(weight, pool.take(panel_bytes(weight), "pack"));
  const auto moved = [&pool](const Tensor& tensor) {
    if (tensor.empty()) return tensor;
    auto memory = pool.take(tensor.nbytes(), "pack");
    std::memcpy(memory.get(), tensor.view().raw(), tensor.nbytes());
    return Tensor::borrow(memory, memory.get(), tensor.shape(), tensor.dtype());
  };
  Weight copy = weight;
  copy.values = moved(weight.values);
  copy.scales = moved(weight.scales);
  copy.zero_points = moved(weight.zero_points);
  return copy;
}

Tensor unpack(const Weight& weight, WeightLayout layout) {
  weight.check("unpack");
  require_plain("unpack", layout);
  if (weight.quantized()) fail<UnsupportedError>("unpack", "the weight is quantized: use dequantize");
  if (weight.layout == layout) return weight.values;
  Weight panels = pack(weight);
  Tensor plain = Tensor::empty(plain_shape(weight, layout), weight.values.dtype());
  copy_panels<false>(panels, layout, plain.view().raw(), panels.values.view().raw());
  return plain;
}

Tensor dequantize(const Weight& weight, WeightLayout layout) {
  if (!weight.quantized()) return unpack(weight, layout).to(DType::f32);
  weight.check("dequantize");
  require_plain("dequantize", layout);
  Tensor out = Tensor::empty(plain_shape(weight, layout));
  float* y = out.data<float>();
  const ConstQuantizedElements elements(weight);
  const int symmetric_zero = weight.format() == WeightFormat::int4 ? 8 : 0;
  const std::uint8_t* const zero_points =
      weight.zero_points.empty() ? nullptr : weight.zero_points.data<std::uint8_t>();
  parallel_for(panels_of(weight.out), grain_for(4 * kPanelWidth * weight.in),
               [&](std::int64_t begin, std::int64_t end) noexcept {
                 for (std::int64_t p = begin; p < end; ++p)
                   for_each_in_panel(weight, layout, p, [&](std::int64_t k, std::int64_t n, std::int64_t at) {
                     const std::int64_t place =
                         elements.group(weight.group_size == 0 ? 0 : k / weight.group_size, n);
                     const int zero = zero_points == nullptr ? symmetric_zero : zero_points[place];
                     y[at] = value_of(weight.scales, place) * static_cast<float>(elements.get(k, n) - zero);
                   });
               });
  return out;
}

}  // namespace gpt::ops
