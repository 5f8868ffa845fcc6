// The kernels in AVX2, FMA and F16C.
#include "kernels/vec_avx2.h"

#include "kernels/generic.inl"

namespace gpt::kernels {

extern const KernelTable kAvx2Table;
const KernelTable kAvx2Table = make_table("avx2");

}  // namespace gpt::kernels
