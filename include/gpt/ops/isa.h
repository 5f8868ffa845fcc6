// Which instructions the kernels use. Results are the same bits with each.
#pragma once

#include <string_view>

namespace gpt::ops {

/// "avx512", "avx2" or "scalar": the best this CPU has, or what the environment variable GPT_FORCE_ISA names. Chosen once.
/// Throws UnsupportedError when GPT_FORCE_ISA names what is not available.
std::string_view instruction_set();

/// What products of quantized weights with quantized activations use: "amx", "avx512_vnni", or as instruction_set(). These
/// two are names for GPT_FORCE_ISA, too, and mean AVX-512 for all else; "avx512" means neither of them. On a CPU with AMX the
/// first call asks Linux whether the process may use it (arch_prctl): call this before a sandbox closes.
std::string_view integer_instruction_set();

/// Lets such products use AMX where the CPU has it: with many rows it is faster than VNNI.
/// Returns whether they do from now on; not where GPT_FORCE_ISA names another instruction set. It is not done unasked (but for
/// GPT_FORCE_ISA=amx), since it asks Linux for a permission of the whole process, which cannot be given back: the kernel
/// then refuses alternate signal stacks (sigaltstack) that could not hold AMX's registers beside the others, about 12 KB
/// (getauxval(AT_MINSIGSTKSZ)), and refuses the permission where a thread has such a stack; signals that meet a thread while it
/// multiplies take so much of its stack. Where the host has the permission before the first product, AMX is used without a call.
/// Throws as instruction_set().
bool use_amx();

}  // namespace gpt::ops
