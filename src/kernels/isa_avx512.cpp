// The kernels in AVX-512 (F, BW, DQ, VL).
#include "kernels/fours_avx512.h"

#include "kernels/generic.inl"

namespace gpt::kernels {

extern const KernelTable kAvx512Table;
const KernelTable kAvx512Table = make_table("avx512");

}  // namespace gpt::kernels
