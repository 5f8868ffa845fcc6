// Integer products of many rows on AMX's matrix units, of few rows in AVX-512 with VNNI.
#include "kernels/tiles_amx.h"
#include "kernels/vnni.h"

#include "kernels/fours_vnni.h"

#include "kernels/integer.inl"

#include "kernels/linear_tiles.inl"

namespace gpt::kernels {

extern const IntegerKernels kAmxKernels;
const IntegerKernels kAmxKernels = make_tile_kernels("amx");

}  // namespace gpt::kernels
