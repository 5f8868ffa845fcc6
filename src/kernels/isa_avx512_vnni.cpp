// Integer products in AVX-512 with VNNI.
#include "kernels/vnni.h"

#include "kernels/fours_vnni.h"

#include "kernels/integer.inl"

namespace gpt::kernels {

extern const IntegerKernels kVnniKernels;
const IntegerKernels kVnniKernels = make_integer_kernels("avx512_vnni");

}  // namespace gpt::kernels
