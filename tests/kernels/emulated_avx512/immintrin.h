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
    z[i] = (i < 8 ? x : y)[4 * part + i % 4];
  }
  return simde_mm512_loadu_ps(z);
}
