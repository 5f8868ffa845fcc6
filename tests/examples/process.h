// Runs a program as a shell would, without a shell.
#pragma once

#include <sys/types.h>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace gpt::test {

struct ProcessResult {
  int status = 0;  // the exit status; 128 + the signal's number when a signal ended it
  std::string out;
  std::string err;
};

/// What a program has for its standard input. A terminal is its controlling one, as where a user has started it.
enum class Input { kNothing, kPipe, kTerminal };

/// A started program: argv[0] is its path. Its standard output is a pipe, its standard error a file.
class Process {
 public:
  /// `out_path`, when not empty, is opened for its standard output instead of a pipe. Throws std::runtime_error.
  explicit Process(const std::vector<std::string>& argv, const std::string& out_path = "",
                   Input input = Input::kNothing);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  /// What it writes next to standard output, at least one byte; empty at the end.
  std::string read_some();
  /// Reads until all that was written to standard output is or ends with `end`; false where it ends otherwise.
  bool read_until(std::string_view end);
  /// Waits until standard error has `part` in it behind the first `from` bytes; false when the program has ended without.
  bool await_error(std::string_view part, std::size_t from = 0);
  /// What it has written to standard error so far.
  std::string errors() const;
  /// Writes to its standard input; what it does not read any more is lost.
  void write(std::string_view text) const;
  void close_stdin();
  void close_stdout();
  void send(int signal) const;
  /// Reads the rest and waits for the end.
  ProcessResult wait();

 private:
  pid_t pid_ = -1;
  int in_ = -1;
  int out_ = -1;
  int err_ = -1;
  ProcessResult result_;
};

/// Expects that a program exits with the status and with one line "error: ..." on standard error that has `part` in it, and that
/// it writes nothing to standard output.
void expect_failure(int status, const std::vector<std::string>& argv, const std::string& part);

}  // namespace gpt::test
