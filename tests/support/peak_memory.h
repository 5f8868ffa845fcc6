// How much memory something takes while it lasts. Sanitizers hold on to what is released.
#pragma once

#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <string>

#include "gpt/core/parallel.h"

namespace gpt::test {

/// The most memory that this process has had in use, in bytes.
inline std::int64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  std::int64_t kib = -1;
  for (std::string word; status >> word;)
    if (word == "VmHWM:") status >> kib;
  return kib * 1024;
}

/// What `work` takes beyond what was in use before, at its peak. It runs in a child process, in one thread.
template <class Work>
std::int64_t peak_memory_of(Work work) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    set_num_threads(1);
    // As in a program that has released large pieces before: malloc takes such from its heap then, and keeps them.
    ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
    ::mallopt(M_TRIM_THRESHOLD, 64 << 20);
    std::ofstream("/proc/self/clear_refs") << "5";  // resets the peak
    const std::int64_t before = peak_memory();
    work();
    const std::int64_t bytes = peak_memory() - before;
    ::_exit(::write(ends[1], &bytes, sizeof bytes) == sizeof bytes ? 0 : 1);
  }
  std::int64_t bytes = -1;
  EXPECT_EQ(::read(ends[0], &bytes, sizeof bytes), ssize_t{sizeof bytes});
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  for (const int end : ends) ::close(end);
  return bytes;
}

}  // namespace gpt::test
