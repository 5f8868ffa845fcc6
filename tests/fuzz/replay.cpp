// fuzz_replay NAME FOLDER...: runs the fuzzer NAME on the empty input and on every file of the folders: what libFuzzer's own main
// does, for compilers without libFuzzer.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "fuzzer.h"

namespace {

void replay(gpt::fuzz::Fuzzer fuzzer, const std::string& bytes) {
  fuzzer(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

int replay_folder(gpt::fuzz::Fuzzer fuzzer, const std::filesystem::path& folder) {
  int count = 0;
  if (!std::filesystem::exists(folder)) return count;  // a fuzzer may start without seeds
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::printf("%s\n", entry.path().c_str());  // before the run: the last line names the input that crashes
    std::fflush(stdout);
    std::ifstream file(entry.path(), std::ios::binary);
    replay(fuzzer, {std::istreambuf_iterator<char>(file), {}});
    if (!file) throw std::runtime_error("cannot read " + entry.path().string());
    ++count;
  }
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string name = argc > 1 ? argv[1] : "";
    const auto found = gpt::fuzz::fuzzers().find(name);
    if (found == gpt::fuzz::fuzzers().end())
      throw std::runtime_error("no fuzzer has the name '" + name + "'");
    replay(found->second, "");
    int count = 0;
    for (int i = 2; i < argc; ++i) count += replay_folder(found->second, argv[i]);
    std::printf("replayed %d inputs\n", count);
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
