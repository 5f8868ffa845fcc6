// F32x16 as two AVX registers (AVX2, FMA, F16C). Each function is the one of the same name in vec_scalar.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace gpt::kernels {
namespace {

inline constexpr int kLanes = 16;
inline constexpr int kMicroRows = 6;  // 12 accumulators, 2 weights, 1 broadcast: 15 of 16 registers
inline constexpr bool kManyRegisters = false;
inline constexpr int kStreamSums = kMicroRows, kIntegerSums = kMicroRows;
inline constexpr int kWidePanels = 1, kWideRows = kMicroRows;  // the registers hold sums of one panel

struct F32x16 {
  __m256 lo, hi;
};

inline F32x16 broadcast(float x) noexcept { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F32x16 load(const float* p) noexcept { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, const F32x16& v) noexcept {
  _mm256_storeu_ps(p, v.lo);
  _mm256_storeu_ps(p + 8, v.hi);
}
inline __m128i load_half_words(const std::uint16_t* p) noexcept {
  return _mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(p)));
}
inline __m256 widen_bf16(__m128i bits) noexcept {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline F32x16 load_bf16(const std::uint16_t* p) noexcept {
  return {widen_bf16(load_half_words(p)), widen_bf16(load_half_words(p + 8))};
}
inline F32x16 load_f16(const std::uint16_t* p) noexcept {
  return {_mm256_cvtph_ps(load_half_words(p)), _mm256_cvtph_ps(load_half_words(p + 8))};
}
inline __m256 load_i8_half(const std::int8_t* p) noexcept {
  const __m128i bytes = _mm_loadl_epi64(static_cast<const __m128i*>(static_cast<const void*>(p)));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}
inline F32x16 load_i8(const std::int8_t* p) noexcept { return {load_i8_half(p), load_i8_half(p + 8)}; }

/// The lower halves of the words of lo, then those of hi; the upper halves must be zero.
inline __m256i low_halves(__m256i lo, __m256i hi) noexcept {
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, hi), 0xd8);
}
inline __m256i round_bf16(__m256 v) noexcept {
  const __m256i u = _mm256_castps_si256(v);
  const __m256i upper = _mm256_srli_epi32(u, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(_mm256_srli_epi32(sum, 16), quiet, nan);
}
inline void store_bf16(std::uint16_t* p, const F32x16& v) noexcept {
  _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(p)),
                      low_halves(round_bf16(v.lo), round_bf16(v.hi)));
}
inline void store_f16(std::uint16_t* p, const F32x16& v) noexcept {
  constexpr int kNearestEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm_storeu_si128(static_cast<__m128i*>(static_cast<void*>(p)), _mm256_cvtps_ph(v.lo, kNearestEven));
  _mm_storeu_si128(static_cast<__m128i*>(static_cast<void*>(p + 8)), _mm256_cvtps_ph(v.hi, kNearestEven));
}
inline void store_low_bytes(std::int8_t* p, const F32x16& v) noexcept {
  const __m256i byte = _mm256_set1_epi32(0xff);
  const __m256i words = low_halves(_mm256_and_si256(_mm256_castps_si256(v.lo), byte),
                                   _mm256_and_si256(_mm256_castps_si256(v.hi), byte));
  _mm_storeu_si128(static_cast<__m128i*>(static_cast<void*>(p)),
                   _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

inline F32x16 operator+(const F32x16& a, const F32x16& b) noexcept {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
inline F32x16 operator-(const F32x16& a, const F32x16& b) noexcept {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
inline F32x16 operator*(const F32x16& a, const F32x16& b) noexcept {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
inline F32x16 operator/(const F32x16& a, const F32x16& b) noexcept {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
inline F32x16 sqrt(const F32x16& a) noexcept { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
inline F32x16 fma(const F32x16& a, const F32x16& b, const F32x16& c) noexcept {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline F32x16 min(const F32x16& a, const F32x16& b) noexcept {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
inline F32x16 max(const F32x16& a, const F32x16& b) noexcept {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
inline F32x16 abs(const F32x16& a) noexcept {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
inline F32x16 with_sign_of(const F32x16& magnitude, const F32x16& sign) noexcept {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(magnitude.lo, _mm256_and_ps(bit, sign.lo)),
          _mm256_or_ps(magnitude.hi, _mm256_and_ps(bit, sign.hi))};
}
inline F32x16 select_less(const F32x16& a, const F32x16& b, const F32x16& yes, const F32x16& no) noexcept {
  return {_mm256_blendv_ps(no.lo, yes.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(no.hi, yes.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
inline F32x16 first_lanes(const F32x16& a, int n, const F32x16& b) noexcept {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i lo = _mm256_cmpgt_epi32(_mm256_set1_epi32(n), index);
  const __m256i hi = _mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), index);
  return {_mm256_blendv_ps(b.lo, a.lo, _mm256_castsi256_ps(lo)),
          _mm256_blendv_ps(b.hi, a.hi, _mm256_castsi256_ps(hi))};
}
inline __m256 add_exponent(__m256 p, __m256 shifted) noexcept {
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(shifted), 23)));
}
inline F32x16 add_exponent(const F32x16& p, const F32x16& shifted) noexcept {
  return {add_exponent(p.lo, shifted.lo), add_exponent(p.hi, shifted.hi)};
}

inline float sum_lanes(const F32x16& v) noexcept {
  const __m256 s8 = _mm256_add_ps(v.lo, v.hi);
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
inline float max_lanes(const F32x16& v) noexcept {
  const __m256 s8 = _mm256_max_ps(v.lo, v.hi);
  const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}

struct I32x16 {
  __m256i lo, hi;
};
struct I16x32 {
  __m256i lo, hi;
};

inline __m256i load_bytes(const void* p) noexcept {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

inline I32x16 broadcast_i32(std::int32_t x) noexcept { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline I32x16 load_u8(const std::uint8_t* p) noexcept {
  const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(p)));
  return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes))};
}
inline I32x16 operator-(const I32x16& a, const I32x16& b) noexcept {
  return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)};
}
inline F32x16 to_float(const I32x16& a) noexcept {
  return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}
inline __m256i round_to_i16(const F32x16& v) noexcept {
  const __m256 to_integer =
      _mm256_set1_ps(0x1.8p23f);  // as in vec_scalar.h: the nearest integer in the low bits
  const __m256i lo = _mm256_cvttps_epi32(_mm256_sub_ps(_mm256_add_ps(v.lo, to_integer), to_integer));
  const __m256i hi = _mm256_cvttps_epi32(_mm256_sub_ps(_mm256_add_ps(v.hi, to_integer), to_integer));
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);
}
inline void store_rounded(std::int16_t* p, const F32x16& v) noexcept {
  _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(p)), round_to_i16(v));
}
inline void store_rounded(std::int8_t* p, const F32x16& v) noexcept {
  const __m256i words = round_to_i16(v);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(static_cast<__m128i*>(static_cast<void*>(p)), bytes);
}

inline I16x32 load_i16(const std::int16_t* p) noexcept { return {load_bytes(p), load_bytes(p + 16)}; }
inline I16x32 widen_i8(const std::int8_t* p) noexcept {
  const auto* bytes = static_cast<const __m128i*>(static_cast<const void*>(p));
  return {_mm256_cvtepi8_epi16(_mm_loadu_si128(bytes)), _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes + 1))};
}
inline void store_i16(std::int16_t* p, const I16x32& a) noexcept {
  _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(p)), a.lo);
  _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(p + 16)), a.hi);
}
inline I32x16 load_i32(const void* p) noexcept {
  return {load_bytes(p), load_bytes(static_cast<const std::int32_t*>(p) + 8)};
}
template <int n>
inline I32x16 nibble(const I32x16& a) noexcept {
  const __m256i mask = _mm256_set1_epi32(15);
  return {_mm256_and_si256(_mm256_srli_epi32(a.lo, 4 * n), mask),
          _mm256_and_si256(_mm256_srli_epi32(a.hi, 4 * n), mask)};
}
inline I32x16 even_lanes(const I16x32& a) noexcept {
  return {_mm256_srai_epi32(_mm256_slli_epi32(a.lo, 16), 16),
          _mm256_srai_epi32(_mm256_slli_epi32(a.hi, 16), 16)};
}
inline I32x16 odd_lanes(const I16x32& a) noexcept {
  return {_mm256_srai_epi32(a.lo, 16), _mm256_srai_epi32(a.hi, 16)};
}
inline I16x32 pairs_of(const I32x16& a) noexcept {
  const __m256i low = _mm256_set1_epi32(0xffff);
  const auto twice = [=](__m256i v) noexcept {
    return _mm256_or_si256(_mm256_and_si256(v, low), _mm256_slli_epi32(v, 16));
  };
  return {twice(a.lo), twice(a.hi)};
}
inline I16x32 broadcast_pair(const void* p) noexcept {
  std::int32_t both;
  __builtin_memcpy(&both, p, sizeof both);
  return {_mm256_set1_epi32(both), _mm256_set1_epi32(both)};
}
/// In assembly, because gcc moves the additions away from the products and then lacks registers for the sums.
inline __m256i multiply_add(__m256i sum, __m256i a, __m256i b) noexcept {
  __m256i product;
  __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(a), "x"(b));
  return sum;
}
inline I32x16 multiply_add(const I32x16& sum, const I16x32& a, const I16x32& b) noexcept {
  return {multiply_add(sum.lo, a.lo, b.lo), multiply_add(sum.hi, a.hi, b.hi)};
}

struct U8x64 {
  __m256i lo, hi;
};
struct I8x64 {
  __m256i both;  // only broadcasts exist
};
inline U8x64 load_u8x64(const std::uint8_t* p) noexcept { return {load_bytes(p), load_bytes(p + 32)}; }
inline void store(std::uint8_t* p, const U8x64& a) noexcept {
  _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(p)), a.lo);
  _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(p + 32)), a.hi);
}
inline U8x64 low_nibbles(const U8x64& a) noexcept {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(a.lo, mask), _mm256_and_si256(a.hi, mask)};
}
inline U8x64 high_nibbles(const U8x64& a) noexcept {
  return low_nibbles(U8x64{_mm256_srli_epi16(a.lo, 4), _mm256_srli_epi16(a.hi, 4)});
}
inline I8x64 broadcast_four(const void* p) noexcept {
  std::int32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  return {_mm256_set1_epi32(four)};
}
inline __m256i multiply_add_bytes(__m256i sum, __m256i a, __m256i b) noexcept {
  __m256i product;
  __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(a), "x"(b));
  return sum;
}
using FourSums = I16x32;
inline FourSums begin_fours(const I16x32& a, const I16x32& b) noexcept {
  return {_mm256_mullo_epi16(a.lo, b.lo), _mm256_mullo_epi16(a.hi, b.hi)};
}
inline FourSums multiply_add(const FourSums& sum, const U8x64& a, const I8x64& b) noexcept {
  return {multiply_add_bytes(sum.lo, a.lo, b.both), multiply_add_bytes(sum.hi, a.hi, b.both)};
}
inline I32x16 sum_fours(const FourSums& a) noexcept {
  const __m256i ones = _mm256_set1_epi16(1);
  return {_mm256_madd_epi16(a.lo, ones), _mm256_madd_epi16(a.hi, ones)};
}

inline void transpose8(__m256 (&r)[8]) noexcept {
  __m256 t[8];
  for (int i = 0; i < 8; i += 2) {  // pairs of rows: a0 b0 a1 b1 | a4 b4 a5 b5, and the other half
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  __m256 u[8];
  for (int i = 0; i < 8; i += 4) {  // fours of rows: a0 b0 c0 d0 | a4 b4 c4 d4, ...
    u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}
inline void transpose(F32x16 (&r)[kLanes]) noexcept {
  __m256 a[8], b[8], c[8], d[8];  // the quadrants: upper left, upper right, lower left, lower right
  for (int i = 0; i < 8; ++i) {
    a[i] = r[i].lo;
    b[i] = r[i].hi;
    c[i] = r[i + 8].lo;
    d[i] = r[i + 8].hi;
  }
  transpose8(a);
  transpose8(b);
  transpose8(c);
  transpose8(d);
  for (int i = 0; i < 8; ++i) {
    r[i] = {a[i], c[i]};
    r[i + 8] = {b[i], d[i]};
  }
}

}  // namespace
}  // namespace gpt::kernels
