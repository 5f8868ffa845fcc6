// A number as a template's argument: how many rows or keys a register tile has.

namespace gpt::kernels {
namespace {

/// Calls f.template operator()<n>() for this n of 1 .. most.
template <int most, class F>
inline void with_count(std::int64_t n, F&& f) noexcept {
  if constexpr (most > 1) {
    if (n < most) return with_count<most - 1>(n, f);
  }
  f.template operator()<most>();
}

}  // namespace
}  // namespace gpt::kernels
