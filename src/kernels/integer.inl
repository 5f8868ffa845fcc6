// The bodies of the integer products alone, for an isa_*.cpp of instructions that serve nothing else and has included its
// fours_*.h: see generic.inl.
#include <cstdint>

#include "kernels/kernels.h"

#include "kernels/elementary.inl"  // first: the others use these
#include "kernels/register_tile.inl"

#include "kernels/activation.inl"
#include "kernels/linear_blocks.inl"
#include "kernels/linear_finish.inl"
#include "kernels/pack_rows.inl"
#include "kernels/quanta.inl"

#include "kernels/int4_fours.inl"
#include "kernels/int8_fours.inl"

#include "kernels/linear_integer.inl"
