// Sums of products of fours of bytes in VNNI, in the place of those of fours_avx512.h: with 32 bits from the beginning.
#pragma once

#include "kernels/vec_avx512.h"

namespace gpt::kernels {
namespace {

using FourSums = I32x16;
inline FourSums begin_fours(const I16x32& a, const I16x32& b) noexcept {
  return {_mm512_madd_epi16(a.v, b.v)};
}
inline FourSums multiply_add(const FourSums& sum, const U8x64& a, const I8x64& b) noexcept {
  // Not the intrinsic: gcc 12 copies the sums before and after it in every turn of a loop.
  __m512i v = sum.v;
  __asm__("vpdpbusd %2, %1, %0" : "+v"(v) : "v"(a.v), "v"(b.v));
  return {v};
}
inline I32x16 sum_fours(const FourSums& a) noexcept { return a; }

}  // namespace
}  // namespace gpt::kernels
