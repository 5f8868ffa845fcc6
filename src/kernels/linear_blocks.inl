// How products of floats and of integers divide their work: blocks of rows and inputs, panels side by side, what is asked of memory
// ahead of its use.

namespace gpt::kernels {
namespace {

inline constexpr std::int64_t kBlockK = 256;     // a block of a panel is 16 KiB: half of a small L1 cache
inline constexpr std::int64_t kPrefetch = 2048;  // bytes ahead of a stream from memory

/// `rows` stretches of bytes, `stride` bytes from one to the next.
struct Place {
  const char* data = nullptr;
  std::int64_t stride = 0, rows = 0, bytes = 0;
};

/// Lines of memory that will be needed, asked for a few at a time: all at once would hold up whoever asks.
struct Asking {
  static constexpr std::int64_t kManyInputs = 64, kFewInputs = 8;  // of many rows, and of few

  Place of;
  std::int64_t inputs = kManyInputs;          // between two questions
  std::int64_t lines = 0, row = 0, line = 0;  // lines of a row; the next one
  std::int64_t at_once = 0;

  Asking() = default;
  /// While `tiles` tiles of `count` inputs are computed, at every `every` inputs.
  Asking(const Place& place, std::int64_t tiles, std::int64_t count, std::int64_t every) noexcept
      : of(place), inputs(every), lines((place.bytes + kLine - 1) / kLine) {
    const std::int64_t times = tiles * (count <= every ? 1 : (count + every - 1) / every);
    at_once = (place.rows * lines + times - 1) / times;
  }

  void next() noexcept {
    for (std::int64_t i = 0; i < at_once && row < of.rows; ++i) {
      prefetch_far(of.data + row * of.stride + line * kLine);
      if (++line == lines) {
        line = 0;
        ++row;
      }
    }
  }

 private:
  static constexpr std::int64_t kLine = 64;
};

/// Panels side by side, of `rows` rows each, where registers hold `sums` sums beside the weights.
constexpr int streamed_panels(int sums, int rows) noexcept { return sums / rows > 4 ? 4 : sums / rows; }

/// Calls f(a, first row, rows, first panel, last panel) for the blocks of rows that a range of tasks touches.
template <class F>
inline void for_each_block(const LinearArgs& a, std::int64_t begin, std::int64_t end, F f) noexcept {
  const std::int64_t groups = a.panel_groups(), panels = a.panels();
  while (begin < end) {
    const std::int64_t block = begin / groups;
    const std::int64_t stop = (block + 1) * groups < end ? (block + 1) * groups : end;
    const std::int64_t m0 = a.block_begin(block), last = (stop - block * groups) * a.task_panels;
    f(a, m0, a.block_begin(block + 1) - m0, (begin - block * groups) * a.task_panels,
      last < panels ? last : panels);
    begin = stop;
  }
}

}  // namespace
}  // namespace gpt::kernels
