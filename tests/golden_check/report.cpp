#include "report.h"

#include <charconv>
#include <ostream>

namespace gpt::golden {

namespace {

// Six digits, in every locale; "nan" and "inf" as they are.
std::string number(double x) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, x, std::chars_format::general, 6).ptr};
}

}  // namespace

void Report::add(std::string_view folder, std::string_view quantity, const Outcome& outcome) {
  std::string error = "-";
  std::string tolerance = "-";
  std::string_view status = "FAIL";
  switch (outcome.kind) {
    case Outcome::Kind::kInput: status = "input"; break;
    case Outcome::Kind::kSkip:
      status = "skip";
      ++skipped_;
      break;
    case Outcome::Kind::kThrown:
      error = "exception";
      ++failed_;
      break;
    case Outcome::Kind::kCompared:
      error = number(outcome.error);
      tolerance = number(outcome.tolerance);
      if (holds(outcome)) status = "ok";
      ++(holds(outcome) ? passed_ : failed_);
      break;
  }
  out_ << folder << '\t' << quantity << '\t' << error << '\t' << tolerance << '\t' << status << '\n';
  if (status == "FAIL" && !outcome.detail.empty())
    err_ << folder << ": " << quantity << ": " << outcome.detail << '\n';
}

void Report::unreadable(std::string_view message) {
  err_ << "error: " << message << '\n';
  ++unreadable_;
}

void Report::summary() {
  out_ << passed_ << " passed, " << failed_ << " failed, " << skipped_ << " skipped\n";
  out_.flush();
}

int Report::exit_status() const noexcept {
  if (unreadable_ > 0) return 2;
  return failed_ > 0 ? 1 : 0;
}

}  // namespace gpt::golden
