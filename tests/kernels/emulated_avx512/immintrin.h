// Stands in for the compiler's <immintrin.h> where isa_avx512.cpp is compiled a second time, for the tests:
// AVX-512 in plain C++ by SIMDe, so that its kernels are compared on CPUs that lack the instructions. Slow,
// and exact.
#pragma once

#define SIMDE_NO_NATIVE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>

// What SIMDe lacks, or rounds twice.
using __mmask16 = simde__mmask16;

#undef _mm512_fmadd_ps
inline simde__m512 _mm512_fmadd_ps(simde__m512 a, simde__m512 b, simde__m512 c) {
  float x[16], y[16], z[16];
  simde_mm512_storeu_ps(x, a);
  simde_mm512_storeu_ps(y, b);
  simde_mm512_storeu_ps(z, c);
  for (int i = 0; i < 16; ++i) z[i] = __builtin_fmaf(x[i], y[i], z[i]);
  return simde_mm512_loadu_ps(z);
}

inline simde__m512i _mm512_cvtepu16_epi32(simde__m256i a) {
  std::uint16_t x[16];
  std::uint32_t y[16];
  simde_mm256_storeu_si256(x, a);
  for (int i = 0; i < 16; ++i) y[i] = x[i];
  return simde_mm512_loadu_si512(y);
}

inline simde__m512 _mm512_cvtph_ps(simde__m256i a) {
  gpt::Float16 x[16];
  float y[16];
  simde_mm256_storeu_si256(x, a);
  for (int i = 0; i < 16; ++i) y[i] = static_cast<float>(x[i]);
  return simde_mm512_loadu_ps(y);
}

inline simde__m512i _mm512_cvtepi8_epi32(simde__m128i a) {
  std::int8_t x[16];
  std::int32_t y[16];
  simde_mm_storeu_si128(x, a);
  for (int i = 0; i < 16; ++i) y[i] = x[i];
  return simde_mm512_loadu_si512(y);
}

inline simde__m512 _mm512_cvtepi32_ps(simde__m512i a) {
  std::int32_t x[16];
  float y[16];
  simde_mm512_storeu_si512(x, a);
  for (int i = 0; i < 16; ++i) y[i] = static_cast<float>(x[i]);
  return simde_mm512_loadu_ps(y);
}

inline simde__m256i _mm512_cvtepi32_epi16(simde__m512i a) {
  std::uint32_t x[16];
  std::uint16_t y[16];
  simde_mm512_storeu_si512(x, a);
  for (int i = 0; i < 16; ++i) y[i] = static_cast<std::uint16_t>(x[i]);
  return simde_mm256_loadu_si256(y);
}

inline simde__m128i _mm512_cvtepi32_epi8(simde__m512i a) {
  std::uint32_t x[16];
  std::uint8_t y[16];
  simde_mm512_storeu_si512(x, a);
  for (int i = 0; i < 16; ++i) y[i] = static_cast<std::uint8_t>(x[i]);
  return simde_mm_loadu_si128(y);
}

#ifndef _MM_FROUND_NO_EXC
#define _MM_FROUND_NO_EXC SIMDE_MM_FROUND_NO_EXC
#endif
inline simde__m256i _mm512_cvtps_ph(simde__m512 a, int /*to nearest even*/) {
  float x[16];
  gpt::Float16 y[16];
  simde_mm512_storeu_ps(x, a);
  for (int i = 0; i < 16; ++i) y[i] = gpt::Float16(x[i]);
  return simde_mm256_loadu_si256(y);
}

inline simde__m256 _mm512_extractf32x8_ps(simde__m512 a, int part) {
  float x[16];
  simde_mm512_storeu_ps(x, a);
  return simde_mm256_loadu_ps(x + 8 * part);
}

inline simde__m512 _mm512_shuffle_f32x4(simde__m512 a, simde__m512 b, int control) {
  float x[16], y[16], z[16];
  simde_mm512_storeu_ps(x, a);
  simde_mm512_storeu_ps(y, b);
  for (int i = 0; i < 16; ++i) {
    const int part = (control >> (2 * (i / 4))) & 3;
    // A pointer, because g++ 12 with -fsanitize=undefined reads (i < 8 ? x : y)[index] at a wrong index of y: it puts
    // the subscript into both arms and computes the instrumented index in the first alone.
    const float* from = i < 8 ? x : y;
    z[i] = from[4 * part + i % 4];
  }
  return simde_mm512_loadu_ps(z);
}

// Lane by lane: converts n lanes of type A to lanes of type B by f.
template <int n, class A, class B, class From, class To, class F>
inline To emulated_map(From from, F f) {
  static_assert(sizeof(A[n]) == sizeof(From) && sizeof(B[n]) == sizeof(To));
  A a[n];
  B b[n];
  To to;
  __builtin_memcpy(a, &from, sizeof from);
  for (int i = 0; i < n; ++i) b[i] = static_cast<B>(f(a[i]));
  __builtin_memcpy(&to, b, sizeof to);
  return to;
}

inline simde__m512i _mm512_cvtepu8_epi32(simde__m128i a) {
  return emulated_map<16, std::uint8_t, std::uint32_t, simde__m128i, simde__m512i>(a,
                                                                                   [](auto x) { return x; });
}
inline simde__m512i _mm512_cvttps_epi32(simde__m512 a) {
  return emulated_map<16, float, std::int32_t, simde__m512, simde__m512i>(a, [](auto x) { return x; });
}
inline simde__m512i _mm512_srai_epi32(simde__m512i a, int n) {
  return emulated_map<16, std::int32_t, std::int32_t, simde__m512i, simde__m512i>(
      a, [n](auto x) { return x >> n; });
}

#undef _mm512_madd_epi16
inline simde__m512i _mm512_madd_epi16(simde__m512i a, simde__m512i b) {
  std::int16_t x[32], y[32];
  std::int32_t z[16];
  simde_mm512_storeu_si512(x, a);
  simde_mm512_storeu_si512(y, b);
  for (int i = 0; i < 16; ++i) z[i] = x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1];
  return simde_mm512_loadu_si512(z);
}

// SIMDe adds as signed integers, where an overflow is undefined; the instruction wraps around.
#undef _mm512_add_epi32
inline simde__m512i _mm512_add_epi32(simde__m512i a, simde__m512i b) {
  std::uint32_t x[16], y[16];
  simde_mm512_storeu_si512(x, a);
  simde_mm512_storeu_si512(y, b);
  for (int i = 0; i < 16; ++i) x[i] += y[i];
  return simde_mm512_loadu_si512(x);
}
