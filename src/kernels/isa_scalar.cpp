// The kernels in plain C++.
#include "kernels/vec_scalar.h"

#include "kernels/generic.inl"

namespace gpt::kernels {

extern const KernelTable kScalarTable;
const KernelTable kScalarTable = make_table("scalar");

}  // namespace gpt::kernels
