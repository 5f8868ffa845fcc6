// Which instruction set the kernels use.
#pragma once

#include <string_view>

namespace gpt::ops {

/// "avx512", "avx2" or "scalar": the best this CPU has, or what the environment variable GPT_FORCE_ISA names.
/// Chosen once; results are the same bits with each. Throws UnsupportedError when GPT_FORCE_ISA names what is
/// not available.
std::string_view instruction_set();

}  // namespace gpt::ops
