// Sums of products of fours of bytes, in the place of those of fours_avx512.h: with 32 bits from the beginning. For what has included
// vnni.h, or what stands in for it.
#pragma once

#include "kernels/vec_avx512.h"

namespace gpt::kernels {
namespace {

using FourSums = I32x16;
inline FourSums begin_fours(const I16x32& a, const I16x32& b) noexcept {
  return {_mm512_madd_epi16(a.v, b.v)};
}
inline I32x16 sum_fours(const FourSums& a) noexcept { return a; }

}  // namespace
}  // namespace gpt::kernels
