// The command line of golden_check.
#include <charconv>
#include <iostream>
#include <string_view>
#include <vector>

#include "golden_check.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/ops/isa.h"

namespace {

constexpr std::string_view kUsage =
    R"(usage: golden_check [OPTION]... PATH...

Checks the library against every folder of expected values in the PATHs (model, tokenizer, sampling and training
folders, or parents of such), and prints a line for every quantity:
    folder <tab> quantity <tab> largest error <tab> tolerance <tab> ok|FAIL|skip|input

  --model DIR      the checkpoint of model folders that hold expected values alone
  --tokenizer DIR  the vocabulary of tokenizer folders that have none
  --corpus FILE    the text of the training and validation losses; without it they are skipped
  --train-steps N  make the first N steps of a recorded training run alone
  --threads N      use N threads (default: all CPUs)

GPT_FORCE_ISA=scalar|avx2|avx512|avx512_vnni|amx in the environment chooses the instructions.
Exit status: 0 all passed, 1 something failed, 2 a folder cannot be read, nothing was compared, or the command line is wrong,
77 GPT_FORCE_ISA asks for what this CPU lacks (ctest takes it for a skipped test).
Example: golden_check --model examples/models/demo --tokenizer examples/models/demo tests/golden
)";

int usage_error(std::string_view message) {
  std::cerr << "error: " << message << '\n' << kUsage;
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  gpt::golden::Settings settings;
  std::vector<std::filesystem::path> paths;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help") {
      std::cout << kUsage;
      return 0;
    }
    if (!argument.starts_with("--")) {
      paths.emplace_back(argument);
      continue;
    }
    if (i + 1 == argc) return usage_error(gpt::concat(argument, " needs a value, or is unknown"));
    const std::string_view value = argv[++i];
    if (argument == "--model") {
      settings.model = value;
    } else if (argument == "--tokenizer") {
      settings.tokenizer = value;
    } else if (argument == "--corpus") {
      settings.corpus = value;
    } else if (argument == "--threads" || argument == "--train-steps") {
      int number = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      if (error != std::errc() || end != value.data() + value.size() || number < 1)
        return usage_error(gpt::concat(argument, " ", value, ": expected 1 or more"));
      if (argument == "--threads")
        gpt::set_num_threads(number);
      else
        settings.train_steps = static_cast<std::size_t>(number);
    } else {
      return usage_error(gpt::concat("unknown option ", argument));
    }
  }
  if (paths.empty()) return usage_error("no PATH given");
  try {
    gpt::ops::instruction_set();
  } catch (const gpt::UnsupportedError& e) {
    std::cerr << "error: " << e.what() << '\n';
    return 77;
  }
  return gpt::golden::check_paths(paths, settings, std::cout, std::cerr);
}
