// Float32 rounded to bfloat16, and as bfloat16 with the 16 bits that it lacks. Ranges are of elements.

namespace gpt::kernels {
namespace {

void round_range(const float* x, std::uint16_t* y, std::int64_t begin, std::int64_t end) noexcept {
  for (std::int64_t i = begin; i < end; i += kLanes) {
    const int lanes = lanes_left(i, end);
    std::uint16_t rounded[kLanes];
    std::uint16_t* const to = lanes == kLanes ? y + i : rounded;
    store_bf16(to, load_first(x + i, lanes));
    if (to == rounded) copy_elements(y + i, rounded, lanes);
  }
}

void widen_range(const std::uint16_t* x, float* y, std::int64_t begin, std::int64_t end) noexcept {
  for (std::int64_t i = begin; i < end; i += kLanes) {
    const int lanes = lanes_left(i, end);
    store_first(y + i, load_weights<DType::bf16>(x + i, lanes), lanes);
  }
}

/// Sixteen numbers of which each has the bits of a bfloat16 and so many more: see ops::split.
inline F32x16 join(const std::uint16_t* value, const std::int16_t* rest) noexcept {
  std::uint32_t bits[kLanes];
  for (int i = 0; i < kLanes; ++i)
    bits[i] =
        (static_cast<std::uint32_t>(value[i]) << 16) + static_cast<std::uint32_t>(std::int32_t{rest[i]});
  float joined[kLanes];
  __builtin_memcpy(joined, bits, sizeof bits);
  return load(joined);
}
inline void split(const F32x16& x, std::uint16_t* value, std::int16_t* rest) noexcept {
  float whole[kLanes];
  std::uint32_t bits[kLanes];
  store(whole, x);
  __builtin_memcpy(bits, whole, sizeof bits);
  store_bf16(value, x);
  for (int i = 0; i < kLanes; ++i) {
    const auto more = static_cast<std::int32_t>(bits[i] - (static_cast<std::uint32_t>(value[i]) << 16));
    rest[i] = static_cast<std::int16_t>(more < 0x7fff ? more : 0x7fff);
  }
}

inline F32x16 join_first(const std::uint16_t* value, const std::int16_t* rest, int n) noexcept {
  if (n >= kLanes) return join(value, rest);
  std::uint16_t values[kLanes] = {};
  std::int16_t rests[kLanes] = {};
  copy_elements(values, value, n);
  copy_elements(rests, rest, n);
  return join(values, rests);
}
inline void split_first(const F32x16& x, std::uint16_t* value, std::int16_t* rest, int n) noexcept {
  if (n >= kLanes) return split(x, value, rest);
  std::uint16_t values[kLanes];
  std::int16_t rests[kLanes];
  split(x, values, rests);
  copy_elements(value, values, n);
  copy_elements(rest, rests, n);
}

void split_range(const float* x, const SplitFloats& to, std::int64_t begin, std::int64_t end) noexcept {
  for (std::int64_t i = begin; i < end; i += kLanes) {
    const int lanes = lanes_left(i, end);
    split_first(load_first(x + i, lanes), to.value + i, to.rest + i, lanes);
  }
}

void join_range(const SplitFloats& from, float* y, std::int64_t begin, std::int64_t end) noexcept {
  for (std::int64_t i = begin; i < end; i += kLanes) {
    const int lanes = lanes_left(i, end);
    store_first(y + i, join_first(from.value + i, from.rest + i, lanes), lanes);
  }
}

}  // namespace
}  // namespace gpt::kernels
