// The folders of tokenizer vectors: tests/golden/tokenizer, and those that GPT_GOLDENS names.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/json.h"
#include "support/temp_dir.h"

namespace gpt::test {

struct TokenizerGolden {
  std::filesystem::path path;       // of the vectors
  std::filesystem::path tokenizer;  // of vocab.json and merges.txt
};

inline std::vector<TokenizerGolden> tokenizer_goldens() {
  const std::filesystem::path source = GPT_SOURCE_DIR;
  std::vector<TokenizerGolden> found{{source / "tests/golden/tokenizer", source / "examples/models/demo"}};
  if (const char* more = std::getenv("GPT_GOLDENS")) {
    std::istringstream folders(more);
    for (std::string folder; std::getline(folders, folder, ':');) {
      for (const std::filesystem::path& path :
           {std::filesystem::path(folder), std::filesystem::path(folder) / "tokenizer"})
        if (std::filesystem::exists(path / "encode.jsonl")) found.push_back({path, path});
    }
  }
  return found;
}

/// The rows of a file of vectors. Throws when there are none: a golden that is gone must not pass.
inline std::vector<Json> read_rows(const std::filesystem::path& path) {
  std::istringstream lines(read_file(path));
  std::vector<Json> rows;
  for (std::string line; std::getline(lines, line);) rows.push_back(parse_json(line));
  if (rows.empty()) throw std::runtime_error(path.string() + " has no rows");
  return rows;
}

inline std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

}  // namespace gpt::test
