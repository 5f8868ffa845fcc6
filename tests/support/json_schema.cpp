#include "support/json_schema.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <regex>
#include <set>
#include <vector>

namespace gpt::test {
namespace {

using Json = nlohmann::json;

bool is_type(const Json& value, const std::string& type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "string") return value.is_string();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  if (type == "number") return value.is_number();
  if (type != "integer") return false;
  return value.is_number_integer() ||
         (value.is_number_float() && value.get<double>() == std::floor(value.get<double>()));
}

std::size_t length_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool is_leap(int year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

bool is_date(const std::string& text) {
  std::smatch m;
  if (!std::regex_match(text, m, std::regex("([0-9]{4})-([0-9]{2})-([0-9]{2})"))) return false;
  const int year = std::stoi(m[1]), month = std::stoi(m[2]), day = std::stoi(m[3]);
  const int days[] = {31, is_leap(year) ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return year >= 1 && month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1];
}

bool is_time(const std::string& text) {
  std::smatch m;
  const std::regex form("([0-9]{2}):([0-9]{2}):([0-9]{2})(\\.[0-9]+)?(Z|[-+]([0-9]{2}):([0-9]{2}))");
  if (!std::regex_match(text, m, form)) return false;
  if (std::stoi(m[1]) > 23 || std::stoi(m[2]) > 59 || std::stoi(m[3]) > 59) return false;
  return m[5] == "Z" || (std::stoi(m[6]) <= 23 && std::stoi(m[7]) <= 59);
}

bool has_format(const std::string& text, const std::string& format) {
  if (format == "date") return is_date(text);
  if (format == "time") return is_time(text);
  if (format == "date-time")
    return text.size() > 11 && text[10] == 'T' && is_date(text.substr(0, 10)) && is_time(text.substr(11));
  if (format == "uuid")
    return std::regex_match(text, std::regex("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"));
  if (format == "email")
    return text.size() <= 254 && std::regex_match(text, std::regex("[\\w.+-]+@\\w+(\\.\\w+)+")) &&
           text.find("..") == text.npos && text.find(".@") == text.npos && text[0] != '.';
  if (format == "hostname")
    return text.size() <= 253 && !std::regex_search(text, std::regex("(^|\\.)..--")) &&
           std::regex_match(text,
                            std::regex("[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"));
  if (format == "ipv4") {
    std::smatch m;
    if (!std::regex_match(text, m, std::regex("([0-9]+)\\.([0-9]+)\\.([0-9]+)\\.([0-9]+)"))) return false;
    return std::all_of(m.begin() + 1, m.end(), [](const auto& part) {
      return part.length() <= 3 && std::stoi(part) <= 255 && (part.length() == 1 || *part.first != '0');
    });
  }
  return false;
}

// With one byte for every character, so that patterns of ASCII see what they would see in ECMA-262: white space as a space, the
// ends of lines as a line feed, anything else beyond ASCII as a DEL.
std::string in_ascii(const std::string& text) {
  static const std::set<unsigned> kSpaces{0xA0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003,
                                          0x2004, 0x2005, 0x2006, 0x2007, 0x2008, 0x2009,
                                          0x200A, 0x202F, 0x205F, 0x3000, 0xFEFF};
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i++]);
    unsigned c = first < 0x80   ? first
                 : first < 0xE0 ? first & 0x1Fu
                 : first < 0xF0 ? first & 0x0Fu
                                : first & 0x07u;
    for (; i < text.size() && (text[i] & 0xC0) == 0x80; ++i)
      c = c << 6 | (static_cast<unsigned>(text[i]) & 0x3F);
    out += c < 0x80                     ? static_cast<char>(c)
           : kSpaces.contains(c)        ? ' '
           : c == 0x2028 || c == 0x2029 ? '\n'
                                        : '\x7F';
  }
  return out;
}

std::string check_text(const std::string& text, const std::string& key, const Json& bound) {
  if (key == "minLength" && length_of(text) < bound.get<std::size_t>()) return "is too short";
  if (key == "maxLength" && length_of(text) > bound.get<std::size_t>()) return "is too long";
  if (key == "pattern" && !std::regex_search(in_ascii(text), std::regex(bound.get<std::string>())))
    return "does not match";
  if (key == "format" && !has_format(text, bound)) return "has not the format " + bound.dump();
  return "";
}

std::string check_number(double x, const std::string& key, const Json& bound) {
  if (key == "minimum" && !(x >= bound.get<double>())) return "is too small";
  if (key == "maximum" && !(x <= bound.get<double>())) return "is too large";
  if (key == "exclusiveMinimum" && !(x > bound.get<double>())) return "is too small";
  if (key == "exclusiveMaximum" && !(x < bound.get<double>())) return "is too large";
  return "";
}

std::string check_array(const Json& value, const Json& schema, const Json& root) {
  if (schema.contains("minItems") && value.size() < schema["minItems"].get<std::size_t>())
    return "has too few elements";
  if (schema.contains("maxItems") && value.size() > schema["maxItems"].get<std::size_t>())
    return "has too many elements";
  const Json prefix = schema.value("prefixItems", Json::array());
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (i >= prefix.size() && !schema.contains("items")) continue;
    const std::string why = why_invalid(value[i], i < prefix.size() ? prefix[i] : schema["items"], root);
    if (!why.empty()) return "element " + std::to_string(i) + ": " + why;
  }
  return "";
}

std::string check_object(const Json& value, const Json& schema, const Json& root) {
  for (const Json& name : schema.value("required", Json::array()))
    if (!value.contains(name.get<std::string>())) return "lacks " + name.dump();
  const Json properties = schema.value("properties", Json::object());
  for (const auto& [name, member] : value.items()) {
    if (!properties.contains(name) && !schema.contains("additionalProperties")) continue;
    const std::string why = why_invalid(
        member, properties.contains(name) ? properties[name] : schema["additionalProperties"], root);
    if (!why.empty()) return name + ": " + why;
  }
  return "";
}

std::string check_keyword(const Json& value, const std::string& key, const Json& said, const Json& root) {
  if (key == "type") {
    const Json types = said.is_array() ? said : Json::array({said});
    if (std::none_of(types.begin(), types.end(), [&](const Json& type) { return is_type(value, type); }))
      return value.dump() + " is not of type " + said.dump();
  } else if (key == "enum") {
    if (std::find(said.begin(), said.end(), value) == said.end())
      return value.dump() + " is not in " + said.dump();
  } else if (key == "const") {
    if (value != said) return value.dump() + " is not " + said.dump();
  } else if (key == "$ref") {
    const auto reference = said.get<std::string>();
    return why_invalid(value, root.at(Json::json_pointer(reference.substr(1))), root);
  } else if (key == "anyOf" || key == "oneOf" || key == "allOf") {
    const auto valid = std::count_if(said.begin(), said.end(), [&](const Json& branch) {
      return why_invalid(value, branch, root).empty();
    });
    if (key == "allOf" ? std::cmp_not_equal(valid, said.size()) : key == "anyOf" ? valid < 1 : valid != 1)
      return value.dump() + " meets " + std::to_string(valid) + " branches of " + key;
  } else if (value.is_string()) {
    return check_text(value, key, said);
  } else if (value.is_number()) {
    return check_number(value, key, said);
  }
  return "";
}

}  // namespace

std::string why_invalid(const Json& value, const Json& schema, const Json& root) {
  static const std::set<std::string> kKnown{"type",
                                            "enum",
                                            "const",
                                            "$ref",
                                            "anyOf",
                                            "oneOf",
                                            "allOf",
                                            "minLength",
                                            "maxLength",
                                            "pattern",
                                            "format",
                                            "items",
                                            "minimum",
                                            "maximum",
                                            "exclusiveMinimum",
                                            "exclusiveMaximum",
                                            "minItems",
                                            "maxItems",
                                            "prefixItems",
                                            "required",
                                            "properties",
                                            "additionalProperties",
                                            "$defs",
                                            "title",
                                            "description",
                                            "default"};
  if (schema.is_boolean()) return schema.get<bool>() ? "" : "nothing is allowed";
  for (const auto& [key, said] : schema.items()) {
    if (!kKnown.contains(key)) return "the validator does not know " + key;
    std::string why = check_keyword(value, key, said, root);
    if (!why.empty()) return why;
  }
  if (value.is_array()) return check_array(value, schema, root);
  if (value.is_object()) return check_object(value, schema, root);
  return "";
}

}  // namespace gpt::test
