// How products of floats and of integers divide their work: blocks of rows and inputs, panels side by side, what is asked of memory
// ahead of its use.

namespace gpt::kernels {
namespace {

inline constexpr std::int64_t kBlockK = 256;     // a block of a panel is 16 KiB: half of a small L1 cache
inline constexpr std::int64_t kPrefetch = 2048;  // bytes ahead of a stream from memory

/// What to ask memory for while a tile is computed: `bytes` of every input's share of the block that comes next.
struct Upcoming {
  const void* data = nullptr;
  std::int64_t bytes = 0;
};

/// The part of a next block of `bytes` bytes that tile t of `tiles` asks for, over `count` inputs. Only where a block is soon
/// done with: otherwise the processor's own prefetching is in time.
inline Upcoming part_of(const void* block, std::int64_t bytes, std::int64_t t, std::int64_t tiles,
                        std::int64_t count) noexcept {
  return {static_cast<const char*>(block) + bytes * t / tiles, count == 0 ? 0 : bytes / (tiles * count)};
}
constexpr std::int64_t kTilesToFetch = 4;

/// Panels side by side that leave registers for their weights, where there is room for `most` rows of one.
constexpr int streamed_panels(int most, int rows) noexcept { return most / rows > 4 ? 4 : most / rows; }

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
