// A full disk, for the tests of what writes files.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string_view>

#include "gpt/core/error.h"

namespace gpt::test {

/// Runs `work` in a child process whose files cannot grow beyond `limit` bytes, as on a full disk; its result
/// is the child's exit status.
template <class Work>
int with_file_size_limit(rlim_t limit, Work work) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit sizes{limit, limit};
    if (::setrlimit(RLIMIT_FSIZE, &sizes) != 0) ::_exit(99);
    ::_exit(work());
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

enum Outcome { kNoError = 1, kIoErrorNamingTheFile, kOtherError };

template <class Work>
Outcome outcome_of(Work work, std::string_view name) {
  try {
    work();
    return kNoError;
  } catch (const IoError& error) {
    return std::string_view(error.what()).find(name) != std::string_view::npos ? kIoErrorNamingTheFile
                                                                               : kOtherError;
  } catch (...) {
    return kOtherError;
  }
}

}  // namespace gpt::test
