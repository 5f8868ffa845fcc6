// What the programs share: exit statuses, Ctrl-C, input of any kind, standard output, and the body of main.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <exception>
#include <iostream>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <gpt/core/error.h>
#include <CLI/CLI.hpp>

#include "command_line.h"

namespace program {

// Exit statuses. A command line that is wrong whatever the files hold is told from one that these files do not go with.
inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;
inline constexpr int kInterrupted = 130;
inline constexpr const char* kExitStatus = R"(

Exit status: 0 done; 1 a file or the work failed, or an option does not go with a file; 2 the command line is wrong whatever
the files hold; 130 interrupted by Ctrl-C or SIGTERM. A second of these ends the program at once, and may leave a
temporary file (.NAME.tmp-PID-N) behind.)";

/// All that a file, a pipe or a device gives until its end. Throws IoError naming the path.
inline std::string read_all(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) gpt::fail<gpt::IoError>(path, "cannot open: ", std::generic_category().message(errno));
  std::string text;
  char buffer[1 << 16];
  ssize_t got = 0;
  do {
    got = ::read(fd, buffer, sizeof buffer);
    if (got > 0) text.append(buffer, static_cast<std::size_t>(got));
  } while (got > 0 || (got < 0 && errno == EINTR));
  const int error = got < 0 ? errno : 0;
  ::close(fd);
  if (error == EISDIR) gpt::fail<gpt::IoError>(path, "is a directory, expected a file");
  if (error != 0) gpt::fail<gpt::IoError>(path, "cannot read: ", std::generic_category().message(error));
  return text;
}

/// While it lives, Ctrl-C and SIGTERM request a stop instead of ending the process; a second one, of either kind, ends it. Where
/// whoever started the program wants it to ignore one of them (nohup, a script's job in the background), it does.
class Interrupt {
 public:
  enum class CtrlC { kOnce, kAgainAndAgain };

  /// With kAgainAndAgain, Ctrl-C never ends the process: each stops what goes on, see renew(). A second SIGTERM does.
  explicit Interrupt(CtrlC ctrl_c = CtrlC::kOnce) {
    if (::pipe2(pipe_, O_CLOEXEC) != 0)
      throw gpt::IoError("cannot make the pipe that tells of Ctrl-C: " +
                         std::generic_category().message(errno));
    if ((arrived_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
      const int error = errno;
      close_all();
      throw gpt::IoError("cannot make what tells of Ctrl-C: " + std::generic_category().message(error));
    }
    write_end_ = pipe_[1];
    again_ = ctrl_c == CtrlC::kAgainAndAgain;
    try {
      watcher_ = std::thread([this] { watch(); });
    } catch (const std::system_error& error) {
      close_all();
      throw gpt::IoError("cannot start the thread that waits for Ctrl-C: " + error.code().message());
    }
    replace(SIG_DFL, request);
  }
  ~Interrupt() {
    replace(request, SIG_DFL);
    ::close(std::exchange(pipe_[1], -1));
    watcher_.join();
    close_all();
  }
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  std::stop_token token() const {
    const std::lock_guard lock(mutex_);
    return source_.get_token();
  }

  /// Forgets a Ctrl-C that came before, and gives the token of what begins now. SIGTERM is not forgotten.
  std::stop_token renew() {
    const std::lock_guard lock(mutex_);
    if (terminated_) return source_.get_token();
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t ignored = ::read(arrived_, &count, sizeof count);
    if (source_.stop_requested()) source_ = {};
    return source_.get_token();
  }

  /// Whether SIGTERM came.
  bool terminated() const {
    const std::lock_guard lock(mutex_);
    return terminated_;
  }

  /// For poll(): has something to read from a signal on until renew().
  int descriptor() const noexcept { return arrived_; }

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM};

  /// Gives the signals whose handler is `old` a new one.
  static void replace(void (*old)(int), void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    for (const int signal : kSignals)
      ::sigaddset(&action.sa_mask, signal);  // a second one waits for the handler's end
    for (const int signal : kSignals) {
      struct sigaction now {};
      ::sigaction(signal, nullptr, &now);
      if (now.sa_handler == old) ::sigaction(signal, &action, nullptr);
    }
  }
  static void request(int signal) {
    const int saved = errno;
    if (signal != SIGINT || again_ == 0) replace(request, SIG_DFL);
    const char byte = signal == SIGTERM ? 'T' : 'C';
    [[maybe_unused]] const ssize_t ignored = ::write(write_end_, &byte, 1);
    errno = saved;
  }

  // A signal handler may do next to nothing, so it writes a byte, and this thread does the rest.
  void watch() {
    for (;;) {
      char byte = 0;
      const ssize_t got = ::read(pipe_[0], &byte, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got != 1) return;
      const std::lock_guard lock(mutex_);
      terminated_ = terminated_ || byte == 'T';
      source_.request_stop();
      const std::uint64_t one = 1;
      [[maybe_unused]] const ssize_t ignored = ::write(arrived_, &one, sizeof one);
    }
  }

  void close_all() noexcept {
    for (const int fd : {pipe_[0], pipe_[1], arrived_})
      if (fd >= 0) ::close(fd);
  }

  inline static volatile sig_atomic_t write_end_ = -1;
  inline static volatile sig_atomic_t again_ = 0;
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
  bool write(std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
      if (written >= 0) {
        text.remove_prefix(static_cast<std::size_t>(written));
      } else if (errno == EPIPE) {
        return false;
      } else if (errno != EINTR) {
        throw gpt::IoError("cannot write to standard output: " + std::generic_category().message(errno));
      }
    }
    return true;
  }
};

/// The most memory that this process has had in use, in bytes.
inline std::int64_t peak_rss_bytes() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;  // Linux counts in KiB
}

/// The message with what would break its line, or move a terminal's cursor, made visible.
inline std::string one_line(std::string_view message) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (std::size_t i = 0; i < message.size(); ++i) {
    const auto byte = static_cast<unsigned char>(message[i]);
    const auto next = i + 1 < message.size() ? static_cast<unsigned char>(message[i + 1]) : 0;
    // In UTF-8, 0xc2 0x80 .. 0xc2 0x9f are control characters, too.
    if (byte >= 0x20 && byte != 0x7f && !(byte == 0xc2 && next >= 0x80 && next < 0xa0))
      out += message[i];
    else
      (out += "\\x").append({kDigits[byte >> 4], kDigits[byte & 15]});
  }
  return out;
}

/// A LoadOptions::on_warning: one line on standard error.
inline void warn(std::string_view message) { std::cerr << "warning: " << one_line(message) << '\n'; }

/// The body of main: parses the command line, does the work, and turns every failure into an exit status and
/// one line on standard error.
template <class Work>
int run(CLI::App& app, int argc, char** argv, Work&& work) {
  // A reader that went away, and a file that may not grow further, are errors of write().
  for (const int signal : {SIGPIPE, SIGXFSZ}) ::signal(signal, SIG_IGN);
  // Were standard input, output or error closed, the next file opened would take its place.
  for (int fd = ::open("/dev/null", O_RDWR); fd >= 0 && fd <= STDERR_FILENO;)
    fd = ::open("/dev/null", O_RDWR);
  const auto report = [](std::string_view message, int status) {
    std::cerr << "error: " << one_line(message) << '\n';
    return status;
  };
  app.footer(app.get_footer() + kExitStatus);
  app.set_version_flag("--version", gpt::concat(app.get_name(), " ", GPT_PROGRAM_VERSION),
                       "Print the version and exit");
  try {
    try {
      std::vector<std::string> arguments = split_arguments(app, argc, argv);
      std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
      app.parse(std::move(arguments));
    } catch (const CLI::CallForHelp&) {
      Output().write(app.help());
      return kDone;
    } catch (const CLI::CallForVersion& version) {
      Output().write(gpt::concat(version.what(), "\n"));
      return kDone;
    }
    return work();
  } catch (const CLI::ParseError& error) {
    return report(error.what(), kUsage);
  } catch (const UsageError& error) {
    return report(in_options(app, error.what()), kUsage);
  } catch (const gpt::ArgumentError& error) {
    return report(in_options(app, error.what()), kFailed);
  } catch (const gpt::CancelledError&) {
    std::cerr << "interrupted: nothing was written\n";
    return kInterrupted;
  } catch (const std::bad_alloc&) {
    return report("out of memory", kFailed);
  } catch (const std::exception& error) {
    return report(error.what(), kFailed);
  }
}

}  // namespace program
