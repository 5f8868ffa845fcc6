// Blocks of quantized matrices widened to float32, w = scale (q - zero), for the weight-only product and the embedding. Integer
// products are in linear_integer.inl.

namespace gpt::kernels {
namespace {

/// w of inputs k0 .. k0 + count, as [count][16]; k0 begins a step.
template <class Q>
void dequantize_block(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                      float* to) noexcept {
  const std::int64_t group_size = a.group_size == 0 ? padded_inputs(a.k) : a.group_size;
  for (std::int64_t k = k0; k < k0 + count;) {
    const std::int64_t place = group_place(a, panel, k / group_size);
    const F32x16 scale = load_weights(a.scales, place, kLanes);
    const I32x16 zero = Q::zero(a, place);
    std::int64_t end = (k / group_size + 1) * group_size;
    if (end > k0 + count) end = k0 + count;
    for (; k < end; k += kStep) {
      float* out = to + (k - k0) * kLanes;
      const std::int64_t left = end - k;
      Q::inputs(Q::at(a, panel, k), [&](int i, const I32x16& q) noexcept {
        if (i < left) store(out + i * kLanes, scale * to_float(q - zero));
      });
    }
  }
}

void dequantize_block(const Matrix& a, std::int64_t panel, std::int64_t k0, std::int64_t count,
                      float* to) noexcept {
  if (a.format == ops::WeightFormat::int8)
    return dequantize_block<Quanta<ops::WeightFormat::int8>>(a, panel, k0, count, to);
  dequantize_block<Quanta<ops::WeightFormat::int4>>(a, panel, k0, count, to);
}

}  // namespace
}  // namespace gpt::kernels
