// Token plus position embedding of rows.

namespace gpt::kernels {
namespace {

void embedding_rows(const EmbeddingArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t token = a.ids[row] * a.columns;
    const std::int64_t position = a.positions[row] * a.columns;
    for (std::int64_t i = 0; i < a.columns; i += kLanes) {
      const int lanes = lanes_left(i, a.columns);
      store_first(a.y + row * a.columns + i,
                  load_weights(a.wte, token + i, lanes) + load_weights(a.wpe, position + i, lanes), lanes);
    }
  }
}

}  // namespace
}  // namespace gpt::kernels
