// The machine's limits, measured on demand by the program bench_peaks in a process of its own.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace gpt::bench {

enum class Peak { kFma, kInt8, kInt8Sum16, kInt16, kInt8Tiles, kRead4k, kRead2m, kReadCache };

/// Its name in requests to bench_peaks.
std::string_view name_of(Peak peak);

/// A running bench_peaks. Everything it cannot do gives an empty result, never an error: a benchmark without fractions
/// is better than none.
class PeakProcess {
 public:
  PeakProcess() = default;  // measures nothing
  /// Starts `program`, which does little when it is for `smoke`; when that fails, says so on stderr and measures nothing.
  PeakProcess(const std::string& program, bool smoke);
  ~PeakProcess();
  PeakProcess(const PeakProcess&) = delete;
  PeakProcess& operator=(const PeakProcess&) = delete;

  /// In GFLOP/s, GOP/s or GB/s, with so many threads at once; takes about 0.05 s.
  std::optional<double> measure(Peak peak, int threads);

 private:
  void stop();

  int child_ = -1;
  int socket_ = -1;
};

}  // namespace gpt::bench
