// A host whose floating-point exceptions are traps, which end the program.
#pragma once

#include <cfenv>

namespace gpt::test {

/// While it lives, this thread traps whatever the CPU can trap, where the C library and the CPU let it.
class Trapping {
 public:
  Trapping() {
    std::feclearexcept(FE_ALL_EXCEPT);
#ifdef __GLIBC__
    before_ = ::feenableexcept(FE_ALL_EXCEPT);
    traps_ = before_ >= 0 && ::fegetexcept() == FE_ALL_EXCEPT;
#endif
  }
  ~Trapping() {
#ifdef __GLIBC__
    ::fedisableexcept(FE_ALL_EXCEPT);
    if (before_ > 0) ::feenableexcept(before_);
#endif
  }
  Trapping(const Trapping&) = delete;
  Trapping& operator=(const Trapping&) = delete;

  bool traps() const noexcept { return traps_; }

 private:
  int before_ = 0;
  bool traps_ = false;
};

}  // namespace gpt::test
