// The elements of a matrix as float32 panels, whatever its file holds.

namespace gpt::kernels {
namespace {

void dequantize_block(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                      float* to) noexcept;

/// Where the elements of a panel come from, as float32 blocks [count][16].
struct PanelSource {
  const Matrix& a;

  /// A block as it lies, when it lies as [count][16] floats.
  const float* in_place(std::int64_t panel, std::int64_t k0) const noexcept {
    if (a.layout != ops::WeightLayout::kPanels || a.format != ops::WeightFormat::f32) return nullptr;
    return static_cast<const float*>(a.weight) + (panel * a.k + k0) * kLanes;
  }
  /// Where the elements of `panels` neighbouring blocks lie; none of a quantized matrix, whose elements are few bytes.
  Place place_of(std::int64_t panel, std::int64_t panels, std::int64_t k0,
                 std::int64_t count) const noexcept {
    if (a.format == ops::WeightFormat::int8 || a.format == ops::WeightFormat::int4) return {};
    const std::int64_t size = a.format == ops::WeightFormat::f32 ? 4 : 2;
    const auto* w = static_cast<const char*>(a.weight);
    const std::int64_t n0 = panel * kLanes, columns = a.n - n0 < panels * kLanes ? a.n - n0 : panels * kLanes;
    switch (a.layout) {
      case ops::WeightLayout::kInOut: return {w + (k0 * a.n + n0) * size, a.n * size, count, columns * size};
      case ops::WeightLayout::kOutIn: return {w + (n0 * a.k + k0) * size, a.k * size, columns, count * size};
      default:
        return {w + (panel * a.k + k0) * kLanes * size, a.k * kLanes * size, panels, count * kLanes * size};
    }
  }
  /// A block copied to `to`, widened; columns past the end are 0.
  void copy(std::int64_t panel, std::int64_t k0, std::int64_t count, float* to) const noexcept {
    switch (a.format) {
      case ops::WeightFormat::f32: return copy_typed<DType::f32>(panel, k0, count, to);
      case ops::WeightFormat::f16: return copy_typed<DType::f16>(panel, k0, count, to);
      case ops::WeightFormat::bf16: return copy_typed<DType::bf16>(panel, k0, count, to);
      default: return dequantize_block(a, panel, k0, count, to);
    }
  }

 private:
  static constexpr std::int64_t kRowsAhead =
      32;  // a row is far from the one before: no processor fetches it by itself

  template <DType dtype>
  void copy_typed(std::int64_t panel, std::int64_t k0, std::int64_t count, float* to) const noexcept {
    const auto* w = static_cast<const typename Loader<dtype>::Element*>(a.weight);
    const std::int64_t n0 = panel * kLanes;
    const int columns = lanes_left(n0, a.n);
    if (a.layout == ops::WeightLayout::kPanels) {
      w += (panel * a.k + k0) * kLanes;
      for (std::int64_t k = 0; k < count; ++k) store(to + k * kLanes, Loader<dtype>::load(w + k * kLanes));
    } else if (a.layout == ops::WeightLayout::kInOut) {
      for (std::int64_t k = 0; k < count; ++k) {
        prefetch(w + (k0 + k + kRowsAhead) * a.n + n0);
        store(to + k * kLanes, load_weights<dtype>(w + (k0 + k) * a.n + n0, columns));
      }
    } else {
      for (std::int64_t k = 0; k < count; k += kLanes) {
        const int depth = lanes_left(k, count);
        F32x16 tile[kLanes];
        for (int j = 0; j < kLanes; ++j)
          tile[j] = j < columns ? load_weights<dtype>(w + (n0 + j) * a.k + k0 + k, depth) : broadcast(0.0f);
        transpose(tile);
        for (int i = 0; i < depth; ++i) store(to + (k + i) * kLanes, tile[i]);
      }
    }
  }
};

/// Panels begin .. end as float32 [K, 16] each.
void widen_panels(const Matrix& a, float* panels, std::int64_t begin, std::int64_t end) noexcept {
  const PanelSource source{a};
  for (std::int64_t p = begin; p < end; ++p) source.copy(p, 0, a.k, panels + p * a.k * kLanes);
}

}  // namespace
}  // namespace gpt::kernels
