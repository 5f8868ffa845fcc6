#include "program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <filesystem>
#include <iostream>
#include <new>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include <gpt/core/error.h>
#include <gpt/core/mapped_file.h>
#include <gpt/io/hf_config.h>
#include <gpt/io/safetensors.h>
#include <gpt/ops/isa.h>

namespace program {
namespace {

constexpr const char* kExitStatus = R"(

Exit status: 0 done; 1 a file or the work failed, or an option does not go with a file; 2 the command line is wrong whatever
the files hold; 130 interrupted by Ctrl-C or SIGTERM. A second of these (of gpt-chat: a second SIGTERM) ends the program at once,
and may leave a temporary file (.NAME.tmp-PID-N) behind.)";

constexpr std::string_view kStandardInput = "-";

constexpr int kSignals[] = {SIGINT, SIGTERM};

// What the handler needs: where it writes, and whether Ctrl-C may come again.
volatile sig_atomic_t write_end = -1;
volatile sig_atomic_t ctrl_c_again = 0;

/// The one that takes the signals, if any does.
const Interrupt* living = nullptr;

/// Gives the signals whose handler is `old` a new one.
void replace_handler(void (*old)(int), void (*handler)(int)) {
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
void request_stop(int signal) {
  const int saved = errno;
  if (signal != SIGINT || ctrl_c_again == 0) replace_handler(request_stop, SIG_DFL);
  const char byte = signal == SIGTERM ? 'T' : 'C';
  [[maybe_unused]] const ssize_t ignored = ::write(write_end, &byte, 1);
  errno = saved;
}

/// Were standard input, output or error closed, the next file opened would take its place. To read a closed standard input, or
/// write to a closed standard output, fails as it would without: its place is taken by what cannot be read, or written to. What
/// would go to a closed standard error is lost without an error.
void take_closed_streams() {
  for (const auto& [stream, mode] :
       {std::pair(STDIN_FILENO, O_WRONLY), {STDOUT_FILENO, O_RDONLY}, {STDERR_FILENO, O_RDWR}})
    if (::fcntl(stream, F_GETFD) < 0) ::open("/dev/null", mode);
}

/// Whether write() is to be called again after it failed, once a descriptor that does not block takes more.
bool wait_until_writable(int fd) {
  if (errno == EINTR) return true;
  if (errno != EAGAIN) return false;
  pollfd waiting{.fd = fd, .events = POLLOUT, .revents = 0};
  return ::poll(&waiting, 1, -1) >= 0 || errno == EINTR;
}

}  // namespace

std::string input_name(const std::string& path) { return path == kStandardInput ? "standard input" : path; }

std::string read_all(const std::string& path) {
  const std::string name = input_name(path);
  std::optional<Interrupt> own;
  if (living == nullptr) own.emplace();
  const std::stop_token stop = living->token();
  // Not by the name /dev/stdin: that opens no socket, and a file anew, from its beginning. A named pipe's writer is waited for
  // below, where a signal ends the wait.
  const bool is_standard_input = path == kStandardInput;
  const int fd = is_standard_input ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) gpt::fail<gpt::IoError>(name, "cannot open: ", std::generic_category().message(errno));
  std::string text;
  char buffer[1 << 16];
  int error = 0;
  for (bool is_at_end = false; !is_at_end && error == 0;) {
    pollfd waiting[] = {{.fd = fd, .events = POLLIN, .revents = 0},
                        {.fd = living->descriptor(), .events = POLLIN, .revents = 0}};
    const int ready = ::poll(waiting, 2, -1);
    if (ready > 0 && waiting[1].revents != 0) break;
    const ssize_t got = ready < 0 ? -1 : ::read(fd, buffer, sizeof buffer);
    if (got > 0) text.append(buffer, static_cast<std::size_t>(got));
    if (got < 0 && errno != EINTR && errno != EAGAIN) error = errno;
    is_at_end = got == 0;
  }
  if (!is_standard_input) ::close(fd);
  own.reset();  // what came until here has requested the stop
  if (stop.stop_requested()) gpt::fail<gpt::CancelledError>(name, "reading was stopped");
  if (error == EISDIR) gpt::fail<gpt::IoError>(name, "is a directory, expected a file");
  if (error != 0) gpt::fail<gpt::IoError>(name, "cannot read: ", std::generic_category().message(error));
  text.erase(0, text.size() - gpt::utf8_text(text, name).size());
  return text;
}

void refuse_classifier(const std::string& model) {
  constexpr const char* kHead = "score.weight";
  const std::filesystem::path directory = model;
  const auto has = [&](const char* file) { return std::filesystem::exists(directory / file); };
  bool found = false;
  if (has("config.json")) {
    const gpt::HfConfig config = gpt::HfConfig::load(directory / "config.json");
    if (config.is_list("architectures")) {
      const std::vector<std::string> names = *config.get_string_list("architectures");
      found = std::ranges::find(names, "GPT2ForSequenceClassification") != names.end();
    }
  }
  if (!found && (has("model.safetensors") || has("model.safetensors.index.json")))
    found = gpt::Checkpoint(directory).contains(kHead);
  if (found)
    gpt::fail<gpt::UnsupportedError>(model, "is a classifier's, whose head (", kHead, ") would be lost");
}

Interrupt::Interrupt(CtrlC ctrl_c) {
  if (::pipe2(pipe_, O_CLOEXEC) != 0)
    throw gpt::IoError("cannot make the pipe that tells of Ctrl-C: " +
                       std::generic_category().message(errno));
  if ((arrived_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
    const int error = errno;
    close_all();
    throw gpt::IoError("cannot make what tells of Ctrl-C: " + std::generic_category().message(error));
  }
  write_end = pipe_[1];
  ctrl_c_again = ctrl_c == CtrlC::kAgainAndAgain;
  try {
    watcher_ = std::thread([this] { watch(); });
  } catch (const std::system_error& error) {
    close_all();
    throw gpt::IoError("cannot start the thread that waits for Ctrl-C: " + error.code().message());
  }
  replace_handler(SIG_DFL, request_stop);
  living = this;
}

Interrupt::~Interrupt() {
  living = nullptr;
  replace_handler(request_stop, SIG_DFL);
  ::close(std::exchange(pipe_[1], -1));
  watcher_.join();
  close_all();
}

std::stop_token Interrupt::token() const {
  const std::lock_guard lock(mutex_);
  return source_.get_token();
}

std::stop_token Interrupt::renew() {
  const std::lock_guard lock(mutex_);
  if (terminated_) return source_.get_token();
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t ignored = ::read(arrived_, &count, sizeof count);
  if (source_.stop_requested()) source_ = {};
  return source_.get_token();
}

bool Interrupt::terminated() const {
  const std::lock_guard lock(mutex_);
  return terminated_;
}

// A signal handler may do next to nothing, so it writes a byte, and this thread does the rest.
void Interrupt::watch() {
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

void Interrupt::close_all() noexcept {
  for (const int fd : {pipe_[0], pipe_[1], arrived_})
    if (fd >= 0) ::close(fd);
}

bool Output::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EPIPE) {
      return false;
    } else if (!wait_until_writable(STDOUT_FILENO)) {
      throw gpt::IoError("cannot write to standard output: " + std::generic_category().message(errno));
    }
  }
  return true;
}

std::int64_t peak_rss_bytes() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;  // Linux counts in KiB
}

std::string one_line(std::string_view message) {
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

// In one piece: others may write to the same terminal or file.
void warn(std::string_view message) { std::cerr << gpt::concat("warning: ", one_line(message), "\n"); }
void report_error(std::string_view message) { std::cerr << gpt::concat("error: ", one_line(message), "\n"); }

int run(App& app, int argc, char** argv, const std::function<int()>& work) {
  // A reader that went away, and a file that may not grow further, are errors of write().
  for (const int signal : {SIGPIPE, SIGXFSZ}) ::signal(signal, SIG_IGN);
  take_closed_streams();
  const auto report = [](std::string_view message, int status) {
    report_error(message);
    return status;
  };
  app.add_to_footer(kExitStatus);
  app.add_version(GPT_PROGRAM_VERSION);
  try {
    if (const std::optional<std::string> text = app.parse(argc, argv)) {
      Output().write(*text);
      return kDone;
    }
    gpt::ops::use_amx();  // the process is ours
    return work();
  } catch (const UsageError& error) {
    return report(app.in_options(error.what()), kUsage);
  } catch (const gpt::ArgumentError& error) {
    return report(app.in_options(error.what()), kFailed);
  } catch (const gpt::UnsupportedError& error) {
    return report(app.in_options(error.what()), kFailed);
  } catch (const gpt::CancelledError&) {
    std::cerr << "interrupted: nothing was written\n";
    return kInterrupted;
  } catch (const gpt::MemoryError& error) {
    const bool packs = std::string_view(error.what()).starts_with("[pack] ") && app.has("--no-pack");
    return report(packs ? gpt::concat(error.what(), ": --no-pack does without") : error.what(), kFailed);
  } catch (const std::bad_alloc&) {
    return report("out of memory", kFailed);
  } catch (const std::exception& error) {
    return report(error.what(), kFailed);
  }
}

}  // namespace program
