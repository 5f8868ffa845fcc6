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

Process::Process(const std::vector<std::string>& argv, const std::string& out_path) : err_(anonymous_file()) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("cannot make a pipe");
  out_ = ends[0];
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  if (out_path.empty()) {
    ::posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  } else {
    ::posix_spawn_file_actions_addopen(&actions, 1, out_path.c_str(), O_WRONLY, 0);
  }
  ::posix_spawn_file_actions_adddup2(&actions, err_, 2);
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const int error = ::posix_spawn(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (error != 0) throw std::runtime_error("cannot start " + argv[0]);
}

Process::~Process() {
  if (pid_ > 0) {
    send(SIGKILL);
    wait();
  }
  close_stdout();
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
  ::lseek(err_, 0, SEEK_SET);
  char buffer[4096];
  for (ssize_t got = 0; (got = ::read(err_, buffer, sizeof buffer)) > 0;)
    result_.err.append(buffer, static_cast<std::size_t>(got));
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
