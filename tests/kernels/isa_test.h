// The instruction sets that are held against the scalar one.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "kernels/kernels.h"

namespace gpt::kernels {

extern const KernelTable kEmulatedAvx512Table;

inline const KernelTable& scalar() { return *table_of(Isa::kScalar); }

/// Their names, as parameters of tests.
inline auto all_isas() { return ::testing::Values("avx2", "avx512", "emulated_avx512"); }

/// A test of one of them, which is its parameter or the first part of it; skipped where the CPU lacks it.
template <class Param = std::string>
class IsaTest : public ::testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    const std::string& name = name_in(this->GetParam());
    candidate_ = name == "avx2"     ? table_of(Isa::kAvx2)
                 : name == "avx512" ? table_of(Isa::kAvx512)
                                    : &kEmulatedAvx512Table;
    if (candidate_ == nullptr) GTEST_SKIP() << "this CPU has no " << name;
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
