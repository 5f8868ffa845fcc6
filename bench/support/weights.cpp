#include "bench/support/weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>

#include "bench/support/random.h"
#include "bench/support/runner.h"
#include "gpt/core/error.h"
#include "gpt/ops/isa.h"

namespace gpt::bench {
namespace {

constexpr float kDeviation = 0.02f;

template <class T>
T divide_up(T a, T b) {
  return (a + b - 1) / b;
}

Tensor random_floats(const Shape& shape, DType dtype, bool paged, std::uint64_t seed) {
  Tensor t = paged ? paged_tensor(shape, dtype) : Tensor::empty(shape, dtype);
  constexpr std::size_t kStretch = 1 << 16;
  std::vector<float> values(dtype == DType::f32 ? 0 : kStretch);
  const auto n = static_cast<std::size_t>(t.numel());
  for (std::size_t begin = 0; begin < n; begin += kStretch, ++seed) {
    const std::size_t count = std::min(kStretch, n - begin);
    if (dtype == DType::f32) {
      fill(t.span<float>().subspan(begin, count), kDeviation, 0.0f, seed);
      continue;
    }
    fill({values.data(), count}, kDeviation, 0.0f, seed);
    for (std::size_t i = 0; i < count; ++i)
      if (dtype == DType::f16)
        t.data<Float16>()[begin + i] = Float16(values[i]);
      else
        t.data<BFloat16>()[begin + i] = BFloat16(values[i]);
  }
  return t;
}

template <class T>
void fill_bits(Tensor& t, std::uint64_t seed, T mask) {
  std::uint64_t i = 0;
  for (T& v : t.span<T>()) v = static_cast<T>(hash(seed + i++) >> 40) & mask;
}

// What stands beyond `out` in the last panel is zero.
void clear_padding(Tensor& panels, std::int64_t out) {
  const std::int64_t lanes = out % ops::kPanelWidth, blocks = panels.numel() / panels.dim(0);
  if (lanes == 0) return;
  const std::size_t per_lane =
      size_of(panels.dtype()) * (panels.shape().rank() == 4 ? static_cast<std::size_t>(panels.dim(3)) : 1);
  const std::size_t row = per_lane * ops::kPanelWidth, kept = per_lane * static_cast<std::size_t>(lanes);
  std::byte* const end = panels.view().raw() + panels.nbytes();
  for (std::byte* p = end - static_cast<std::size_t>(blocks) * size_of(panels.dtype()); p < end; p += row)
    std::memset(p + kept, 0, row - kept);
}

void fill_quantized(ops::Weight& w, const ops::QuantizationFormat& f, std::uint64_t seed) {
  const std::int64_t panels = divide_up(w.out, ops::kPanelWidth),
                     steps = divide_up(w.in, ops::kQuantizedStep);
  const Shape scales{panels, ops::groups_of(w.in, f.group_size), ops::kPanelWidth};
  if (f.format == ops::WeightFormat::int8) {
    w.values = paged_tensor({panels, 4 * steps, ops::kPanelWidth, 2}, DType::i8);
    fill_bits<std::int8_t>(w.values, seed, 127);  // -128 is not a quantum
  } else {
    w.values = paged_tensor({panels, steps, ops::kPanelWidth, 4}, DType::u8);
    fill_bits<std::uint8_t>(w.values, seed, 0xff);
  }
  w.scales = Tensor::empty(scales, DType::f16);
  const float scale = kDeviation / (f.format == ops::WeightFormat::int8 ? 64.0f : 4.0f);
  std::fill_n(w.scales.data<Float16>(), w.scales.numel(), Float16(scale));
  clear_padding(w.values, w.out);
  clear_padding(w.scales, w.out);
  if (!f.symmetric) {
    w.zero_points = Tensor::empty(scales, DType::u8);
    std::fill_n(w.zero_points.data<std::uint8_t>(), w.zero_points.numel(), std::uint8_t{7});
    clear_padding(w.zero_points, w.out);
  }
  w.group_size = f.group_size;
  w.weight_only = f.weight_only;
}

ops::WeightLayout layout_of(Format::Layout layout, ops::WeightLayout file_layout) {
  switch (layout) {
    case Format::Layout::kPanels: return ops::WeightLayout::kPanels;
    case Format::Layout::kInOut: return ops::WeightLayout::kInOut;
    case Format::Layout::kOutIn: return ops::WeightLayout::kOutIn;
    case Format::Layout::kFile: return file_layout;
  }
  return file_layout;
}

}  // namespace

Format::Format(const std::string& text) {
  std::size_t end = text.find('-');
  const std::string base = text.substr(0, end);
  if (base == "int8" || base == "int4") {
    quantization.format = base == "int8" ? ops::WeightFormat::int8 : ops::WeightFormat::int4;
  } else {
    dtype = dtype_from_name(base);
    if (!dtype || !is_weight_dtype(*dtype)) fail<ArgumentError>(text, "unknown format of weights");
  }
  while (end != std::string::npos) {
    const std::size_t begin = end + 1;
    end = text.find('-', begin);
    const std::string part = text.substr(begin, end == std::string::npos ? end : end - begin);
    const char* const last = part.data() + part.size();
    if (dtype && (part == "inout" || part == "outin" || part == "file")) {
      layout = part == "inout" ? Layout::kInOut : part == "outin" ? Layout::kOutIn : Layout::kFile;
    } else if (!dtype && part == "asym" && quantization.format == ops::WeightFormat::int4) {
      quantization.symmetric = false;
    } else if (!dtype && part == "wo") {
      quantization.weight_only = true;
    } else if (dtype || !part.starts_with('g') ||
               std::from_chars(part.data() + 1, last, quantization.group_size).ptr != last) {
      fail<ArgumentError>(text, "unknown part ", part);
    }
  }
}

const std::vector<std::string>& formats() {
  static const std::vector<std::string> all = {"f32", "f16", "bf16", "int8", "int4"};
  return all;
}

void Format::count_products(Work& work, std::int64_t rows, double operations) const {
  if (dtype || quantization.weight_only) return;
  const std::string_view isa = ops::integer_instruction_set();
  constexpr std::int64_t kRowsInVectors = 12;  // at most: see kernels/linear_tiles.inl
  // Without VNNI, see kernels/int8_pairs.inl.
  const bool pairs = quantization.format == ops::WeightFormat::int8 && isa != "avx512_vnni" && isa != "amx";
  if (isa == "amx" && rows > kRowsInVectors)
    work.int8_tile_ops = operations;
  else
    (pairs ? work.int16_ops : work.int8_ops) = operations;
}

Tensor paged_tensor(const Shape& shape, DType dtype) {
  constexpr std::size_t kHugePage = std::size_t{2} << 20, kRegion = std::size_t{32} << 20, kAlignment = 64;
  static std::shared_ptr<std::byte> region;  // the tensors in it share it
  static std::size_t used = 0, size = 0;
  const std::size_t bytes = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
  const std::size_t rounded = divide_up(bytes, kAlignment) * kAlignment;
  if (region == nullptr || rounded > size - used) {
    size = std::max(rounded, kRegion);
    used = 0;
    const std::size_t mapped = size + kHugePage;
    void* const start = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) fail<MemoryError>("paged_tensor", "cannot allocate ", bytes, " bytes");
    void* aligned = start;
    std::size_t space = mapped;
    std::align(kHugePage, size, aligned, space);
#ifdef MADV_HUGEPAGE
    ::madvise(aligned, size, MADV_HUGEPAGE);
#endif
    region = {static_cast<std::byte*>(aligned), [start, mapped](std::byte*) { ::munmap(start, mapped); }};
  }
  std::byte* const at = region.get() + used;
  used += rounded;
  return Tensor::borrow(region, at, shape, dtype);
}

ops::Weight random_weight(const Format& format, std::int64_t in, std::int64_t out,
                          ops::WeightLayout file_layout, std::uint64_t seed) {
  ops::Weight w{
      .in = in, .out = out, .layout = layout_of(format.layout, file_layout), .file_layout = file_layout};
  if (!format.dtype) {
    fill_quantized(w, format.quantization, seed);
  } else if (w.layout == ops::WeightLayout::kPanels) {
    w.values =
        random_floats({divide_up(out, ops::kPanelWidth), in, ops::kPanelWidth}, *format.dtype, true, seed);
    clear_padding(w.values, out);
  } else {
    const bool in_out = w.layout == ops::WeightLayout::kInOut;
    w.values = random_floats(in_out ? Shape{in, out} : Shape{out, in}, *format.dtype, false, seed);
  }
  w.check("random_weight");
  return w;
}

ops::Weight clone(const ops::Weight& weight) {
  ops::Weight copy = weight;
  if (weight.layout == ops::WeightLayout::kPanels) {
    copy.values = paged_tensor(weight.values.shape(), weight.values.dtype());
    std::memcpy(copy.values.view().raw(), weight.values.view().raw(), weight.values.nbytes());
  } else {
    copy.values = weight.values.clone();
  }
  copy.scales = weight.scales.empty() ? Tensor() : weight.scales.clone();
  copy.zero_points = weight.zero_points.empty() ? Tensor() : weight.zero_points.clone();
  return copy;
}

}  // namespace gpt::bench
