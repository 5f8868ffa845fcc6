// F32x16 in plain C++: the definition that the other instruction sets must equal bit for bit.
#pragma once

#include <cstdint>

namespace gpt::kernels {
namespace {

inline constexpr int kLanes = 16;
inline constexpr int kMicroRows = 4;  // rows of a register tile of the matrix product
inline constexpr bool kManyRegisters = false;
inline constexpr int kStreamSums = kMicroRows, kIntegerSums = kMicroRows;
inline constexpr int kWidePanels = 1, kWideRows = kMicroRows;  // the registers hold sums of one panel

struct F32x16 {
  float lane[kLanes];
};

template <class F>
inline F32x16 map(F f) noexcept {
  F32x16 r;
  for (int i = 0; i < kLanes; ++i) r.lane[i] = f(i);
  return r;
}

inline float float_of_bits(std::uint32_t bits) noexcept { return __builtin_bit_cast(float, bits); }
inline std::uint32_t bits_of_float(float x) noexcept { return __builtin_bit_cast(std::uint32_t, x); }

inline F32x16 broadcast(float x) noexcept {
  return map([=](int) { return x; });
}
inline F32x16 load(const float* p) noexcept {
  return map([=](int i) { return p[i]; });
}
inline void store(float* p, const F32x16& v) noexcept {
  for (int i = 0; i < kLanes; ++i) p[i] = v.lane[i];
}
inline F32x16 load_bf16(const std::uint16_t* p) noexcept {
  return map([=](int i) { return float_of_bits(static_cast<std::uint32_t>(p[i]) << 16); });
}
inline F32x16 load_f16(const std::uint16_t* p) noexcept {
  return map([=](int i) {
    const std::uint32_t sign = (p[i] & 0x8000u) << 16;
    const std::uint32_t exponent = (p[i] >> 10) & 0x1fu;
    const std::uint32_t fraction = p[i] & 0x3ffu;
    const std::uint32_t quiet = fraction != 0 ? 0x400000u : 0u;
    const std::uint32_t magnitude = exponent == 31  ? 0x7f800000u | (fraction << 13) | quiet
                                    : exponent != 0 ? ((exponent + 112u) << 23) | (fraction << 13)
                                                    : bits_of_float(static_cast<float>(fraction) * 0x1p-24f);
    return float_of_bits(sign | magnitude);
  });
}
/// Sixteen signed bytes, widened.
inline F32x16 load_i8(const std::int8_t* p) noexcept {
  return map([=](int i) { return static_cast<float>(p[i]); });
}

/// The other way round, to the nearest, ties to even; a NaN stays one and is quiet afterwards.
inline void store_bf16(std::uint16_t* p, const F32x16& v) noexcept {
  for (int i = 0; i < kLanes; ++i) {
    const std::uint32_t u = bits_of_float(v.lane[i]);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    p[i] = static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
}
inline void store_f16(std::uint16_t* p, const F32x16& v) noexcept {
  for (int i = 0; i < kLanes; ++i) {
    const std::uint32_t u = bits_of_float(v.lane[i]);
    const std::uint32_t m = u & 0x7fffffffu;
    std::uint32_t half = (m - 0x38000000u + 0xfffu + ((m >> 13) & 1u)) >> 13;
    if (m > 0x7f800000u)
      half = 0x7e00u | ((m >> 13) & 0x3ffu);
    else if (m >= 0x477ff000u)  // rounds to 2^16 or more
      half = 0x7c00u;
    else if (m < 0x38800000u)  // subnormal: beside 0.5 a unit in the last place is 2^-24
      half = bits_of_float(float_of_bits(m) + 0.5f) - 0x3f000000u;
    p[i] = static_cast<std::uint16_t>(((u >> 16) & 0x8000u) | half);
  }
}
/// The lowest eight bits of every lane.
inline void store_low_bytes(std::int8_t* p, const F32x16& v) noexcept {
  for (int i = 0; i < kLanes; ++i)
    p[i] = static_cast<std::int8_t>(static_cast<std::uint8_t>(bits_of_float(v.lane[i])));
}

inline F32x16 operator+(const F32x16& a, const F32x16& b) noexcept {
  return map([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline F32x16 operator-(const F32x16& a, const F32x16& b) noexcept {
  return map([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline F32x16 operator*(const F32x16& a, const F32x16& b) noexcept {
  return map([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline F32x16 operator/(const F32x16& a, const F32x16& b) noexcept {
  return map([&](int i) { return a.lane[i] / b.lane[i]; });
}
inline F32x16 sqrt(const F32x16& a) noexcept {
  return map([&](int i) { return __builtin_sqrtf(a.lane[i]); });
}
/// a * b + c, rounded once
inline F32x16 fma(const F32x16& a, const F32x16& b, const F32x16& c) noexcept {
  return map([&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
}
/// The second operand when either is NaN or both are zero, as MINPS and MAXPS do.
inline F32x16 min(const F32x16& a, const F32x16& b) noexcept {
  return map([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline F32x16 max(const F32x16& a, const F32x16& b) noexcept {
  return map([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline F32x16 abs(const F32x16& a) noexcept {
  return map([&](int i) { return float_of_bits(bits_of_float(a.lane[i]) & 0x7fffffffu); });
}
/// |magnitude| with the sign of `sign`, for a magnitude >= 0
inline F32x16 with_sign_of(const F32x16& magnitude, const F32x16& sign) noexcept {
  return map([&](int i) {
    return float_of_bits(bits_of_float(magnitude.lane[i]) | (bits_of_float(sign.lane[i]) & 0x80000000u));
  });
}
/// a < b ? yes : no; no when either is NaN
inline F32x16 select_less(const F32x16& a, const F32x16& b, const F32x16& yes, const F32x16& no) noexcept {
  return map([&](int i) { return a.lane[i] < b.lane[i] ? yes.lane[i] : no.lane[i]; });
}
/// The first n lanes of a, the others of b; 0 <= n <= 16.
inline F32x16 first_lanes(const F32x16& a, int n, const F32x16& b) noexcept {
  return map([&](int i) { return i < n ? a.lane[i] : b.lane[i]; });
}
/// p * 2^n, where n is the integer in the low bits of `shifted`; the result must be a normal number.
inline F32x16 add_exponent(const F32x16& p, const F32x16& shifted) noexcept {
  return map([&](int i) {
    return float_of_bits(bits_of_float(p.lane[i]) + (bits_of_float(shifted.lane[i]) << 23));
  });
}

/// The sum of the lanes by one fixed tree: lane i + lane i+8, then +4, +2, +1.
inline float sum_lanes(const F32x16& v) noexcept {
  float t[8];
  for (int i = 0; i < 8; ++i) t[i] = v.lane[i] + v.lane[i + 8];
  for (int i = 0; i < 4; ++i) t[i] = t[i] + t[i + 4];
  for (int i = 0; i < 2; ++i) t[i] = t[i] + t[i + 2];
  return t[0] + t[1];
}
/// The maximum by the same tree.
inline float max_lanes(const F32x16& v) noexcept {
  const auto larger = [](float a, float b) { return a > b ? a : b; };
  float t[8];
  for (int i = 0; i < 8; ++i) t[i] = larger(v.lane[i], v.lane[i + 8]);
  for (int i = 0; i < 4; ++i) t[i] = larger(t[i], t[i + 4]);
  for (int i = 0; i < 2; ++i) t[i] = larger(t[i], t[i + 2]);
  return larger(t[0], t[1]);
}

/// 16 and 32 integers, for quantized weights.
struct I32x16 {
  std::int32_t lane[kLanes];
};
struct I16x32 {
  std::int16_t lane[2 * kLanes];
};

template <class F>
inline I32x16 map_i32(F f) noexcept {
  I32x16 r;
  for (int i = 0; i < kLanes; ++i) r.lane[i] = f(i);
  return r;
}
template <class F>
inline I16x32 map_i16(F f) noexcept {
  I16x32 r;
  for (int i = 0; i < 2 * kLanes; ++i) r.lane[i] = static_cast<std::int16_t>(f(i));
  return r;
}

inline I32x16 broadcast_i32(std::int32_t x) noexcept {
  return map_i32([=](int) { return x; });
}
inline I32x16 load_u8(const std::uint8_t* p) noexcept {
  return map_i32([=](int i) { return static_cast<std::int32_t>(p[i]); });
}
inline I32x16 operator-(const I32x16& a, const I32x16& b) noexcept {
  return map_i32([&](int i) { return a.lane[i] - b.lane[i]; });
}
/// Rounded to nearest, ties to even.
inline F32x16 to_float(const I32x16& a) noexcept {
  return map([&](int i) { return static_cast<float>(a.lane[i]); });
}
/// Rounded to nearest, ties to even; the result must fit.
template <class Integer>
inline void store_rounded(Integer* p, const F32x16& v) noexcept {
  // Adding it leaves the nearest integer in the low bits.
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<Integer>((v.lane[i] + 0x1.8p23f) - 0x1.8p23f);
}

inline I16x32 load_i16(const std::int16_t* p) noexcept {
  return map_i16([=](int i) { return p[i]; });
}
inline I16x32 widen_i8(const std::int8_t* p) noexcept {
  return map_i16([=](int i) { return p[i]; });
}
inline void store_i16(std::int16_t* p, const I16x32& a) noexcept {
  for (int i = 0; i < 2 * kLanes; ++i) p[i] = a.lane[i];
}
inline I32x16 load_i32(const void* p) noexcept {
  I32x16 r;
  __builtin_memcpy(r.lane, p, sizeof r.lane);
  return r;
}
/// Bits 4 n .. 4 n + 3 of every lane.
template <int n>
inline I32x16 nibble(const I32x16& a) noexcept {
  return map_i32([&](int i) { return a.lane[i] >> (4 * n) & 15; });
}
/// Lanes 0, 2, 4, ... and lanes 1, 3, 5, ...
inline I32x16 even_lanes(const I16x32& a) noexcept {
  return map_i32([&](int i) { return std::int32_t{a.lane[2 * i]}; });
}
inline I32x16 odd_lanes(const I16x32& a) noexcept {
  return map_i32([&](int i) { return std::int32_t{a.lane[2 * i + 1]}; });
}
/// Every value, which must fit, twice.
inline I16x32 pairs_of(const I32x16& a) noexcept {
  return map_i16([&](int i) { return a.lane[i / 2]; });
}
/// The two integers of 16 bits at p, 16 times.
inline I16x32 broadcast_pair(const void* p) noexcept {
  std::int16_t pair[2];
  __builtin_memcpy(pair, p, sizeof pair);
  return map_i16([&](int i) { return pair[i % 2]; });
}
/// sum[i] + a[2 i] b[2 i] + a[2 i + 1] b[2 i + 1]; it must not overflow.
inline I32x16 multiply_add(const I32x16& sum, const I16x32& a, const I16x32& b) noexcept {
  return map_i32([&](int i) {
    return sum.lane[i] + a.lane[2 * i] * b.lane[2 * i] + a.lane[2 * i + 1] * b.lane[2 * i + 1];
  });
}

/// 64 bytes, four to each of 16 outputs.
struct U8x64 {
  std::uint8_t byte[4 * kLanes];
};
struct I8x64 {
  std::int8_t byte[4 * kLanes];
};
inline U8x64 load_u8x64(const std::uint8_t* p) noexcept {
  U8x64 r;
  __builtin_memcpy(r.byte, p, sizeof r.byte);
  return r;
}
inline void store(std::uint8_t* p, const U8x64& a) noexcept { __builtin_memcpy(p, a.byte, sizeof a.byte); }
inline U8x64 low_nibbles(const U8x64& a) noexcept {
  U8x64 r;
  for (int i = 0; i < 4 * kLanes; ++i) r.byte[i] = a.byte[i] & 15;
  return r;
}
inline U8x64 high_nibbles(const U8x64& a) noexcept {
  U8x64 r;
  for (int i = 0; i < 4 * kLanes; ++i) r.byte[i] = static_cast<std::uint8_t>(a.byte[i] >> 4);
  return r;
}
/// The four integers of 8 bits at p, 16 times.
inline I8x64 broadcast_four(const void* p) noexcept {
  std::int8_t four[4];
  __builtin_memcpy(four, p, sizeof four);
  I8x64 r;
  for (int i = 0; i < 4 * kLanes; ++i) r.byte[i] = four[i % 4];
  return r;
}
/// Sums of products of fours of bytes on their way: in 16 bits two of each output, that of the first two bytes and the other's.
using FourSums = I16x32;
/// They begin at the products of two vectors: at their low 16 bits.
inline FourSums begin_fours(const I16x32& a, const I16x32& b) noexcept {
  return map_i16([&](int i) { return a.lane[i] * b.lane[i]; });
}
/// The low 16 bits of sum[i] + a[2 i] b[2 i] + a[2 i + 1] b[2 i + 1]; the two products must fit them.
inline FourSums multiply_add(const FourSums& sum, const U8x64& a, const I8x64& b) noexcept {
  return map_i16([&](int i) {
    return sum.lane[i] + a.byte[2 * i] * b.byte[2 * i] + a.byte[2 * i + 1] * b.byte[2 * i + 1];
  });
}
/// The whole sums: a[2 i] + a[2 i + 1]
inline I32x16 sum_fours(const FourSums& a) noexcept {
  return map_i32([&](int i) { return a.lane[2 * i] + a.lane[2 * i + 1]; });
}

/// Rows become columns.
inline void transpose(F32x16 (&r)[kLanes]) noexcept {
  for (int i = 0; i < kLanes; ++i)
    for (int j = 0; j < i; ++j) {
      const float t = r[i].lane[j];
      r[i].lane[j] = r[j].lane[i];
      r[j].lane[i] = t;
    }
}

}  // namespace
}  // namespace gpt::kernels
