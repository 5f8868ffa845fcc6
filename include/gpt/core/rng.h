// Counter-based random numbers: a pure function of (seed, stream, index), so that neither threads nor
// batching nor a resumed run can change them.
#pragma once

#include <array>
#include <cstdint>

namespace gpt {

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3).
constexpr std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                  std::array<std::uint32_t, 2> key) noexcept {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

/// The random numbers of one stream of one seed, addressed by index.
class CounterRng {
 public:
  constexpr explicit CounterRng(std::uint64_t seed, std::uint64_t stream = 0) noexcept
      : seed_(seed), stream_(stream) {}

  /// 64 uniform bits.
  constexpr std::uint64_t bits(std::uint64_t index) const noexcept {
    const auto r = block(index);
    return r[0] | (static_cast<std::uint64_t>(r[1]) << 32);
  }
  /// Uniform in [0, 1), a multiple of 2^-53.
  constexpr double uniform(std::uint64_t index) const noexcept { return to_unit(bits(index)); }
  /// A second number of the same kind, independent of uniform(index).
  constexpr double second_uniform(std::uint64_t index) const noexcept {
    const auto r = block(index);
    return to_unit(r[2] | (static_cast<std::uint64_t>(r[3]) << 32));
  }
  /// Standard normal, by the Box-Muller transform on these two uniforms.
  double normal(std::uint64_t index) const noexcept;

 private:
  constexpr std::array<std::uint32_t, 4> block(std::uint64_t index) const noexcept {
    return philox4x32({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                       static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)},
                      {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
  }
  static constexpr double to_unit(std::uint64_t bits) noexcept {
    return static_cast<double>(bits >> 11) * 0x1p-53;
  }

  std::uint64_t seed_;
  std::uint64_t stream_;
};

}  // namespace gpt
