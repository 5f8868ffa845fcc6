// How much of a mapped file is in memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace gpt::test {

/// Bytes of the file that this process's mappings of it hold: exact, where the process's own sums lag behind.
inline std::int64_t mapped_memory_of(const std::filesystem::path& path) {
  std::ifstream maps("/proc/self/smaps");
  std::int64_t kib = 0;
  bool of_file = false;
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::string word;
    words >> word;
    if (word.find('-') != word.npos && !word.ends_with(':')) {  // the addresses of the next mapping
      of_file = line.ends_with(" " + path.string());
    } else if (std::int64_t value = 0; of_file && word == "Rss:" && words >> value) {
      kib += value;
    }
  }
  return kib * 1024;
}

}  // namespace gpt::test
