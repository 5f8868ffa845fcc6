// The files beside a vocabulary: added_tokens.json, special_tokens_map.json, tokenizer_config.json.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "gpt/text/tokenizer.h"
#include "text/json_object.h"

namespace gpt {

/// What the files say, the later one winning as in transformers.
class SideFiles {
 public:
  /// Reads those that the directory has. `added_tokens` are those known before. Throws IoError; FormatError naming file
  /// and key; UnsupportedError.
  SideFiles(const std::filesystem::path& directory, std::vector<AddedToken> added_tokens);

  /// tokenizer_config.json; empty when there is none. The object must not outlive this.
  JsonObject config() const { return {config_, config_source_}; }

  /// True for a key "bos_token" and the like that some file has, also as null.
  bool mentions(std::string_view key) const { return named_.find(key) != named_.end(); }
  /// The token of such a key; none when it is null or no file has it.
  std::optional<std::string> named(std::string_view key) const;

  /// Adds a token; one that is there already takes the new flags if they were written out, and stays special.
  void add(AddedToken token, std::string_view source, bool has_flags);
  /// The known tokens and those of the files, which include all that have a name or are additional_special_tokens.
  const std::vector<AddedToken>& added_tokens() const noexcept { return added_tokens_; }

  /// The files by name and content.
  const std::vector<std::pair<std::string, std::string>>& files() const noexcept { return files_; }

 private:
  void read_added_tokens(const JsonObject& object);
  void read_added_tokens_decoder(const JsonObject& config);
  void read_named_tokens(const JsonObject& object);

  std::vector<AddedToken> added_tokens_;
  std::map<std::string, std::size_t> index_;  // of added_tokens_ by content
  std::map<std::string, std::optional<std::string>, std::less<>> named_;
  json::Value::Object config_;
  std::string config_source_ = "tokenizer_config.json";
  std::vector<std::pair<std::string, std::string>> files_;
};

}  // namespace gpt
