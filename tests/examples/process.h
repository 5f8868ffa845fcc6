// Runs a program as a shell would, without a shell.
#pragma once

#include <sys/types.h>
#include <string>
#include <vector>

namespace gpt::test {

struct ProcessResult {
  int status = 0;  // the exit status; 128 + the signal's number when a signal ended it
  std::string out;
  std::string err;
};

/// A started program: argv[0] is its path. Its standard output is a pipe, its standard error a file.
class Process {
 public:
  /// `out_path`, when not empty, is opened for its standard output instead of a pipe. Throws std::runtime_error.
  explicit Process(const std::vector<std::string>& argv, const std::string& out_path = "");
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  /// What it writes next to standard output, at least one byte; empty at the end.
  std::string read_some();
  void close_stdout();
  void send(int signal) const;
  /// Reads the rest and waits for the end.
  ProcessResult wait();

 private:
  pid_t pid_ = -1;
  int out_ = -1;
  int err_ = -1;
  ProcessResult result_;
};

/// Expects that a program exits with the status and with one line "error: ..." on standard error that has `part` in it, and that
/// it writes nothing to standard output.
void expect_failure(int status, const std::vector<std::string>& argv, const std::string& part);

}  // namespace gpt::test
