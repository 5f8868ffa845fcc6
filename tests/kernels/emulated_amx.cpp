// The integer products on AMX's tiles, and of few rows in VNNI, again, on emulated instructions, as kEmulatedAmxKernels.
#include "gpt/core/dtype.h"

#include "kernels/vec_avx512.h"  // includes the <immintrin.h> of emulated_avx512/

#include "kernels/emulated_integers.h"

#include "kernels/fours_vnni.h"

#include "kernels/integer.inl"

#include "kernels/linear_tiles.inl"

namespace gpt::kernels {

extern const IntegerKernels kEmulatedAmxKernels;
const IntegerKernels kEmulatedAmxKernels = make_tile_kernels("emulated amx");

}  // namespace gpt::kernels
