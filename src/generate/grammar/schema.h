// What a JSON schema demands, without its ways to combine schemas.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"

namespace gpt::generate {

/// What errors about schemas begin with.
inline constexpr const char* kSchemaSource = "json_schema";

/// A schema in the text, and where it stands.
struct SchemaRef {
  const json::Value* schema = nullptr;
  std::string pointer = {};  // "#/properties/name"
};

/// Schemas that all must hold; of none, anything does.
using Schemas = std::vector<SchemaRef>;

/// The types of values, as bits.
enum : unsigned {
  kNull = 1,
  kBoolean = 2,
  kInteger = 4,
  kFraction = 8,  // numbers that are not integers; "number" is both
  kString = 16,
  kArray = 32,
  kObject = 64,
  kAnyType = 127,
};

/// What one alternative demands: the keywords of all schemas that were put together, each in its own place.
struct Demands {
  struct Bound {
    json::Value value;
    bool is_inclusive = true;
    std::string pointer;
  };
  struct Text {  // of a keyword
    std::string text, pointer;
  };
  struct Items {
    Schemas prefix;                   // one for each of the first elements
    std::optional<SchemaRef> others;  // unset: anything
  };
  struct Members {
    std::vector<std::pair<std::string, SchemaRef>> named;
    std::optional<SchemaRef> others;                      // unset: not said
    std::map<std::string_view, std::size_t> places = {};  // in named, by name
  };

  unsigned types = kAnyType;
  unsigned wanted = kAnyType;  // those that a oneOf was looked at for, whatever else comes
  bool has_type = false;
  unsigned spoken_of = 0;                                 // types that have keywords of their own here
  std::shared_ptr<const json::Value::Array> values = {};  // enum and const
  std::vector<Bound> low = {}, high = {};
  std::uint64_t min_length = 0, min_items = 0;
  std::optional<std::uint64_t> max_length = {}, max_items = {};
  std::vector<Text> patterns = {}, formats = {};
  std::vector<std::shared_ptr<const Items>> items = {};
  std::vector<std::shared_ptr<const Members>> members = {};
  std::vector<std::string> required = {};
  std::vector<const json::Value*> applied = {};  // the schemas that have been put together
  std::string pointer = {};                      // of the first schema, for messages

  /// So many parts a copy copies.
  std::size_t size() const noexcept {
    return 1 + low.size() + high.size() + patterns.size() + formats.size() + items.size() + members.size() +
           required.size() + applied.size();
  }
  /// The types of the values that meet this.
  unsigned admitted_types() const;
  /// Those that texts shall have.
  unsigned chosen_types() const {
    return admitted_types() & wanted & (values || has_type || spoken_of == 0 ? kAnyType : spoken_of);
  }
  /// What the member of that name must be.
  Schemas member(std::string_view name) const;
  /// What the element at that index must be.
  Schemas element(std::size_t index) const;
};

unsigned type_of(const json::Value& value);

/// Resolves $ref, allOf, anyOf and oneOf.
class SchemaReader {
 public:
  /// `root` must outlive the object.
  explicit SchemaReader(const json::Value& root) : root_(root) {}

  /// One or more alternatives for values that all schemas allow; none where there is no such value. Throws FormatError and
  /// UnsupportedError naming the pointer of a keyword.
  std::vector<Demands> read(const Schemas& schemas);

  /// Throws ArgumentError when all schemas together have taken too much work, in keywords read and parts copied or compared.
  void count_work(std::size_t steps, const std::string& pointer);

 private:
  void apply(const SchemaRef& schema, std::vector<Demands>& all);
  void apply_new(const SchemaRef& schema, std::vector<Demands>& all);
  void apply_keywords(const json::Value::Object& keywords, const SchemaRef& schema, bool branches,
                      std::vector<Demands>& all);
  void apply_keyword(const std::string& key, const json::Value& value, const SchemaRef& schema,
                     std::vector<Demands>& all);
  void apply_branches(const std::string& key, const json::Value& value, const std::string& pointer,
                      std::vector<Demands>& all);
  bool exclude_each_other(const Demands& a, const Demands& b, int depth);
  std::string key_of(const json::Value& value, const std::string& pointer);
  std::set<std::string> keys_of(const json::Value::Array& values, const std::string& pointer);
  SchemaRef resolve(const json::Value& reference, const std::string& pointer);

  const json::Value& root_;
  int depth_ = 0;
  std::size_t work_ = 0;
};

}  // namespace gpt::generate
