// What the programs read from standard input and write to standard output, whatever these are.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "examples/process.h"
#include "examples/program.h"
#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace program {
namespace {

/// While it lives, a standard stream is another descriptor, which it takes over.
class StandIn {
 public:
  StandIn(int descriptor, int stream) : stream_(stream), saved_(::dup(stream)) {
    ::dup2(descriptor, stream);
    ::close(descriptor);
  }
  ~StandIn() {
    ::dup2(saved_, stream_);
    ::close(saved_);
  }
  StandIn(const StandIn&) = delete;
  StandIn& operator=(const StandIn&) = delete;

 private:
  int stream_, saved_;
};

void write_all(int descriptor, std::string_view text) {
  EXPECT_EQ(::write(descriptor, text.data(), text.size()), std::ssize(text));
}

int unread_bytes(int descriptor) {
  int count = 0;
  EXPECT_EQ(::ioctl(descriptor, FIONREAD, &count), 0);
  return count;
}

TEST(StandardInput, MayBeASocket) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  write_all(ends[1], "ROMEO:");
  ::close(ends[1]);
  const StandIn input(ends[0], STDIN_FILENO);
  EXPECT_EQ(read_all("-"), "ROMEO:");
}

TEST(StandardInput, IsReadFromWhereItStandsAndLeftOpen) {
  const gpt::test::TempDir directory;
  gpt::test::write_file(directory / "text", "read before\nROMEO:");
  const int file = ::open((directory / "text").c_str(), O_RDONLY);
  ASSERT_EQ(::lseek(file, 12, SEEK_SET), 12);
  const StandIn input(file, STDIN_FILENO);
  EXPECT_EQ(read_all("-"), "ROMEO:");
  EXPECT_EQ(::lseek(STDIN_FILENO, 0, SEEK_CUR), 18);
}

TEST(StandardInput, IsWaitedForWhereItDoesNotBlock) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_NONBLOCK), 0);
  std::jthread writer([ends] {
    for (int i = 0; i < 20; ++i) {
      while (unread_bytes(ends[1]) > 0) std::this_thread::yield();
      write_all(ends[1], "A");
    }
    ::close(ends[1]);
  });
  const StandIn input(ends[0], STDIN_FILENO);
  EXPECT_EQ(read_all("-"), std::string(20, 'A'));
}

TEST(StandardInput, MayBeANamedPipeWhoseWriterComesLater) {
  const gpt::test::TempDir directory;
  const std::string pipe = directory / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::jthread writer([&pipe] {
    const int end = ::open(pipe.c_str(), O_WRONLY);  // waits for the reader
    write_all(end, "ROMEO:");
    ::close(end);
  });
  EXPECT_EQ(read_all(pipe), "ROMEO:");
}

TEST(StandardInput, IsNoLongerWaitedForAfterCtrlCOrSigterm) {
  const std::string model = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";
  const std::vector<std::vector<std::string>> commands = {
      {GPT_GENERATE, "--model", model, "--prompt-file", "-"},
      {GPT_TOKENIZER, "encode", "--tokenizer", model, "--input-file", "-"},
      {GPT_EVALUATE, "perplexity", "--model", model, "--file", "-"}};
  for (const std::vector<std::string>& argv : commands) {
    for (const int signal : {SIGINT, SIGTERM}) {
      SCOPED_TRACE(argv[0] + " and signal " + std::to_string(signal));
      gpt::test::Process process(argv, "", gpt::test::Input::kPipe);
      process.write(std::string(1 << 18, 'A'));  // more than a pipe holds: is back once the program reads
      process.send(signal);
      const gpt::test::ProcessResult result = process.wait();
      EXPECT_EQ(result.status, kInterrupted);
      EXPECT_EQ(result.out, "");
      EXPECT_EQ(result.err, "interrupted: nothing was written\n");
    }
  }
}

TEST(StandardInput, IsForOneOptionAlone) {
  const std::string model = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";
  const gpt::test::TempDir directory;
  const auto refused = [](std::vector<std::string> argv, const std::string& options) {
    gpt::test::expect_failure(kUsage, argv, "error: " + options + ": standard input is read once");
  };
  refused({GPT_PRUNE, "--model", model, "--output-dir", directory / "out", "--drop-layers", "1",
           "--calibration-file", "-", "--evaluate-file", "-"},
          "--calibration-file and --evaluate-file are both -");
  refused({GPT_GENERATE, "--model", model, "--prompt-file=-", "--grammar-file", "-"},
          "--prompt-file and --grammar-file are both -");
  refused({GPT_GENERATE, "--model", model, "--json-schema-file", "-", "--prompt-file", "-"},
          "--json-schema-file and --prompt-file are both -");
  refused({GPT_EVALUATE, "generation", "--references", "-", "--predictions", "-"},
          "--references and --predictions are both -");
  refused({GPT_RECOMMEND, "--model", model, "--items", "-", "--file", "-"}, "--items and --file are both -");
  refused({GPT_RECOMMEND, "--model", model, "--items", "items", "--file", "-", "--popularity-file", "-"},
          "--file and --popularity-file are both -");
  refused({GPT_TOKENIZER, "train", "--output-dir", directory / "out", "--train-file", "-", "--train-file",
           "text", "--train-file", "-"},
          "--train-file is - twice");
}

TEST(StandardInput, IsNotMeantWhereNothingIsReadFromIt) {
  const std::string model = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";
  const gpt::test::TempDir directory;
  for (const std::vector<std::string>& argv : std::vector<std::vector<std::string>>{
           {GPT_EXPLAIN, "--model", model, "--prompt", "A", "--output", "-"},
           {GPT_CONVERT, "--model", model, "--output", "-"},
           {GPT_QUANTIZE, "--model", model, "--output-dir", "-"},
           {GPT_FINETUNE, "--model", model, "--output-dir", "x", "--train-file", "-"},
           {GPT_GENERATE, "--prompt", "A", "--model", "-"}}) {
    std::vector<std::string> shell{"/bin/sh", "-c", "cd \"$0\" && exec \"$@\"", directory.path()};
    shell.insert(shell.end(), argv.begin(), argv.end());
    gpt::test::expect_failure(kUsage, shell,
                              "error: " + argv[argv.size() - 2] + ": - would be standard input or output");
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST(StandardInput, IsAnErrorWhereItIsClosed) {
  const std::string model = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";
  for (const std::vector<std::string>& argv : std::vector<std::vector<std::string>>{
           {GPT_TOKENIZER, "encode", "--tokenizer", model},
           {GPT_TOKENIZER, "decode", "--tokenizer", model, "--input-file", "-"},
           {GPT_GENERATE, "--model", model, "--prompt-file", "-"},
           {GPT_CHAT, "--model", model}}) {
    std::vector<std::string> shell{"/bin/sh", "-c", "exec \"$@\" <&-", "sh"};
    shell.insert(shell.end(), argv.begin(), argv.end());
    gpt::test::expect_failure(kFailed, shell, "[standard input] cannot read: ");
  }
  const std::vector<std::string> reads_none{"/bin/sh", "-c",  "exec \"$@\" <&-", "sh", GPT_GENERATE,
                                            "--model", model, "--prompt",        "A",  "--max-new-tokens",
                                            "1"};
  EXPECT_EQ(gpt::test::Process(reads_none).wait().status, kDone);
}

TEST(StandardInput, HasItsNameInMessages) {
  const std::string model = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";
  gpt::test::expect_failure(kFailed, {GPT_EVALUATE, "perplexity", "--model", model, "--file", "-"},
                            "[standard input] has 0 tokens");
  gpt::test::expect_failure(kFailed, {GPT_GENERATE, "--model", model, "--prompt", "A", "--grammar-file", "-"},
                            "error: standard input: ");
  gpt::test::expect_failure(kFailed, {GPT_GENERATE, "--model", model, "--prompt-file", "-"},
                            "error: [standard input] is empty");
  const gpt::test::TempDir directory;
  const std::string out = directory / "out";
  gpt::test::expect_failure(
      kFailed,
      {GPT_PRUNE, "--model", model, "--output-dir", out, "--drop-layers", "1", "--calibration-file", "-"},
      "[standard input] has 0 tokens");
  gpt::test::expect_failure(
      kFailed,
      {GPT_PRUNE, "--model", model, "--output-dir", out, "--sparsity", "0.5", "--evaluate-file", "-"},
      "[standard input] has 0 tokens");
  gpt::test::expect_failure(kFailed,
                            {GPT_QUANTIZE, "--model", model, "--output-dir", out, "--calibration-file", "-"},
                            "[standard input] has no tokens");
  gpt::test::write_file(directory / "predictions.jsonl", "{\"prediction\": \"a\"}\n");
  gpt::test::Process evaluate(
      {GPT_EVALUATE, "generation", "--predictions", directory / "predictions.jsonl", "--references", "-"}, "",
      gpt::test::Input::kPipe);
  evaluate.write("{\"reference\": \"a\"}\n{\"reference\": \"b\"}\n");
  evaluate.close_stdin();
  EXPECT_EQ(evaluate.wait().err,
            "error: [standard input] has 2 lines, expected 1, one for each prediction\n");
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  write_all(ends[1], "\xff\xfe");
  ::close(ends[1]);
  const StandIn input(ends[0], STDIN_FILENO);
  gpt::test::expect_error<gpt::FormatError>([] { read_all("-"); }, {"[standard input]", "UTF-16"});
}

TEST(StandardOutput, IsAnErrorWhereItIsClosed) {
  const std::string model = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";
  for (const char* option : {"--no-pack", "--json", "--help"}) {
    SCOPED_TRACE(option);
    const gpt::test::ProcessResult result =
        gpt::test::Process({"/bin/sh", "-c", "exec \"$@\" >&-", "sh", GPT_GENERATE, "--model", model,
                            "--prompt", "A", "--max-new-tokens", "1", option})
            .wait();
    EXPECT_EQ(result.status, kFailed);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, ::testing::StartsWith("error: cannot write to standard output: "));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
}

TEST(StandardOutput, IsWaitedForWhereItDoesNotBlock) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ASSERT_EQ(::fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
  const int capacity = ::fcntl(ends[1], F_SETPIPE_SZ, 4096);
  ASSERT_GE(capacity, 4096);
  const std::string text(static_cast<std::size_t>(4 * capacity), 'A');
  std::string read;
  {
    const StandIn output(ends[1], STDOUT_FILENO);
    std::jthread reader([&] {
      while (unread_bytes(ends[0]) < capacity) std::this_thread::yield();
      std::string buffer(text.size(), '\0');
      while (read.size() < text.size()) {
        const ssize_t got = ::read(ends[0], buffer.data(), buffer.size());
        if (got <= 0) break;
        read.append(buffer, 0, static_cast<std::size_t>(got));
      }
    });
    try {
      EXPECT_TRUE(Output().write(text));
    } catch (...) {
      ::close(STDOUT_FILENO);  // ends the reader
      throw;
    }
  }
  ::close(ends[0]);
  EXPECT_EQ(read, text);
}

}  // namespace
}  // namespace program
