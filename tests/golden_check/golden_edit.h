// For the judge's own tests: copies of folders of expected values, spoilt in one place, and what the judge says of them.
#pragma once

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <functional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "golden_check.h"
#include "support/json.h"
#include "support/safetensors_bytes.h"
#include "support/temp_dir.h"

namespace gpt::golden {

namespace fs = std::filesystem;
using test::Json;

struct Line {
  std::string folder, quantity, error, tolerance, status;
};

/// One run of the judge.
struct Verdict {
  int exit_status = -1;
  std::vector<Line> lines;
  std::string summary;
  std::string out;
  std::string err;

  std::multiset<std::string> with_status(const std::string& status) const {
    std::multiset<std::string> quantities;
    for (const Line& line : lines)
      if (line.status == status) quantities.insert(line.quantity);
    return quantities;
  }
  const Line& line(const std::string& quantity) const {
    for (const Line& l : lines)
      if (l.quantity == quantity) return l;
    throw std::out_of_range("no line " + quantity);
  }
};

inline Verdict judge_paths(const std::vector<fs::path>& paths, const Settings& settings = {}) {
  std::ostringstream out;
  std::ostringstream err;
  Verdict verdict;
  verdict.exit_status = check_paths(paths, settings, out, err);
  verdict.out = out.str();
  verdict.err = err.str();
  std::istringstream lines(verdict.out);
  for (std::string text; std::getline(lines, text);) {
    std::istringstream fields(text);
    Line line;
    std::getline(fields, line.folder, '\t');
    if (!std::getline(fields, line.quantity, '\t')) {
      verdict.summary = text;
      continue;
    }
    std::getline(fields, line.error, '\t');
    std::getline(fields, line.tolerance, '\t');
    std::getline(fields, line.status);
    verdict.lines.push_back(line);
  }
  return verdict;
}

/// The committed set.
inline fs::path committed(const std::string& folder) {
  return fs::path(GPT_SOURCE_DIR) / "tests/golden" / folder;
}

/// A copy of one folder of the committed set, to be spoilt.
class FolderCopy {
 public:
  explicit FolderCopy(const fs::path& original)
      : original_(original), path_(directory_ / original.filename().string()) {
    restore();
  }
  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& file) const { return path_ / file; }

  void restore() {
    fs::remove_all(path_);
    fs::copy(original_, path_, fs::copy_options::recursive);
  }
  Verdict judge(const Settings& settings = {}) const { return judge_paths({path_}, settings); }

 private:
  test::TempDir directory_;
  fs::path original_;
  fs::path path_;
};

inline void edit_text(const fs::path& file, const std::function<void(std::string&)>& edit) {
  std::string text = test::read_file(file);
  edit(text);
  test::write_file(file, text);
}

inline void edit_json(const fs::path& file, const std::function<void(Json&)>& edit) {
  edit_text(file, [&](std::string& text) {
    Json document = test::parse_json(text);
    edit(document);
    text = test::dump_json(document);
  });
}

/// Line `row` (counted from 0) of a .jsonl file.
inline void edit_row(const fs::path& file, std::size_t row, const std::function<void(Json&)>& edit) {
  edit_text(file, [&](std::string& text) {
    std::size_t begin = 0;
    for (std::size_t i = 0; i < row; ++i) begin = text.find('\n', begin) + 1;
    const std::size_t length = text.find('\n', begin) - begin;
    Json document = test::parse_json(text.substr(begin, length));
    edit(document);
    text.replace(begin, length, test::dump_json(document));
  });
}

/// The header of a safetensors file, and its data.
inline void edit_safetensors(const fs::path& file,
                             const std::function<void(Json& header, std::string& data)>& edit) {
  edit_text(file, [&](std::string& bytes) {
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof length);
    Json header = test::parse_json(bytes.substr(8, length));
    std::string data = bytes.substr(8 + length);
    edit(header, data);
    std::string text = test::dump_json(header);
    text.resize((text.size() + 7) / 8 * 8, ' ');
    bytes = test::safetensors_bytes(text, data);
  });
}

/// Element `index` of a tensor of T.
template <class T>
void edit_element(const fs::path& file, const std::string& tensor, std::size_t index,
                  const std::function<T(T)>& edit) {
  edit_safetensors(file, [&](Json& header, std::string& data) {
    char* const place =
        data.data() + header.at(tensor).at("data_offsets").at(0).get<std::size_t>() + index * sizeof(T);
    T value;
    std::memcpy(&value, place, sizeof value);
    value = edit(value);
    std::memcpy(place, &value, sizeof value);
  });
}

}  // namespace gpt::golden
