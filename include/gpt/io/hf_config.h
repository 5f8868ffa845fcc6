// The JSON files that describe a Hugging Face checkpoint: config.json, generation_config.json,
// adapter_config.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gpt {

/// A JSON object with typed access to its keys. It remembers which keys it has been asked for, so that a
/// loader can name those it did not honour.
///
/// Every getter is empty when the key is absent or null, and throws FormatError naming the file, the key, the
/// value found and the type expected when it is something else. Nothing is converted silently: 3.5, 3.0, "3"
/// and true are no integers. Const access is thread-safe. Without memory, everything but a copy throws MemoryError.
class HfConfig {
 public:
  template <class T>
  using MapOf = std::vector<std::pair<std::string, T>>;  // in the order of the file

  /// An empty object; `source` names it in errors.
  explicit HfConfig(std::string source = "config.json");
  /// Throws IoError as read_text_file, FormatError as parse.
  static HfConfig load(const std::filesystem::path& path);
  /// Throws FormatError naming the source when the text is not JSON (RFC 8259; no NaN or Infinity), its top
  /// level is not an object, a key occurs twice in an object, or it is nested deeper than 100 levels.
  static HfConfig parse(std::string_view text, std::string source);

  HfConfig(const HfConfig& other);
  HfConfig& operator=(const HfConfig& other);
  HfConfig(HfConfig&&) noexcept;  // what was moved from may only be assigned to or destroyed
  HfConfig& operator=(HfConfig&&) noexcept;
  ~HfConfig();

  /// The file it came from.
  const std::string& source() const noexcept;
  /// All keys, in the order of the file.
  std::vector<std::string> keys() const;
  /// The keys with a value other than null that none of the functions below was ever asked about.
  std::vector<std::string> unread_keys() const;

  bool has(std::string_view key) const;      // also when null
  bool is_null(std::string_view key) const;  // absent counts as null
  bool is_list(std::string_view key) const;
  /// Throws FormatError for a null that is no value to whoever wrote the file: an absent key has its default, null is no number.
  void refuse_null(std::string_view key, std::string_view expected) const;

  std::optional<bool> get_bool(std::string_view key) const;
  std::optional<std::int64_t> get_int(std::string_view key) const;
  std::optional<double> get_float(std::string_view key) const;  // takes integers too
  std::optional<std::string> get_string(std::string_view key) const;
  /// A single integer counts as a list of one (eos_token_id).
  std::optional<std::vector<std::int64_t>> get_int_list(std::string_view key) const;
  std::optional<std::vector<std::string>> get_string_list(std::string_view key) const;
  std::optional<std::vector<bool>> get_bool_list(std::string_view key) const;    // rank_pattern's
  std::optional<MapOf<std::string>> get_string_map(std::string_view key) const;  // id2label
  std::optional<MapOf<std::int64_t>> get_int_map(std::string_view key) const;    // label2id
  /// Any value as JSON text, for what has a form of its own (sequence_bias).
  std::optional<std::string> get_json(std::string_view key) const;
  /// A copy of an object inside this one, with its own record of keys read; its source is "<source>: <key>".
  std::optional<HfConfig> get_object(std::string_view key) const;

  /// These set a key, keeping its place when it exists, or append it. Throw ArgumentError for a number that
  /// is not finite and for text that is not UTF-8.
  void set_null(std::string_view key);
  void set_bool(std::string_view key, bool value);
  void set_int(std::string_view key, std::int64_t value);
  void set_float(std::string_view key, double value);
  void set_string(std::string_view key, std::string_view value);
  void set_int_list(std::string_view key, std::span<const std::int64_t> values);
  void set_string_list(std::string_view key, std::span<const std::string> values);
  void set_string_map(std::string_view key, const MapOf<std::string>& values);
  void set_int_map(std::string_view key, const MapOf<std::int64_t>& values);
  void set_object(std::string_view key, const HfConfig& value);  // a copy of it
  /// Any value, from JSON text. Throws FormatError, naming the source, as parse does of text that is not JSON.
  void set_json(std::string_view key, std::string_view text);
  void erase(std::string_view key);

  /// JSON text, indented by 2, ending in a line feed. Numbers read back exactly.
  std::string dump() const;
  /// Writes dump() to a file, atomically. Throws IoError as AtomicFile.
  void save(const std::filesystem::path& path) const;

 private:
  struct Document;
  std::unique_ptr<Document> document_;
};

}  // namespace gpt
