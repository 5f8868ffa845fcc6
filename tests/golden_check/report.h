// What golden_check says: one line per quantity, counted.
#pragma once

#include <cmath>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>

namespace gpt::golden {

/// The result of looking at one quantity.
struct Outcome {
  enum class Kind {
    kCompared,  // error against tolerance
    kInput,     // given to the library, nothing to compare
    kSkip,      // the library, or the command line, lacks what it takes
    kThrown,    // the check ended in an exception
  };
  Kind kind = Kind::kSkip;
  double error = 0;
  double tolerance = 0;
  std::string detail = {};  // what is wrong, for people

  static Outcome input() { return {Kind::kInput}; }
  static Outcome skip() { return {Kind::kSkip}; }
  static Outcome compared(double error, double tolerance, std::string detail = {}) {
    return {Kind::kCompared, error, tolerance, std::move(detail)};
  }
  /// Something that must be exact: `wrong` counts what is not.
  static Outcome exact(std::int64_t wrong, std::string detail = {}) {
    return compared(static_cast<double>(wrong), 0, std::move(detail));
  }
  static Outcome thrown(std::string message) { return {Kind::kThrown, 0, 0, std::move(message)}; }
};

/// True when the outcome is a comparison that holds. NaN and infinity never hold.
inline bool holds(const Outcome& outcome) {
  return outcome.kind == Outcome::Kind::kCompared && std::isfinite(outcome.error) &&
         outcome.error <= outcome.tolerance;
}

/// Prints "folder<TAB>quantity<TAB>largest error<TAB>tolerance<TAB>status" lines to `out` as they come, and
/// what is wrong with the failed ones to `err`. The status is ok, FAIL, skip or input; numbers that do not
/// exist are "-".
class Report {
 public:
  Report(std::ostream& out, std::ostream& err) : out_(out), err_(err) {}

  void add(std::string_view folder, std::string_view quantity, const Outcome& outcome);
  /// A folder that cannot be read.
  void unreadable(std::string_view message);
  /// What has a line that is no input's, and what of it was compared.
  std::int64_t judged() const noexcept { return passed_ + failed_ + skipped_; }
  std::int64_t compared() const noexcept { return passed_ + failed_; }
  /// The last line: "N passed, N failed, N skipped".
  void summary();

  /// 0 when all is well, 1 after a failure, 2 when something could not be read or nothing was compared.
  int exit_status() const noexcept;

 private:
  std::ostream& out_;
  std::ostream& err_;
  std::int64_t passed_ = 0;
  std::int64_t failed_ = 0;
  std::int64_t skipped_ = 0;
  std::int64_t unreadable_ = 0;
};

}  // namespace gpt::golden
