#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gpt/core/error.h"
#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace gpt::kernels {

extern const KernelTable kScalarTable;
#if defined(__x86_64__)
extern const KernelTable kAvx2Table;
extern const KernelTable kAvx512Table;
extern const IntegerKernels kVnniKernels;
extern const IntegerKernels kAmxKernels;
#endif

namespace {

struct Cpu {
  bool avx2 = false;         // with FMA and F16C
  bool avx512 = false;       // F, BW, DQ, VL, and all of avx2
  bool avx512_vnni = false;  // and all of avx512
  bool amx = false;          // tiles of bytes, and all of avx512_vnni
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
  const auto saved = [xcr0](unsigned registers) { return (xcr0 & registers) == registers; };
  Cpu cpu;
  cpu.avx2 = bit(b, 5) && saved(0x06u);
  cpu.avx512 = cpu.avx2 && bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31) && saved(0xe6u);
  cpu.avx512_vnni = cpu.avx512 && bit(c, 11);
  cpu.amx = cpu.avx512_vnni && bit(d, 24) && bit(d, 25) && saved(0x60000u);
  return cpu;
}
#endif

const Cpu& cpu() noexcept {
#if defined(__x86_64__)
  static const Cpu detected = detect_cpu();
#else
  static const Cpu detected;
#endif
  return detected;
}

// Linux keeps the registers of AMX from a process that has not asked for them.
#if defined(__x86_64__) && defined(__linux__)
constexpr long kGetPermission = 0x1022, kRequestPermission = 0x1023, kTileData = 18;
bool amx_permitted() noexcept {
  std::uint64_t permitted = 0;
  return ::syscall(SYS_arch_prctl, kGetPermission, &permitted) == 0 && (permitted >> kTileData & 1u) != 0;
}
bool request_amx() noexcept { return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0; }
#else
bool amx_permitted() noexcept { return false; }
bool request_amx() noexcept { return false; }
#endif

/// Whether the process may use AMX: by its own request, or by ours.
std::atomic<bool>& amx_allowed() noexcept {
  static std::atomic<bool> allowed{cpu().amx && amx_permitted()};
  return allowed;
}

/// What the kernels are chosen by.
struct Choice {
  const KernelTable* table = nullptr;
  const IntegerKernels* integer = nullptr;  // null: the best there is
};

constexpr struct {
  std::string_view name;
  Isa isa;
} kIsas[] = {{"avx512", Isa::kAvx512}, {"avx2", Isa::kAvx2}, {"scalar", Isa::kScalar}};  // best first

Choice forced_choice(std::string_view name) {
  constexpr struct {
    std::string_view name;
    IntegerUnits units;
  } kUnits[] = {{"avx512_vnni", IntegerUnits::kVnni}, {"amx", IntegerUnits::kAmx}};
  const auto missing = [&] { fail<UnsupportedError>("GPT_FORCE_ISA", "this CPU or build has no ", name); };
  for (const auto& i : kIsas) {
    if (i.name != name) continue;
    const KernelTable* t = table_of(i.isa);
    if (t == nullptr) missing();
    return {t, &t->integer};
  }
  for (const auto& u : kUnits) {
    if (u.name != name) continue;
    if (u.units == IntegerUnits::kAmx && cpu().amx) {
      if (!request_amx())
        fail<UnsupportedError>("GPT_FORCE_ISA",
                               "Linux does not let this process use amx (a thread's alternate signal stack "
                               "is too small, or arch_prctl is not allowed)");
      amx_allowed() = true;
    }
    const IntegerKernels* kernels = kernels_of(u.units);
    if (kernels == nullptr) missing();
    return {table_of(Isa::kAvx512), kernels};
  }
  fail<UnsupportedError>("GPT_FORCE_ISA", "unknown instruction set '", name,
                         "', expected scalar, avx2, avx512, avx512_vnni or amx");
}

const Choice& choice() {
  static const Choice chosen = [] {
    const char* const forced = std::getenv("GPT_FORCE_ISA");
    if (forced != nullptr && *forced != '\0') return forced_choice(forced);
    for (const auto& i : kIsas)
      if (const KernelTable* t = table_of(i.isa)) return Choice{t, nullptr};
    return Choice{&kScalarTable, nullptr};
  }();
  return chosen;
}

}  // namespace

const KernelTable* table_of(Isa isa) noexcept {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2) return cpu().avx2 ? &kAvx2Table : nullptr;
  if (isa == Isa::kAvx512) return cpu().avx512 ? &kAvx512Table : nullptr;
#endif
  return isa == Isa::kScalar ? &kScalarTable : nullptr;
}

const IntegerKernels* kernels_of([[maybe_unused]] IntegerUnits units) noexcept {
#if defined(__x86_64__)
  if (units == IntegerUnits::kVnni) return cpu().avx512_vnni ? &kVnniKernels : nullptr;
  if (units == IntegerUnits::kAmx) return amx_allowed() ? &kAmxKernels : nullptr;
#endif
  return nullptr;
}

const KernelTable& table() { return *choice().table; }

const IntegerKernels& integer_kernels() {
  const Choice& chosen = choice();
  if (chosen.integer != nullptr) return *chosen.integer;
  for (const IntegerUnits units : {IntegerUnits::kAmx, IntegerUnits::kVnni})
    if (const IntegerKernels* kernels = kernels_of(units)) return *kernels;
  return chosen.table->integer;
}

bool use_amx() {
  if (choice().integer == nullptr && cpu().amx && request_amx()) amx_allowed() = true;
  return &integer_kernels() == kernels_of(IntegerUnits::kAmx);
}

}  // namespace gpt::kernels
