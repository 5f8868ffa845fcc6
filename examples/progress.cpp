#include "progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <locale>
#include <sstream>
#include <string_view>

namespace program {
namespace {

std::ostringstream line() {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  return out;
}

/// What stands after the number of the step.
std::string values_text(const gpt::TrainingLog& log, std::optional<double> seconds_left) {
  std::ostringstream out = line();
  out << std::fixed << "  loss " << std::setprecision(4) << log.loss << "  lr " << std::scientific
      << std::setprecision(2) << log.learning_rate << std::fixed << std::setprecision(0) << "  "
      << log.tokens_per_s << " tok/s";
  if (seconds_left) out << "  " << duration_text(*seconds_left) << " left";
  return out.str();
}

std::string step_text(const gpt::TrainingLog& log) { return gpt::concat(log.step, "/", log.total_steps); }

bool terminal_shows_unicode() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"})
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0') {
      const std::string_view locale = value;
      return locale.find("UTF-8") != locale.npos || locale.find("utf8") != locale.npos;
    }
  return false;
}

int terminal_columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(std::clamp(seconds, 0.0, 1e15)));
  std::ostringstream out = line();
  out << whole / 3600 << std::setfill('0') << ':' << std::setw(2) << whole / 60 % 60 << ':' << std::setw(2)
      << whole % 60;
  return out.str();
}

std::string progress_text(const gpt::TrainingLog& log, std::optional<double> seconds_left) {
  return "step " + step_text(log) + values_text(log, seconds_left);
}

std::string progress_bar(const gpt::TrainingLog& log, std::optional<double> seconds_left, int columns,
                         bool unicode) {
  constexpr int kNarrowest = 10, kWidest = 30;
  const std::string step = step_text(log), values = values_text(log, seconds_left);
  const auto room =
      static_cast<std::size_t>(std::max(1, columns - 1));  // in the last column some terminals break the line
  const int width = static_cast<int>(room) - static_cast<int>(step.size() + 1 + values.size());
  if (width < kNarrowest) return (step + values).substr(0, room);
  const double part =
      static_cast<double>(log.step) / static_cast<double>(std::max<std::int64_t>(1, log.total_steps));
  const int cells = std::min(width, kWidest);
  const int full = static_cast<int>(std::clamp(part, 0.0, 1.0) * cells);
  std::string bar;
  for (int i = 0; i < cells; ++i) bar += i < full ? (unicode ? "█" : "#") : (unicode ? "░" : ".");
  return step + " " + bar + values;
}

Progress::Progress() : terminal_(::isatty(STDERR_FILENO) != 0), unicode_(terminal_shows_unicode()) {}

Progress::~Progress() {
  if (bar_is_there_) std::cerr << '\n';
}

std::optional<double> Progress::seconds_left(const gpt::TrainingLog& log) const {
  if (log.step <= first_) return std::nullopt;
  const double per_step =
      std::chrono::duration<double>(Clock::now() - start_).count() / static_cast<double>(log.step - first_);
  return per_step * static_cast<double>(log.total_steps - log.step);
}

void Progress::on_step(const gpt::TrainingLog& log) {
  const auto now = Clock::now();
  if (first_ < 0) {
    first_ = log.step;
    start_ = now;
  }
  constexpr auto kPause = std::chrono::milliseconds(100);  // nobody reads faster
  if (!terminal_ || (bar_is_there_ && now - drawn_ < kPause && log.step < log.total_steps)) return;
  std::cerr << '\r' << progress_bar(log, seconds_left(log), terminal_columns(), unicode_) << "\x1b[K"
            << std::flush;
  bar_is_there_ = true;
  drawn_ = now;
}

void Progress::on_log(const gpt::TrainingLog& log) const {
  if (!terminal_) std::cerr << progress_text(log, seconds_left(log)) << '\n';
}

void Progress::on_evaluate(const gpt::EvaluationLog& log) {
  std::ostringstream out = line();
  out << "step " << log.step << "  eval_loss " << std::fixed << std::setprecision(4) << log.eval_loss
      << std::setprecision(log.metrics.empty() ? 3 : 4);
  for (const auto& [name, value] : log.metrics) out << "  " << name << ' ' << value;
  if (log.metrics.empty()) out << "  perplexity " << log.perplexity;
  out << (log.best ? "  (best)" : "");
  std::cerr << (bar_is_there_ ? "\r\x1b[K" : "") << out.str() << '\n';
  bar_is_there_ = false;
}

gpt::TrainingCallbacks Progress::callbacks() {
  return {.on_log = [this](const gpt::TrainingLog& log) { on_log(log); },
          .on_step = [this](const gpt::TrainingLog& log) { on_step(log); },
          .on_evaluate = [this](const gpt::EvaluationLog& log) { on_evaluate(log); }};
}

}  // namespace program
