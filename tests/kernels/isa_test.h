// The instruction sets that are held against the scalar one.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <tuple>

#include "kernels/kernels.h"

namespace gpt::kernels {

extern const KernelTable kEmulatedAvx512Table;
extern const IntegerKernels kEmulatedAmxKernels;

inline const KernelTable& scalar() { return *table_of(Isa::kScalar); }

/// Their names, as parameters of tests.
inline auto all_isas() { return ::testing::Values("avx2", "avx512", "emulated_avx512"); }
/// Those that differ from avx512 in products of integers alone.
inline auto integer_isas() { return ::testing::Values("avx512_vnni", "amx", "emulated_amx"); }

/// The scalar table with other integer products; nothing without these.
inline const KernelTable* with_integer_kernels(const IntegerKernels* kernels) {
  static std::map<const IntegerKernels*, KernelTable> tables;
  if (kernels == nullptr) return nullptr;
  KernelTable& t = tables.try_emplace(kernels, scalar()).first->second;
  t.integer = *kernels;
  return &t;
}

/// The kernels of a name, or null where the CPU lacks them.
inline const KernelTable* kernels_named(const std::string& name) {
  if (name == "avx2") return table_of(Isa::kAvx2);
  if (name == "avx512") return table_of(Isa::kAvx512);
  if (name == "avx512_vnni") return with_integer_kernels(kernels_of(IntegerUnits::kVnni));
  if (name == "amx") return with_integer_kernels(use_amx() ? kernels_of(IntegerUnits::kAmx) : nullptr);
  if (name == "emulated_amx") return with_integer_kernels(&kEmulatedAmxKernels);
  return &kEmulatedAvx512Table;
}

/// Whether a name emulates what the CPU itself has: several times slower, to show the same. But a sanitizer sees what the plain loops
/// of emulated tiles read and write, and not what the tiles' instructions do.
inline bool needs_no_emulation(const std::string& name) {
#ifndef GPT_TEST_SANITIZED
  if (name == "emulated_amx") return kernels_named("amx") != nullptr;
#endif
  return name == "emulated_avx512" && kernels_named("avx512") != nullptr;
}

/// A test of one of them, which is its parameter or the first part of it; skipped where the CPU lacks it, and where that is
/// emulated without need.
template <class Param = std::string>
class IsaTest : public ::testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    const std::string& name = name_in(this->GetParam());
    candidate_ = kernels_named(name);
    if (candidate_ == nullptr) GTEST_SKIP() << "this CPU has no " << name;
    if (needs_no_emulation(name)) GTEST_SKIP() << "this CPU needs no emulation";
  }
  const KernelTable& candidate() const { return *candidate_; }

 private:
  static const std::string& name_in(const std::string& isa) { return isa; }
  template <class... More>
  static const std::string& name_in(const std::tuple<std::string, More...>& param) {
    return std::get<0>(param);
  }

  const KernelTable* candidate_ = nullptr;
};

}  // namespace gpt::kernels
