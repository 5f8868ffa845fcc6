// The files of expected values: tensors, JSON documents and rows, read strictly.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/tensor.h"
#include "gpt/core/token.h"
#include "gpt/io/safetensors.h"
#include "report.h"

namespace gpt::golden {

using Json = nlohmann::json;

/// A folder is not what its form demands: a file or tensor is missing, of another shape or type, or
/// malformed. The message names the file.
class Unreadable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

Json read_json(const std::filesystem::path& path);
/// One JSON object a line; at least one line.
std::vector<Json> read_rows(const std::filesystem::path& path);
std::string read_text(const std::filesystem::path& path);

/// A JSON value that is what its form demands; else Unreadable with `where`, its path, in the message.
const Json& member(const Json& object, const std::string& key, std::string_view where);
double number_of(const Json& value, std::string_view where);
std::int64_t integer_of(const Json& value, std::string_view where);  // also within its range, and no fraction
std::string string_of(const Json& value, std::string_view where);
bool truth_of(const Json& value, std::string_view where);
std::vector<double> numbers_of(const Json& value, std::string_view where);
/// What an exception of the JSON library says, without its number.
std::string text_of(const Json::exception& e);

/// Token ids from a JSON list or an int64 tensor; `where` names it when a number is none.
std::vector<TokenId> token_ids(const Json& list, std::string_view where);
std::vector<TokenId> token_ids(std::span<const std::int64_t> numbers, std::string_view where);

/// The expected tensors of a folder: one safetensors file, and the "tolerances" in the JSON file beside it.
class ExpectedTensors {
 public:
  /// Throws Unreadable, also when `tolerances` names a tensor that the file lacks.
  ExpectedTensors(const std::filesystem::path& file, const Json& tolerances);

  bool contains(const std::string& name) const { return tensors_.contains(name); }
  std::vector<std::string> names() const;  // sorted

  /// These throw Unreadable when the tensor is missing or of another type or shape.
  const Shape& shape(const std::string& name) const { return find(name).shape(); }
  std::span<const std::int64_t> ints(const std::string& name) const;
  std::span<const std::int64_t> ints(const std::string& name, const Shape& shape) const;
  std::span<const float> reals(const std::string& name, const Shape& shape) const;
  /// Token ids, or -100 where nothing counts.
  std::span<const std::int64_t> labels(const std::string& name, const Shape& shape) const;

  /// s of the README's tolerances: max(1, largest magnitude of the tensor), which the tensor has, too.
  double scale(const std::string& name) const;
  /// What is wrong with the largest magnitude that is given for a tensor, if anything.
  std::optional<Outcome> wrong_magnitude(const std::string& name) const;
  const std::string& source() const noexcept { return source_; }
  /// The golden.json in the same folder, for messages.
  std::string document() const {
    return (std::filesystem::path(source_).parent_path() / "golden.json").string();
  }

 private:
  const Tensor& find(const std::string& name) const;
  template <class T>
  std::span<const T> elements(const std::string& name, std::string_view type) const;
  void require_shape(const std::string& name, const Shape& shape) const;

  std::string source_;
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, double> max_abs_;  // as it is given
  std::map<std::string, double> largest_;  // of the tensor itself, its NaNs apart
};

/// The path of the object that holds the last part of `path`: greedy[0] of greedy[0].generated.
std::string parent_path_of(std::string_view path);

/// One quantity under judgement. `value` and `parent` (the object that holds it) are null for a tensor.
struct Entry {
  const std::string& name;  // the tensor, or the path in the JSON document: greedy[0].generated
  const Json* value = nullptr;
  const Json* parent = nullptr;
};

/// How to judge the quantities whose names match `pattern`, in which '*' stands for any text.
struct Rule {
  std::string_view pattern;
  std::function<Outcome(const Entry&)> check;
};

/// Reports every tensor, each by the first rule that matches its name; a tensor without a rule is a skip. One that is well, but
/// not as large as "tolerances" says, has a second line: tolerances.<name>.max_abs. An exception of the library makes a
/// failure; Unreadable passes through.
void judge_tensors(Report& report, const std::string& folder, const ExpectedTensors& tensors,
                   std::span<const Rule> rules);

/// The same for the values in a JSON document: what a rule matches, and below that every number, string and
/// list of such.
/// `file`, where the document is from, is named by what cannot be read in it.
void judge_json(Report& report, const std::string& folder, const std::string& file, const Json& document,
                std::span<const Rule> rules);

/// Reports the keys of an object that its form does not know as skips: <path>.<key>. What is no object has none.
void report_unknown_keys(Report& report, const std::string& folder, const std::string& path,
                         const Json& object, std::span<const std::string_view> known);
/// The same for rows; each key once, as <file>[*].<key>.
void report_unknown_fields(Report& report, const std::string& folder, const std::string& file,
                           std::span<const Json> rows, std::span<const std::string_view> known);

/// Runs one check of what `file` holds and reports it, as described above; returns whether it is no failure.
bool judge(Report& report, const std::string& folder, const std::string& file, const std::string& quantity,
           const std::function<Outcome()>& check);

/// A message that begins with `place`, a folder or a file; it stays as it is where it does so already.
std::string with_place(const std::string& place, const std::string& message);

/// A rule's check for what the library is given.
inline Outcome is_input(const Entry&) { return Outcome::input(); }

}  // namespace gpt::golden
