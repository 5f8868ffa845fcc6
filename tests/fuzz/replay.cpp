// Runs a fuzzer's function on the empty input and on every file of the folders given: what libFuzzer's own main does, for
// compilers without libFuzzer.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void replay(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

int replay_folder(const std::filesystem::path& folder) {
  int count = 0;
  if (!std::filesystem::exists(folder)) return count;  // a fuzzer may start without seeds
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::printf("%s\n", entry.path().c_str());  // before the run: the last line names the input that crashes
    std::fflush(stdout);
    std::ifstream file(entry.path(), std::ios::binary);
    replay({std::istreambuf_iterator<char>(file), {}});
    if (!file) throw std::runtime_error("cannot read " + entry.path().string());
    ++count;
  }
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    replay("");
    int count = 0;
    for (int i = 1; i < argc; ++i) count += replay_folder(argv[i]);
    std::printf("replayed %d inputs\n", count);
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
