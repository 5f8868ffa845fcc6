// Token plus position embedding of rows. A row of a table is what its matrix gives one output.

namespace gpt::kernels {
namespace {

/// Elements i .. i + lanes of one output of a plain or packed matrix.
template <DType dtype>
inline F32x16 table_elements(const Matrix& a, std::int64_t output, std::int64_t i, int lanes) noexcept {
  const auto* w = static_cast<const typename Loader<dtype>::Element*>(a.weight);
  if (a.layout != ops::WeightLayout::kPanels) return load_weights<dtype>(w + output * a.k + i, lanes);
  typename Loader<dtype>::Element gathered[kLanes] = {};
  w += (output / kLanes * a.k + i) * kLanes + output % kLanes;
  for (int j = 0; j < lanes; ++j) gathered[j] = w[j * kLanes];
  return Loader<dtype>::load(gathered);
}

template <class Q>
inline F32x16 quantized_elements(const Matrix& a, std::int64_t output, std::int64_t i, int lanes) noexcept {
  const std::int64_t panel = output / kLanes, lane = output % kLanes;
  alignas(64) float values[kLanes] = {};
  alignas(64) float block[kStep * kLanes];
  for (int j = 0; j < lanes; j += kStep) {
    const int depth = lanes - j < kStep ? lanes - j : static_cast<int>(kStep);
    dequantize_block<Q>(a, panel, i + j, depth, block);
    for (int t = 0; t < depth; ++t) values[j + t] = block[t * kLanes + lane];
  }
  return load(values);
}

inline F32x16 table_elements(const Matrix& a, std::int64_t output, std::int64_t i, int lanes) noexcept {
  switch (a.format) {
    case ops::WeightFormat::f32: return table_elements<DType::f32>(a, output, i, lanes);
    case ops::WeightFormat::f16: return table_elements<DType::f16>(a, output, i, lanes);
    case ops::WeightFormat::bf16: return table_elements<DType::bf16>(a, output, i, lanes);
    case ops::WeightFormat::int8:
      return quantized_elements<Quanta<ops::WeightFormat::int8>>(a, output, i, lanes);
    case ops::WeightFormat::int4:
      return quantized_elements<Quanta<ops::WeightFormat::int4>>(a, output, i, lanes);
  }
  return broadcast(0.0f);
}

void embedding_rows(const EmbeddingArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t columns = a.wte.k;
  for (std::int64_t row = begin; row < end; ++row)
    for (std::int64_t i = 0; i < columns; i += kLanes) {
      const int lanes = lanes_left(i, columns);
      store_first(
          a.y + row * columns + i,
          table_elements(a.wte, a.ids[row], i, lanes) + table_elements(a.wpe, a.positions[row], i, lanes),
          lanes);
    }
}

}  // namespace
}  // namespace gpt::kernels
