#include "gpt/ops/isa.h"

#include "kernels/kernels.h"

namespace gpt::ops {

std::string_view instruction_set() { return kernels::table().name; }

std::string_view integer_instruction_set() { return kernels::integer_kernels().name; }

bool use_amx() { return kernels::use_amx(); }

}  // namespace gpt::ops
