// What all loops of the matrix product do with their sums.

namespace gpt::kernels {
namespace {

/// What 16 columns from n0 on have in common, where the sums become y = residual + f(sum + bias). `whole`: none is missing.
template <ops::Activation f, bool whole = false>
struct Finish {
  Finish(const LinearArgs& args, std::int64_t first, std::int64_t end) noexcept
      : a(args), n0(first), columns(whole ? kLanes : lanes_left(first, end)) {
    if (a.bias.data != nullptr) bias = load_weights(a.bias, n0, columns);
  }

  void row(std::int64_t m, const F32x16& sum) const noexcept {
    const std::int64_t at = m * a.n + n0;
    F32x16 y = activate<f>(a.bias.data != nullptr ? sum + bias : sum);
    const int count = whole ? kLanes : columns;
    if (a.residual != nullptr) y = load_first(a.residual + at, count) + y;
    store_first(a.y + at, y, count);
  }

  const LinearArgs& a;
  std::int64_t n0;
  int columns;
  F32x16 bias = broadcast(0.0f);
};

/// `rows` rows of a panel, whose sums lie `stride` numbers apart.
inline void finish_rows(const LinearArgs& a, const float* sums, std::int64_t m0, std::int64_t rows,
                        std::int64_t panel, std::int64_t stride = kLanes) noexcept {
  with_activation(a.activation, [&]<ops::Activation f>() noexcept {
    const Finish<f> finish(a, panel * kLanes, a.n);
    for (std::int64_t r = 0; r < rows; ++r) finish.row(m0 + r, load(sums + r * stride));
  });
}

/// Asks for the lines of y that finish_rows will write: a store to a line that is in no cache holds up all that follow it.
inline void expect_rows(const LinearArgs& a, std::int64_t m0, std::int64_t rows,
                        std::int64_t panel) noexcept {
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t at = (m0 + r) * a.n + panel * kLanes;
    prefetch_to_write(a.y + at);
    if (a.residual != nullptr) prefetch(a.residual + at);
  }
}

/// Where a tile of a product stands among the blocks of its inputs.
struct Stage {
  bool first, last;
};

}  // namespace
}  // namespace gpt::kernels
