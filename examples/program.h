// What the programs share: exit statuses, Ctrl-C, input of any kind, standard output, and the body of main.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>

#include "command_line.h"

namespace program {

// Exit statuses. A command line that is wrong whatever the files hold is told from one that these files do not go with.
inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;
inline constexpr int kInterrupted = 130;

/// What messages call a path that read_all takes: standard input where it is "-".
std::string input_name(const std::string& path);

/// All that a file, a pipe or a device gives until its end; what is left of standard input where the path is "-". Without
/// the byte order mark of UTF-8; throws FormatError for that of UTF-16, IoError, naming the path; CancelledError once Ctrl-C or
/// SIGTERM came, with or without an Interrupt that lives.
std::string read_all(const std::string& path);

/// Throws UnsupportedError for the directory of a classifier, where another program would lose its head.
void refuse_classifier(const std::string& model);

/// While it lives, Ctrl-C and SIGTERM request a stop instead of ending the process; a second one, of either kind, ends it. Where
/// whoever started the program wants it to ignore one of them (nohup, a script's job in the background), it does. One lives at a
/// time.
class Interrupt {
 public:
  enum class CtrlC { kOnce, kAgainAndAgain };

  /// With kAgainAndAgain, Ctrl-C never ends the process: each stops what goes on, see renew(). A second SIGTERM does.
  explicit Interrupt(CtrlC ctrl_c = CtrlC::kOnce);
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  std::stop_token token() const;

  /// Forgets a Ctrl-C that came before, and gives the token of what begins now. SIGTERM is not forgotten.
  std::stop_token renew();

  /// Whether SIGTERM came.
  bool terminated() const;

  /// For poll(): has something to read from a signal on until renew().
  int descriptor() const noexcept { return arrived_; }

 private:
  void watch();
  void close_all() noexcept;

  int pipe_[2] = {-1, -1};
  int arrived_ = -1;
  mutable std::mutex mutex_;  // of what follows
  std::stop_source source_;
  bool terminated_ = false;
  std::thread watcher_;
};

/// Standard output without a buffer, so that text appears as it is made.
class Output {
 public:
  /// False when nobody reads any more (head). Throws IoError when writing fails otherwise (a full disk).
  bool write(std::string_view text);
};

/// The most memory that this process has had in use, in bytes.
std::int64_t peak_rss_bytes();

/// The message with what would break its line, or move a terminal's cursor, made visible.
std::string one_line(std::string_view message);

/// A LoadOptions::on_warning: one line on standard error.
void warn(std::string_view message);

/// What ends the work, or a part of it: one line on standard error.
void report_error(std::string_view message);

/// The body of main: parses the command line, does the work, and turns every failure into an exit status and
/// one line on standard error.
int run(App& app, int argc, char** argv, const std::function<int()>& work);

}  // namespace program
