// The locale that numbers are read and written in.
#pragma once

#include <locale.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

#include <string_view>

#include "gpt/core/error.h"

namespace gpt {

/// The C locale for this thread while it lives, whatever the host has set for the thread or the process; for other people's code
/// that asks the C library for numbers, whose text must not depend on the host.
class CLocale {
 public:
  /// Throws MemoryError naming `what`: the first time, the C library may need memory.
  explicit CLocale(std::string_view what) : saved_(::uselocale(c_locale(what))) {}
  ~CLocale() { ::uselocale(saved_); }
  CLocale(const CLocale&) = delete;
  CLocale& operator=(const CLocale&) = delete;

 private:
  // Made once, and never released: a thread may be using it when the program ends.
  static locale_t c_locale(std::string_view what) {
    static const locale_t made = [what] {
      const locale_t c = ::newlocale(LC_ALL_MASK, "C", nullptr);
      if (c == nullptr) fail<MemoryError>(what, "no memory for the C locale");
      return c;
    }();
    return made;
  }

  locale_t saved_;
};

}  // namespace gpt
