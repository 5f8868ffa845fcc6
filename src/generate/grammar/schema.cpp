#include "generate/grammar/schema.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>

#include "core/quote.h"
#include "generate/grammar/char_set.h"
#include "gpt/core/error.h"

namespace gpt::generate {
namespace {

constexpr int kMaxDepth = 150;  // of references and branches inside each other
constexpr std::size_t kMaxAlternatives = 512;
constexpr std::size_t kMaxSchemaWork = 10'000'000;  // keywords read, parts copied and values compared

[[noreturn]] void fail_form(const std::string& pointer, const json::Value& value, std::string_view expected) {
  fail<FormatError>(kSchemaSource, quote(pointer), " is ", json::describe(value), ", expected ", expected);
}

const json::Value::Array& list_of(const json::Value& value, const std::string& pointer) {
  const auto* list = value.get_if<json::Value::Array>();
  if (list == nullptr) fail_form(pointer, value, "a list");
  return *list;
}

const json::Value::Object& object_of(const json::Value& value, const std::string& pointer) {
  const auto* object = value.get_if<json::Value::Object>();
  if (object == nullptr) fail_form(pointer, value, "an object");
  return *object;
}

const std::string& text_of(const json::Value& value, const std::string& pointer) {
  const auto* text = value.get_if<std::string>();
  if (text == nullptr) fail_form(pointer, value, "a text");
  return *text;
}

std::uint64_t count_of(const json::Value& value, const std::string& pointer) {
  if (const auto count = value.to_unsigned()) return *count;
  const auto* number = value.get_if<double>();  // 2.0 is an integer, too
  if (number == nullptr || *number < 0 || *number > 1e15 || *number != std::floor(*number))
    fail_form(pointer, value, "an integer of at least 0");
  return static_cast<std::uint64_t>(*number);
}

unsigned type_named(const json::Value& name, const std::string& pointer) {
  static constexpr std::pair<std::string_view, unsigned> kTypes[] = {
      {"null", kNull},     {"boolean", kBoolean}, {"integer", kInteger}, {"number", kInteger | kFraction},
      {"string", kString}, {"array", kArray},     {"object", kObject}};
  const std::string& text = text_of(name, pointer);
  for (const auto& [type, bits] : kTypes)
    if (text == type) return bits;
  fail_form(pointer, name, "null, boolean, integer, number, string, array or object");
}

// A reference token of a JSON pointer (RFC 6901).
std::string escaped(std::string_view key) {
  std::string out;
  for (const char c : key) {
    if (c == '~')
      out += "~0";
    else if (c == '/')
      out += "~1";
    else
      out += c;
  }
  return out;
}

// Undoes the escapes of a URI's fragment, then those of the pointer.
std::string unescaped(std::string_view token) {
  std::string text;
  for (std::size_t i = 0; i < token.size(); ++i) {
    if (token[i] == '%' && i + 2 < token.size()) {
      const int high = hexadecimal_digit(token[i + 1]), low = hexadecimal_digit(token[i + 2]);
      if (high >= 0 && low >= 0) {
        text += static_cast<char>(high * 16 + low);
        i += 2;
        continue;
      }
    }
    text += token[i];
  }
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool is_escape =
        text[i] == '~' && i + 1 < text.size() && (text[i + 1] == '0' || text[i + 1] == '1');
    out += is_escape ? (text[++i] == '0' ? '~' : '/') : text[i];
  }
  return out;
}

bool is_annotation(std::string_view key) {
  static constexpr std::string_view kKeys[] = {
      "$schema",   "$comment", "$defs",           "definitions",      "title",        "description",
      "default",   "examples", "example",         "nullable",         "deprecated",   "readOnly",
      "writeOnly", "$anchor",  "contentEncoding", "contentMediaType", "contentSchema"};
  return std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys);
}

// Whether references inside are not into the whole text.
bool has_base(const json::Value::Object& schema) {
  const json::Value* base = json::find(schema, "$id");
  if (base == nullptr) base = json::find(schema, "id");
  return base != nullptr && base->is<std::string>();  // else a member of that name, in properties
}

bool is_number(const json::Value& value) { return value.to_double().has_value(); }

// A text that equal values have in common, as JSON schema compares: 1 and 1.0 are the same, and so are objects whatever the order
// of their members.
void add_key(const json::Value& value, std::string& out) {
  if (const auto* object = value.get_if<json::Value::Object>()) {
    std::vector<const json::Value::Member*> members;
    for (const auto& member : *object) members.push_back(&member);
    std::sort(members.begin(), members.end(), [](const auto* a, const auto* b) { return a->key < b->key; });
    out += '{';
    for (const auto* member : members) {
      out += json::dump(member->key);
      out += ':';
      add_key(member->value, out);
      out += ',';
    }
    out += '}';
  } else if (const auto* list = value.get_if<json::Value::Array>()) {
    out += '[';
    for (const json::Value& element : *list) {
      add_key(element, out);
      out += ',';
    }
    out += ']';
  } else if (const auto* number = value.get_if<double>();
             number != nullptr && *number == std::floor(*number) && *number >= -0x1p63 && *number < 0x1p64) {
    out += *number < 0 ? concat(static_cast<std::int64_t>(*number))
                       : concat(static_cast<std::uint64_t>(*number));
  } else {
    out += json::dump(value);
  }
}

}  // namespace

unsigned type_of(const json::Value& value) {
  if (value.is_null()) return kNull;
  if (value.is<bool>()) return kBoolean;
  if (const auto* number = value.get_if<double>())
    return *number == std::floor(*number) ? kInteger : kFraction;
  if (is_number(value)) return kInteger;
  if (value.is<std::string>()) return kString;
  return value.is<json::Value::Array>() ? kArray : kObject;
}

unsigned Demands::admitted_types() const {
  if (!values) return types;
  unsigned all = 0;
  for (const json::Value& value : *values) all |= type_of(value);
  return all & types;
}

Schemas Demands::member(std::string_view name) const {
  Schemas out;
  for (const auto& part : members) {
    if (const auto place = part->places.find(name); place != part->places.end())
      out.push_back(part->named[place->second].second);
    else if (part->others)
      out.push_back(*part->others);
  }
  return out;
}

Schemas Demands::element(std::size_t index) const {
  Schemas out;
  for (const auto& part : items) {
    if (index < part->prefix.size())
      out.push_back(part->prefix[index]);
    else if (part->others)
      out.push_back(*part->others);
  }
  return out;
}

std::vector<Demands> SchemaReader::read(const Schemas& schemas) {
  std::vector<Demands> all(1);
  if (!schemas.empty()) all[0].pointer = schemas.front().pointer;
  for (const SchemaRef& schema : schemas) apply(schema, all);
  std::erase_if(all, [](const Demands& demands) {
    return demands.types == 0 || (demands.values && demands.values->empty());
  });
  return all;
}

// Not twice to the same: chains of references to references would take twice as long with every link.
void SchemaReader::apply(const SchemaRef& schema, std::vector<Demands>& all) {
  const auto done = std::stable_partition(all.begin(), all.end(), [&](const Demands& demands) {
    return std::find(demands.applied.begin(), demands.applied.end(), schema.schema) == demands.applied.end();
  });
  std::vector<Demands> rest(std::make_move_iterator(done), std::make_move_iterator(all.end()));
  all.erase(done, all.end());
  for (const Demands& demands : all) count_work(demands.applied.size() / 16, schema.pointer);
  if (rest.empty() || !all.empty()) apply_new(schema, all);
  for (Demands& demands : all) demands.applied.push_back(schema.schema);
  std::move(rest.begin(), rest.end(), std::back_inserter(all));
}

void SchemaReader::apply_new(const SchemaRef& schema, std::vector<Demands>& all) {
  if (const auto* allowed = schema.schema->get_if<bool>()) {
    if (!*allowed) all.clear();
    return;
  }
  const auto* keywords = schema.schema->get_if<json::Value::Object>();
  if (keywords == nullptr) fail_form(schema.pointer, *schema.schema, "a schema: an object, true or false");
  if (depth_ == kMaxDepth)
    fail<FormatError>(kSchemaSource, quote(schema.pointer), " is reached through ", kMaxDepth,
                      " references and branches, or refers to itself with nothing between");
  ++depth_;
  // Alternatives come last: they see what they are alternatives of.
  apply_keywords(*keywords, schema, false, all);
  // Of one schema: what items means depends on prefixItems, what additionalProperties on properties.
  const auto child = [&](std::string_view key) -> std::optional<SchemaRef> {
    const json::Value* value = json::find(*keywords, key);
    if (value == nullptr) return std::nullopt;
    return SchemaRef{value, concat(schema.pointer, "/", key)};
  };
  auto items = std::make_shared<Demands::Items>();
  const auto list = child("items"), prefix = child("prefixItems");
  const bool is_tuple = list && list->schema->is<json::Value::Array>();
  if (is_tuple && prefix)
    fail<UnsupportedError>(kSchemaSource, quote(prefix->pointer),
                           ": beside items as a list, which older drafts have, it is not supported");
  if (const auto& tuple = is_tuple ? list : prefix) {
    const auto& elements = list_of(*tuple->schema, tuple->pointer);
    for (std::size_t i = 0; i < elements.size(); ++i)
      items->prefix.push_back({&elements[i], concat(tuple->pointer, "/", i)});
  }
  items->others = is_tuple ? child("additionalItems") : list;
  auto members = std::make_shared<Demands::Members>();
  if (const auto properties = child("properties")) {
    for (const auto& [name, value] : object_of(*properties->schema, properties->pointer))
      members->named.emplace_back(name, SchemaRef{&value, concat(properties->pointer, "/", escaped(name))});
  }
  for (std::size_t i = 0; i < members->named.size(); ++i) members->places.emplace(members->named[i].first, i);
  members->others = child("additionalProperties");
  count_work(items->prefix.size() + members->named.size(), schema.pointer);
  for (Demands& demands : all) {
    if (items->others || !items->prefix.empty()) demands.items.push_back(items);
    if (members->others || !members->named.empty()) demands.members.push_back(members);
  }
  apply_keywords(*keywords, schema, true, all);
  --depth_;
}

void SchemaReader::apply_keywords(const json::Value::Object& keywords, const SchemaRef& schema, bool branches,
                                  std::vector<Demands>& all) {
  for (const auto& [key, value] : keywords) {
    const bool is_branch = key == "anyOf" || key == "oneOf";
    if (is_branch != branches || is_annotation(key)) continue;
    count_work(all.size() + 1, schema.pointer);
    apply_keyword(key, value, schema, all);
  }
}

void SchemaReader::apply_keyword(const std::string& key, const json::Value& value, const SchemaRef& schema,
                                 std::vector<Demands>& all) {
  const std::string pointer = concat(schema.pointer, "/", escaped(key));
  const auto demand = [&](unsigned type, auto&& add) {
    for (Demands& demands : all) {
      demands.spoken_of |= type;
      add(demands);
    }
  };
  const auto at_most = [](std::optional<std::uint64_t>& limit, std::uint64_t count) {
    limit = std::min(limit.value_or(count), count);
  };
  if (key == "type") {
    unsigned types = 0;
    if (const auto* list = value.get_if<json::Value::Array>()) {
      for (const json::Value& name : *list) types |= type_named(name, pointer);
    } else {
      types = type_named(value, pointer);
    }
    demand(0, [&](Demands& d) {
      d.types &= types;
      d.has_type = true;
    });
  } else if (key == "enum" || key == "const") {
    const auto values = std::make_shared<json::Value::Array>();
    if (key == "enum")
      *values = list_of(value, pointer);
    else
      values->push_back(value);
    demand(0, [&](Demands& d) {
      if (!d.values) {
        d.values = values;
        return;
      }
      const auto keys = keys_of(*values, pointer);
      const auto common = std::make_shared<json::Value::Array>();
      for (const json::Value& v : *d.values)
        if (keys.contains(key_of(v, pointer))) common->push_back(v);
      d.values = common;
    });
  } else if (key == "minimum" || key == "exclusiveMinimum" || key == "maximum" || key == "exclusiveMaximum") {
    if (!is_number(value)) fail_form(pointer, value, "a number");
    demand(kInteger | kFraction, [&](Demands& d) {
      (key == "minimum" || key == "exclusiveMinimum" ? d.low : d.high)
          .push_back({value, !key.starts_with("exclusive"), pointer});
    });
  } else if (key == "minLength") {
    demand(kString, [&](Demands& d) { d.min_length = std::max(d.min_length, count_of(value, pointer)); });
  } else if (key == "maxLength") {
    demand(kString, [&](Demands& d) { at_most(d.max_length, count_of(value, pointer)); });
  } else if (key == "pattern" || key == "format") {
    demand(kString, [&](Demands& d) {
      (key == "pattern" ? d.patterns : d.formats).push_back({text_of(value, pointer), pointer});
    });
  } else if (key == "minItems") {
    demand(kArray, [&](Demands& d) { d.min_items = std::max(d.min_items, count_of(value, pointer)); });
  } else if (key == "maxItems") {
    demand(kArray, [&](Demands& d) { at_most(d.max_items, count_of(value, pointer)); });
  } else if (key == "items" || key == "prefixItems" || key == "additionalItems") {
    if (key == "prefixItems") list_of(value, pointer);
    demand(kArray, [](Demands&) {});
  } else if (key == "properties" || key == "additionalProperties") {
    if (key == "properties") object_of(value, pointer);
    demand(kObject, [](Demands&) {});
  } else if (key == "required") {
    for (const json::Value& name : list_of(value, pointer)) {
      demand(kObject, [&](Demands& d) {
        count_work(d.required.size(), pointer);
        const std::string& text = text_of(name, pointer);
        if (std::find(d.required.begin(), d.required.end(), text) == d.required.end())
          d.required.push_back(text);
      });
    }
  } else if (key == "$ref") {
    apply(resolve(value, pointer), all);
  } else if (key == "allOf") {
    const auto& parts = list_of(value, pointer);
    for (std::size_t i = 0; i < parts.size(); ++i) apply({&parts[i], concat(pointer, "/", i)}, all);
  } else if (key == "anyOf" || key == "oneOf") {
    apply_branches(key, value, pointer, all);
  } else if (key == "$id" || key == "id") {
    if (schema.schema != &root_)
      fail<UnsupportedError>(kSchemaSource, quote(pointer),
                             ": another base for references inside the schema is not supported");
  } else if ((key == "uniqueItems" && value == json::Value(false)) ||
             ((key == "minProperties" || key == "minContains") && value == json::Value(0))) {
    // says nothing
  } else {
    fail<UnsupportedError>(kSchemaSource, quote(pointer), ": the keyword is not supported");
  }
}

void SchemaReader::apply_branches(const std::string& key, const json::Value& value,
                                  const std::string& pointer, std::vector<Demands>& all) {
  const auto& branches = list_of(value, pointer);
  if (branches.empty()) fail_form(pointer, value, "at least one schema");
  std::vector<std::vector<Demands>> results;
  std::size_t count = 0;
  for (std::size_t i = 0; i < branches.size(); ++i) {
    for (const Demands& demands : all) count_work(demands.size(), pointer);
    std::vector<Demands>& result = results.emplace_back(all);
    apply({&branches[i], concat(pointer, "/", i)}, result);
    count += result.size();
    if (count > kMaxAlternatives)
      fail<ArgumentError>(kSchemaSource, quote(pointer), " makes more than ", kMaxAlternatives,
                          " alternatives, which is the limit");
  }
  for (std::size_t i = 0; key == "oneOf" && i < results.size(); ++i) {
    for (std::size_t j = i + 1; j < results.size(); ++j) {
      for (const Demands& a : results[i])
        for (const Demands& b : results[j])
          if (!exclude_each_other(a, b, 0))
            fail<UnsupportedError>(kSchemaSource, quote(pointer), ": the branches ", i, " and ", j,
                                   " may both hold as far as can be seen, which is not supported in oneOf; "
                                   "anyOf may be meant");
    }
  }
  all.clear();
  for (std::vector<Demands>& result : results) {
    for (Demands& demands : result) {
      if (key == "oneOf") demands.wanted = demands.chosen_types();
      all.push_back(std::move(demands));
    }
  }
}

void SchemaReader::count_work(std::size_t steps, const std::string& pointer) {
  work_ += steps;
  if (work_ > kMaxSchemaWork)
    fail<ArgumentError>(kSchemaSource, "has too many combinations of branches and values at ",
                        quote(pointer));
}

std::string SchemaReader::key_of(const json::Value& value, const std::string& pointer) {
  std::string key;
  add_key(value, key);
  count_work(1 + key.size() / 16, pointer);
  return key;
}

std::set<std::string> SchemaReader::keys_of(const json::Value::Array& values, const std::string& pointer) {
  std::set<std::string> keys;
  for (const json::Value& value : values) keys.insert(key_of(value, pointer));
  return keys;
}

// Whether no text of one meets the other, as far as types, values and members that must be there show it. Of members every
// value counts: what comes later may choose others of them.
bool SchemaReader::exclude_each_other(const Demands& a, const Demands& b, int depth) {
  count_work(1 + (a.values ? a.values->size() : 0) + (b.values ? b.values->size() : 0), a.pointer);
  const unsigned of_a = a.admitted_types(), of_b = b.admitted_types();
  const unsigned both = depth > 0 ? of_a & of_b : (a.chosen_types() & of_b) | (of_a & b.chosen_types());
  if (both == 0) return true;
  if (a.values && b.values) {
    const auto keys = keys_of(*b.values, b.pointer);
    return std::none_of(a.values->begin(), a.values->end(),
                        [&](const json::Value& value) { return keys.contains(key_of(value, a.pointer)); });
  }
  if (both != kObject) return false;
  for (const std::string& name : a.required) {
    count_work(1 + b.required.size() / 16 + a.members.size() + b.members.size(), a.pointer);
    const auto closed = [&](const Demands& d) {  // against members of this name
      const Schemas schemas = d.member(name);
      return std::any_of(schemas.begin(), schemas.end(),
                         [](const SchemaRef& s) { return *s.schema == json::Value(false); });
    };
    if (closed(b)) return true;
    if (depth == 3 || std::find(b.required.begin(), b.required.end(), name) == b.required.end()) continue;
    const std::vector<Demands> in_a = read(a.member(name)), in_b = read(b.member(name));
    const bool apart = std::all_of(in_a.begin(), in_a.end(), [&](const Demands& x) {
      return std::all_of(in_b.begin(), in_b.end(),
                         [&](const Demands& y) { return exclude_each_other(x, y, depth + 1); });
    });
    if (apart) return true;
  }
  return depth < 3 && std::any_of(b.required.begin(), b.required.end(), [&](const std::string& name) {
           const Schemas schemas = a.member(name);
           return std::any_of(schemas.begin(), schemas.end(),
                              [](const SchemaRef& s) { return *s.schema == json::Value(false); });
         });
}

SchemaRef SchemaReader::resolve(const json::Value& reference, const std::string& pointer) {
  const std::string& text = text_of(reference, pointer);
  if (!text.starts_with("#") || (text.size() > 1 && text[1] != '/'))
    fail<UnsupportedError>(kSchemaSource, quote(pointer), ": the reference ", quote(text),
                           " is not supported: one into the same text is, like \"#/$defs/name\"");
  const json::Value* at = &root_;
  std::size_t begin = 2;
  while (begin <= text.size() && text.size() > 1) {
    const std::size_t end = std::min(text.find('/', begin), text.size());
    const std::string token = unescaped(std::string_view(text).substr(begin, end - begin));
    const json::Value* next = nullptr;
    if (const auto* object = at->get_if<json::Value::Object>()) {
      count_work(object->size() / 16, pointer);
      if (at != &root_ && has_base(*object))
        fail<UnsupportedError>(kSchemaSource, quote(pointer), ": the reference ", quote(text),
                               " leads through a schema with a base of its own, which is not supported");
      next = json::find(*object, token);
    } else if (const auto* list = at->get_if<json::Value::Array>()) {
      std::size_t index = 0;
      const auto [stop, error] = std::from_chars(token.data(), token.data() + token.size(), index);
      if (error == std::errc() && stop == token.data() + token.size() && index < list->size())
        next = &(*list)[index];
    }
    if (next == nullptr)
      fail<FormatError>(kSchemaSource, quote(pointer), ": the reference ", quote(text), " leads nowhere");
    at = next;
    begin = end + 1;
  }
  return {at, text};
}

}  // namespace gpt::generate
