// The floating-point environment that results are computed in.
#pragma once

#include <cfenv>

namespace gpt {

/// The default floating-point environment for this thread while it lives: rounding to nearest, subnormal numbers kept, no
/// traps, whatever the host has set; its flags come back unchanged. Results must not depend on which thread takes a piece,
/// nor on the thread of the host that asks for them: parallel_for has one around its bodies, and what a function computes
/// beside its loops needs one, too. Compilers move plain arithmetic over calls: what must happen inside has to be a call itself, or
/// to begin and end with fixed_here().
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() noexcept {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatEnvironment() { std::fesetenv(&saved_); }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
  std::fenv_t saved_;
};

/// x, which is computed before this place, and used after it: no arithmetic is moved over what is volatile.
template <class T>
inline T fixed_here(T x) noexcept {
  const volatile T here = x;
  return here;
}

}  // namespace gpt
