// Files as torch.save writes them, and wrong ones: a zip archive that stores its members, and a pickle in it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/gguf_bytes.h"

namespace gpt::test {

/// An archive of stored members. What stands in `method` and `flags` is said of all of them.
struct ZipBytes {
  std::vector<std::pair<std::string, std::string>> members = {};
  std::uint16_t method = 0, flags = 0;
  bool zip64 = false;  // numbers of the directory in their 64-bit places

  std::string bytes() const {
    std::string out, directory;
    for (const auto& [name, content] : members) {
      const auto header = static_cast<std::uint32_t>(out.size());
      const auto size = static_cast<std::uint32_t>(content.size());
      const auto name_size = static_cast<std::uint16_t>(name.size());
      out += raw<std::uint32_t>(0x04034b50) + raw<std::uint16_t>(20) + raw(flags) + raw(method) +
             raw<std::uint32_t>(0) + raw<std::uint32_t>(0) + raw(size) + raw(size) + raw(name_size) +
             raw<std::uint16_t>(0) + name + content;
      const std::string extra = zip64 ? raw<std::uint16_t>(1) + raw<std::uint16_t>(24) +
                                            raw<std::uint64_t>(size) + raw<std::uint64_t>(size) +
                                            raw<std::uint64_t>(header)
                                      : std::string();
      const std::uint32_t none = 0xffffffff;
      directory += raw<std::uint32_t>(0x02014b50) + raw<std::uint16_t>(20) + raw<std::uint16_t>(20) +
                   raw(flags) + raw(method) + raw<std::uint32_t>(0) + raw<std::uint32_t>(0) +
                   raw(zip64 ? none : size) + raw(zip64 ? none : size) + raw(name_size) +
                   raw(static_cast<std::uint16_t>(extra.size())) + raw<std::uint16_t>(0) +
                   raw<std::uint16_t>(0) + raw<std::uint16_t>(0) + raw<std::uint32_t>(0) +
                   raw(zip64 ? none : header) + name + extra;
    }
    const std::uint64_t begin = out.size(), size = directory.size(), count = members.size();
    out += directory;
    if (zip64) {
      const std::uint64_t end = out.size();
      out += raw<std::uint32_t>(0x06064b50) + raw<std::uint64_t>(44) + raw<std::uint16_t>(45) +
             raw<std::uint16_t>(45) + raw<std::uint32_t>(0) + raw<std::uint32_t>(0) + raw(count) +
             raw(count) + raw(size) + raw(begin);
      out += raw<std::uint32_t>(0x07064b50) + raw<std::uint32_t>(0) + raw(end) + raw<std::uint32_t>(1);
    }
    const auto small = [&](std::uint64_t n) { return zip64 ? 0xffffffff : static_cast<std::uint32_t>(n); };
    const auto few = static_cast<std::uint16_t>(zip64 ? 0xffff : count);
    return out + raw<std::uint32_t>(0x06054b50) + raw<std::uint16_t>(0) + raw<std::uint16_t>(0) + raw(few) +
           raw(few) + raw(small(size)) + raw(small(begin)) + raw<std::uint16_t>(0);
  }
};

/// Pieces of pickles, protocol 2.
namespace pickle {

inline std::string text(std::string_view s) {
  return "X" + raw(static_cast<std::uint32_t>(s.size())) + std::string(s);
}
inline std::string number(std::int32_t n) { return "J" + raw(n); }
inline std::string global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}
inline std::string tuple(std::string_view items) { return "(" + std::string(items) + "t"; }
inline std::string numbers(const std::vector<std::int32_t>& values) {
  std::string items;
  for (const std::int32_t v : values) items += number(v);
  return tuple(items);
}
inline const std::string kOrderedDict = global("collections", "OrderedDict") + ")R";

inline std::string storage(std::string_view type, std::string_view key, std::int32_t size) {
  return tuple(text("storage") + global("torch", type) + text(key) + text("cpu") + number(size)) + "Q";
}
inline std::string tensor(std::string_view storage, std::int32_t offset,
                          const std::vector<std::int32_t>& shape, const std::vector<std::int32_t>& stride) {
  return global("torch._utils", "_rebuild_tensor_v2") +
         tuple(std::string(storage) + number(offset) + numbers(shape) + numbers(stride) + "\x89" +
               kOrderedDict) +
         "R";
}
/// A whole pickle of a dict: keys and values in turn.
inline std::string dict(std::string_view items) {
  return std::string("\x80\x02") + kOrderedDict + "(" + std::string(items) + "u" + "}" + text("_metadata") +
         kOrderedDict + "sb.";
}

}  // namespace pickle
}  // namespace gpt::test
