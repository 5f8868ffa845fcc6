// F32x16 as one AVX-512 register (F, BW, DQ, VL). Each function is the one of the same name in vec_scalar.h; those that it lacks serve
// int8_fours.inl and linear_tiles.inl. Sums of fours are in fours_avx512.h and fours_vnni.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace gpt::kernels {
namespace {

inline constexpr int kLanes = 16;
inline constexpr int kMicroRows = 12;  // 12 accumulators cover the latency of two FMA units
inline constexpr bool kManyRegisters = true;
// Of few rows against panels side by side; of products of integers fewer, or too many panels would be read at once.
inline constexpr int kStreamSums = 24, kIntegerSums = 16;
inline constexpr int kWideRows =
    6;  // against four panels: 24 accumulators, 4 weights, 1 broadcast: 29 of 32 registers
inline constexpr int kWidePanels = 4;

struct F32x16 {
  __m512 v;
};

inline F32x16 broadcast(float x) noexcept { return {_mm512_set1_ps(x)}; }
inline F32x16 load(const float* p) noexcept { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, const F32x16& a) noexcept { _mm512_storeu_ps(p, a.v); }
inline __m256i load_half_words(const std::uint16_t* p) noexcept {
  return _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(p)));
}
inline F32x16 load_bf16(const std::uint16_t* p) noexcept {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_half_words(p)), 16))};
}
inline F32x16 load_f16(const std::uint16_t* p) noexcept { return {_mm512_cvtph_ps(load_half_words(p))}; }
inline F32x16 load_i8(const std::int8_t* p) noexcept {
  const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(p)));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
}

inline void store_half_words(std::uint16_t* p, __m256i words) noexcept {
  _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(p)), words);
}
inline void store_bf16(std::uint16_t* p, const F32x16& a) noexcept {
  const __m512i u = _mm512_castps_si512(a.v);
  const __m512i upper = _mm512_srli_epi32(u, 16);
  const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i quiet = _mm512_or_si512(upper, _mm512_set1_epi32(0x40));
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  store_half_words(p, _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(nan, _mm512_srli_epi32(sum, 16), quiet)));
}
inline void store_f16(std::uint16_t* p, const F32x16& a) noexcept {
  store_half_words(p, _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline void store_low_bytes(std::int8_t* p, const F32x16& a) noexcept {
  _mm_storeu_si128(static_cast<__m128i*>(static_cast<void*>(p)),
                   _mm512_cvtepi32_epi8(_mm512_castps_si512(a.v)));
}

inline F32x16 operator+(const F32x16& a, const F32x16& b) noexcept { return {_mm512_add_ps(a.v, b.v)}; }
inline F32x16 operator-(const F32x16& a, const F32x16& b) noexcept { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32x16 operator*(const F32x16& a, const F32x16& b) noexcept { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32x16 operator/(const F32x16& a, const F32x16& b) noexcept { return {_mm512_div_ps(a.v, b.v)}; }
inline F32x16 sqrt(const F32x16& a) noexcept { return {_mm512_sqrt_ps(a.v)}; }
inline F32x16 fma(const F32x16& a, const F32x16& b, const F32x16& c) noexcept {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
inline F32x16 min(const F32x16& a, const F32x16& b) noexcept { return {_mm512_min_ps(a.v, b.v)}; }
inline F32x16 max(const F32x16& a, const F32x16& b) noexcept { return {_mm512_max_ps(a.v, b.v)}; }
inline F32x16 abs(const F32x16& a) noexcept { return {_mm512_abs_ps(a.v)}; }
inline F32x16 with_sign_of(const F32x16& magnitude, const F32x16& sign) noexcept {
  return {_mm512_or_ps(magnitude.v, _mm512_and_ps(_mm512_set1_ps(-0.0f), sign.v))};
}
inline F32x16 select_less(const F32x16& a, const F32x16& b, const F32x16& yes, const F32x16& no) noexcept {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}
inline F32x16 first_lanes(const F32x16& a, int n, const F32x16& b) noexcept {
  return {_mm512_mask_blend_ps(static_cast<__mmask16>((1u << n) - 1u), b.v, a.v)};
}
inline F32x16 add_exponent(const F32x16& p, const F32x16& shifted) noexcept {
  return {_mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_castps_si512(p.v), _mm512_slli_epi32(_mm512_castps_si512(shifted.v), 23)))};
}

inline float sum_lanes(const F32x16& a) noexcept {
  const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
inline float max_lanes(const F32x16& a) noexcept {
  const __m256 s8 = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}

struct I32x16 {
  __m512i v;
};
struct I16x32 {
  __m512i v;
};

inline I32x16 broadcast_i32(std::int32_t x) noexcept { return {_mm512_set1_epi32(x)}; }
inline I32x16 load_u8(const std::uint8_t* p) noexcept {
  return {_mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(p))))};
}
inline I32x16 operator-(const I32x16& a, const I32x16& b) noexcept { return {_mm512_sub_epi32(a.v, b.v)}; }
inline F32x16 to_float(const I32x16& a) noexcept { return {_mm512_cvtepi32_ps(a.v)}; }
inline __m512i round_to_i32(const F32x16& a) noexcept {
  const __m512 to_integer =
      _mm512_set1_ps(0x1.8p23f);  // as in vec_scalar.h: the nearest integer in the low bits
  return _mm512_cvttps_epi32(_mm512_sub_ps(_mm512_add_ps(a.v, to_integer), to_integer));
}
inline void store_rounded(std::int16_t* p, const F32x16& a) noexcept {
  _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(p)), _mm512_cvtepi32_epi16(round_to_i32(a)));
}
inline void store_rounded(std::int8_t* p, const F32x16& a) noexcept {
  _mm_storeu_si128(static_cast<__m128i*>(static_cast<void*>(p)), _mm512_cvtepi32_epi8(round_to_i32(a)));
}

inline I16x32 load_i16(const std::int16_t* p) noexcept { return {_mm512_loadu_si512(p)}; }
inline I16x32 widen_i8(const std::int8_t* p) noexcept {
  return {_mm512_cvtepi8_epi16(_mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(p))))};
}
inline void store_i16(std::int16_t* p, const I16x32& a) noexcept { _mm512_storeu_si512(p, a.v); }
inline I32x16 load_i32(const void* p) noexcept { return {_mm512_loadu_si512(p)}; }
template <int n>
inline I32x16 nibble(const I32x16& a) noexcept {
  return {_mm512_and_si512(_mm512_srli_epi32(a.v, 4 * n), _mm512_set1_epi32(15))};
}
inline I32x16 even_lanes(const I16x32& a) noexcept {
  return {_mm512_srai_epi32(_mm512_slli_epi32(a.v, 16), 16)};
}
inline I32x16 odd_lanes(const I16x32& a) noexcept { return {_mm512_srai_epi32(a.v, 16)}; }
inline I16x32 pairs_of(const I32x16& a) noexcept {
  return {_mm512_or_si512(_mm512_and_si512(a.v, _mm512_set1_epi32(0xffff)), _mm512_slli_epi32(a.v, 16))};
}
inline I16x32 broadcast_pair(const void* p) noexcept {
  std::int32_t both;
  __builtin_memcpy(&both, p, sizeof both);
  return {_mm512_set1_epi32(both)};
}
inline I32x16 multiply_add(const I32x16& sum, const I16x32& a, const I16x32& b) noexcept {
  return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(a.v, b.v))};
}

struct U8x64 {
  __m512i v;
};
struct I8x64 {
  __m512i v;
};
inline U8x64 load_u8x64(const std::uint8_t* p) noexcept { return {_mm512_loadu_si512(p)}; }
inline void store(std::uint8_t* p, const U8x64& a) noexcept { _mm512_storeu_si512(p, a.v); }
/// The fours of inputs (0, 1, 2, 3) of 16 outputs, of 16 pairs (0, 1) and 16 pairs (2, 3).
inline I8x64 fours_of_pairs(const std::int8_t* p) noexcept {
  alignas(64) static constexpr std::int16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                          21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                          11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return {_mm512_permutexvar_epi16(_mm512_load_si512(kOrder), _mm512_loadu_si512(p))};
}
inline U8x64 plus_128(const I8x64& a) noexcept { return {_mm512_xor_si512(a.v, _mm512_set1_epi8(-128))}; }
inline U8x64 low_nibbles(const U8x64& a) noexcept { return {_mm512_and_si512(a.v, _mm512_set1_epi8(15))}; }
inline U8x64 high_nibbles(const U8x64& a) noexcept { return low_nibbles(U8x64{_mm512_srli_epi16(a.v, 4)}); }
inline I8x64 broadcast_four(const void* p) noexcept {
  std::int32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  return {_mm512_set1_epi32(four)};
}
/// Each number four times; it fits a byte.
inline I8x64 fours_of(const I32x16& a) noexcept {
  return {_mm512_mullo_epi32(a.v, _mm512_set1_epi32(0x01010101))};
}
inline I8x64 operator-(const U8x64& a, const I8x64& b) noexcept { return {_mm512_sub_epi8(a.v, b.v)}; }
inline void store_i8(std::int8_t* p, const I8x64& a) noexcept { _mm512_storeu_si512(p, a.v); }

inline void transpose(F32x16 (&r)[kLanes]) noexcept {
  __m512 t[kLanes], u[kLanes];
  for (int i = 0; i < kLanes; i += 2) {  // pairs of rows, within 128-bit parts
    t[i] = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
    t[i + 1] = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
  }
  for (int i = 0; i < kLanes; i += 4) {  // fours of rows: u[i + j] holds column 4 p + j in part p
    u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int j = 0; j < 4; ++j) {                                          // parts of the four fours together
    const __m512 p02 = _mm512_shuffle_f32x4(u[j], u[j + 4], 0x88);       // parts 0, 2 of rows 0-3, then 4-7
    const __m512 p13 = _mm512_shuffle_f32x4(u[j], u[j + 4], 0xdd);       // parts 1, 3
    const __m512 q02 = _mm512_shuffle_f32x4(u[j + 8], u[j + 12], 0x88);  // the same of rows 8-11, 12-15
    const __m512 q13 = _mm512_shuffle_f32x4(u[j + 8], u[j + 12], 0xdd);
    r[j].v = _mm512_shuffle_f32x4(p02, q02, 0x88);
    r[j + 4].v = _mm512_shuffle_f32x4(p13, q13, 0x88);
    r[j + 8].v = _mm512_shuffle_f32x4(p02, q02, 0xdd);
    r[j + 12].v = _mm512_shuffle_f32x4(p13, q13, 0xdd);
  }
}

}  // namespace
}  // namespace gpt::kernels
