// The instruction of VNNI that products of integers use.
#pragma once

#include "kernels/vec_avx512.h"

namespace gpt::kernels {
namespace {

/// sum[i] + the sum over j = 0 .. 3 of a[4 i + j] b[4 i + j]
inline I32x16 multiply_add(const I32x16& sum, const U8x64& a, const I8x64& b) noexcept {
  // Not the intrinsic: gcc 12 copies the sums before and after it in every turn of a loop.
  __m512i v = sum.v;
  __asm__("vpdpbusd %2, %1, %0" : "+v"(v) : "v"(a.v), "v"(b.v));
  return {v};
}

}  // namespace
}  // namespace gpt::kernels
