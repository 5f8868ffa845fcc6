// The AVX-512 kernels again, on emulated instructions, as kEmulatedAvx512Table.
#include "gpt/core/dtype.h"

#include "kernels/fours_avx512.h"  // includes the <immintrin.h> of emulated_avx512/

#include "kernels/generic.inl"

namespace gpt::kernels {

extern const KernelTable kEmulatedAvx512Table;
const KernelTable kEmulatedAvx512Table = make_table("emulated avx512");

}  // namespace gpt::kernels
