// What the operating system says about this process' memory.
#pragma once

#include <optional>

namespace gpt::bench {

/// Gives freed memory back and starts a new measurement of the peak. False where the system has no way to: the peak is
/// then that of the process' whole life.
bool reset_peak_rss();

/// The most memory this process had since then, in MiB (VmHWM).
std::optional<double> peak_rss_mib();

/// Whether most of the mapping around `address` lies in pages of 2 MiB. False where the system does not say.
bool on_huge_pages(const void* address);

}  // namespace gpt::bench
