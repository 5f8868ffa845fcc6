#include "gpt/ops/isa.h"

#include "kernels/kernels.h"

namespace gpt::ops {

std::string_view instruction_set() { return kernels::table().name; }

}  // namespace gpt::ops
