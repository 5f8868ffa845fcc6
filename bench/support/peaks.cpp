#include "bench/support/peaks.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <iostream>

#include "gpt/core/error.h"

extern char** environ;

namespace gpt::bench {

std::string_view name_of(Peak peak) {
  switch (peak) {
    case Peak::kFma: return "fma";
    case Peak::kInt8: return "int8";
    case Peak::kInt8Sum16: return "int8_sum16";
    case Peak::kInt16: return "int16";
    case Peak::kInt8Tiles: return "int8_tiles";
    case Peak::kRead4k: return "read_4k";
    case Peak::kRead2m: return "read_2m";
    case Peak::kReadCache: return "read_cache";
  }
  return "";
}

PeakProcess::PeakProcess(const std::string& program, bool smoke) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return;
  ::fcntl(ends[0], F_SETFD, FD_CLOEXEC);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_addclose(&actions, ends[1]);
  std::string path = program, serve = "--serve", little = "--smoke";
  char* const arguments[] = {path.data(), serve.data(), smoke ? little.data() : nullptr, nullptr};
  const int error = ::posix_spawn(&child_, path.c_str(), &actions, nullptr, arguments, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  socket_ = ends[0];
  if (error == 0) return;
  child_ = -1;
  stop();
  std::cerr << "warning: cannot start " << program << ": no fractions of the peaks\n";
}

PeakProcess::~PeakProcess() { stop(); }

void PeakProcess::stop() {
  if (socket_ >= 0) ::close(socket_);  // its end of input: the process ends
  if (child_ > 0) ::waitpid(child_, nullptr, 0);
  socket_ = child_ = -1;
}

std::optional<double> PeakProcess::measure(Peak peak, int threads) {
  if (socket_ < 0) return std::nullopt;
  const std::string request = concat(name_of(peak), " ", threads, "\n");
  std::string answer;
  bool alive =
      ::send(socket_, request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size());
  while (alive && !answer.ends_with('\n')) {
    char c = 0;
    const ssize_t n = ::recv(socket_, &c, 1, 0);
    if (n == 1)
      answer += c;
    else
      alive = n < 0 && errno == EINTR;
  }
  if (!alive) {
    std::cerr << "warning: the process that measures the peaks has ended: no fractions from here on\n";
    stop();
    return std::nullopt;
  }
  const double rate = std::atof(answer.c_str());
  return rate > 0 ? std::optional(rate) : std::nullopt;
}

}  // namespace gpt::bench
