#include "bench/support/memory.h"

#include <sys/resource.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

namespace gpt::bench {
namespace {

// "VmHWM:   1234 kB" -> 1234, when the line starts with `key`.
std::optional<double> kilobytes(const std::string& line, std::string_view key) {
  if (!line.starts_with(key)) return std::nullopt;
  return std::atof(line.c_str() + key.size());
}

}  // namespace

bool reset_peak_rss() {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
  std::ofstream file("/proc/self/clear_refs");
  file << '5' << std::flush;
  return file.good();
}

std::optional<double> peak_rss_mib() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (const auto kb = kilobytes(line, "VmHWM:")) return *kb / 1024;
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) != 0 || usage.ru_maxrss <= 0) return std::nullopt;
#if defined(__APPLE__)
  return static_cast<double>(usage.ru_maxrss) / (1 << 20);
#else
  return static_cast<double>(usage.ru_maxrss) / 1024;
#endif
}

bool on_huge_pages(const void* address) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream file("/proc/self/smaps");
  bool inside = false;
  double rss = 0, huge = 0;
  for (std::string line; std::getline(file, line);) {
    const char* const end = line.data() + line.size();
    std::uintptr_t first = 0, last = 0;
    const auto dash = std::from_chars(line.data(), end, first, 16).ptr;
    if (dash != line.data() && dash < end && *dash == '-') {  // the head of a mapping: 7f12-7f34 rw-p ...
      if (inside) break;
      std::from_chars(dash + 1, end, last, 16);
      inside = first <= wanted && wanted < last;
    } else if (inside) {
      if (const auto kb = kilobytes(line, "Rss:")) rss = *kb;
      for (const auto* key : {"AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:"})
        if (const auto kb = kilobytes(line, key)) huge += *kb;
    }
  }
  return huge > 0 && 2 * huge >= rss;
}

}  // namespace gpt::bench
