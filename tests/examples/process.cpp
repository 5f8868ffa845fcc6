#include "examples/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>

extern char** environ;

namespace gpt::test {
namespace {

// An open file without a name: reading it afterwards cannot block, as a second pipe could.
int anonymous_file() {
  char name[] = "/tmp/gpt-test-XXXXXX";
  const int fd = ::mkostemp(name, O_CLOEXEC);
  if (fd < 0) throw std::runtime_error("cannot make a temporary file");
  ::unlink(name);
  return fd;
}

}  // namespace

Process::Process(const std::vector<std::string>& argv, const std::string& out_path, Input input)
    : err_(anonymous_file()) {
  int ends[2], in_ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("cannot make a pipe");
  out_ = ends[0];
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  if (input == Input::kPipe) {
    if (::pipe2(in_ends, O_CLOEXEC) != 0) throw std::runtime_error("cannot make a pipe");
    in_ = in_ends[1];
    ::posix_spawn_file_actions_adddup2(&actions, in_ends[0], 0);
  } else if (input == Input::kTerminal) {
    in_ = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (in_ < 0 || ::grantpt(in_) != 0 || ::unlockpt(in_) != 0)
      throw std::runtime_error("cannot make a terminal");
    // The first terminal that the leader of a session opens is its controlling one.
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    ::posix_spawn_file_actions_addopen(&actions, 0, ::ptsname(in_), O_RDWR, 0);
  } else {
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  }
  if (out_path.empty()) {
    ::posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  } else {
    ::posix_spawn_file_actions_addopen(&actions, 1, out_path.c_str(), O_WRONLY, 0);
  }
  ::posix_spawn_file_actions_adddup2(&actions, err_, 2);
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const int error = ::posix_spawn(&pid_, arguments[0], &actions, &attributes, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  ::close(ends[1]);
  if (in_ends[0] >= 0) ::close(in_ends[0]);
  if (error != 0) throw std::runtime_error("cannot start " + argv[0]);
}

Process::~Process() {
  if (pid_ > 0) {
    send(SIGKILL);
    wait();
  }
  close_stdout();
  close_stdin();
  ::close(err_);
}

std::string Process::read_some() {
  char buffer[4096];
  ssize_t got = 0;
  do {
    got = ::read(out_, buffer, sizeof buffer);
  } while (got < 0 && errno == EINTR);
  std::string text(buffer, got > 0 ? static_cast<std::size_t>(got) : 0);
  result_.out += text;
  return text;
}

bool Process::read_until(std::string_view end) {
  while (!result_.out.ends_with(end))
    if (read_some().empty()) return false;
  return true;
}

std::string Process::errors() const {
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::pread(err_, buffer, sizeof buffer, static_cast<off_t>(text.size()))) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  return text;
}

bool Process::await_error(std::string_view part, std::size_t from) {
  for (;;) {
    siginfo_t ended{};
    ::waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT);
    if (errors().find(part, from) != std::string::npos) return true;
    if (ended.si_pid != 0) return false;
    ::usleep(1000);
  }
}

void Process::write(std::string_view text) const {
  const auto before = ::signal(SIGPIPE, SIG_IGN);
  while (!text.empty()) {
    const ssize_t written = ::write(in_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) break;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  ::signal(SIGPIPE, before);
}

void Process::close_stdin() {
  if (in_ >= 0) ::close(in_);
  in_ = -1;
}

void Process::close_stdout() {
  if (out_ >= 0) ::close(out_);
  out_ = -1;
}

void Process::send(int signal) const { ::kill(pid_, signal); }

ProcessResult Process::wait() {
  while (out_ >= 0 && !read_some().empty()) {
  }
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  result_.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result_.err = errors();
  return result_;
}

void expect_failure(int status, const std::vector<std::string>& argv, const std::string& part) {
  const ProcessResult result = Process(argv).wait();
  SCOPED_TRACE(::testing::PrintToString(argv));
  EXPECT_EQ(result.status, status);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, ::testing::StartsWith("error: "));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  EXPECT_THAT(result.err, ::testing::HasSubstr(part));
}

}  // namespace gpt::test
