// Sums of products of fours of bytes on their way, in AVX-512 alone: see vec_scalar.h.
#pragma once

#include "kernels/vec_avx512.h"

namespace gpt::kernels {
namespace {

using FourSums = I16x32;
inline FourSums begin_fours(const I16x32& a, const I16x32& b) noexcept {
  return {_mm512_mullo_epi16(a.v, b.v)};
}
inline FourSums multiply_add(const FourSums& sum, const U8x64& a, const I8x64& b) noexcept {
  return {_mm512_add_epi16(sum.v, _mm512_maddubs_epi16(a.v, b.v))};
}
inline I32x16 sum_fours(const FourSums& a) noexcept { return {_mm512_madd_epi16(a.v, _mm512_set1_epi16(1))}; }

}  // namespace
}  // namespace gpt::kernels
