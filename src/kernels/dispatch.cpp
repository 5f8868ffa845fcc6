#include <cstdlib>
#include <string_view>

#include "gpt/core/error.h"
#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace gpt::kernels {

extern const KernelTable kScalarTable;
#if defined(__x86_64__)
extern const KernelTable kAvx2Table;
extern const KernelTable kAvx512Table;
#endif

namespace {

struct Cpu {
  bool avx2 = false;    // with FMA and F16C
  bool avx512 = false;  // F, BW, DQ, VL, and all of avx2
};

#if defined(__x86_64__)
Cpu detect_cpu() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const auto bit = [](unsigned word, int i) { return (word >> i & 1u) != 0; };
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return {};
  const bool fma = bit(c, 12), f16c = bit(c, 29), avx = bit(c, 28), osxsave = bit(c, 27);
  if (!(fma && f16c && avx && osxsave)) return {};
  unsigned xcr0 = 0, xcr0_high = 0;  // which registers the operating system saves
  __asm__("xgetbv" : "=a"(xcr0), "=d"(xcr0_high) : "c"(0));
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return {};
  Cpu cpu;
  cpu.avx2 = bit(b, 5) && (xcr0 & 0x06u) == 0x06u;
  cpu.avx512 = cpu.avx2 && bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31) && (xcr0 & 0xe6u) == 0xe6u;
  return cpu;
}
#endif

const KernelTable& choose() {
  constexpr struct {
    std::string_view name;
    Isa isa;
  } kIsas[] = {{"avx512", Isa::kAvx512}, {"avx2", Isa::kAvx2}, {"scalar", Isa::kScalar}};  // best first
  const char* const forced = std::getenv("GPT_FORCE_ISA");
  if (forced == nullptr || *forced == '\0') {
    for (const auto& i : kIsas)
      if (const KernelTable* t = table_of(i.isa)) return *t;
  } else {
    for (const auto& i : kIsas) {
      if (i.name != forced) continue;
      if (const KernelTable* t = table_of(i.isa)) return *t;
      fail<UnsupportedError>("GPT_FORCE_ISA", "this CPU or build has no ", i.name);
    }
    fail<UnsupportedError>("GPT_FORCE_ISA", "unknown instruction set '", std::string_view(forced),
                           "', expected scalar, avx2 or avx512");
  }
  return kScalarTable;
}

}  // namespace

const KernelTable* table_of(Isa isa) noexcept {
#if defined(__x86_64__)
  static const Cpu cpu = detect_cpu();
  if (isa == Isa::kAvx2) return cpu.avx2 ? &kAvx2Table : nullptr;
  if (isa == Isa::kAvx512) return cpu.avx512 ? &kAvx512Table : nullptr;
#endif
  return isa == Isa::kScalar ? &kScalarTable : nullptr;
}

const KernelTable& table() {
  static const KernelTable& chosen = choose();
  return chosen;
}

}  // namespace gpt::kernels
