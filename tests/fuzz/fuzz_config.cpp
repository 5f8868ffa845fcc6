// Any text either is a configuration, whose keys can then all be asked for as any type and which survives
// being written and read again, or gives a FormatError.
#include <cstddef>
#include <cstdint>
#include <string>

#include "gpt/core/error.h"
#include "gpt/io/hf_config.h"

namespace {

template <class Getter>
void ask(Getter getter) {
  try {
    static_cast<void>(getter());
  } catch (const gpt::FormatError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(data, data + size);
  try {
    const gpt::HfConfig config = gpt::HfConfig::parse(text, "fuzz");
    for (const std::string& key : config.keys()) {
      ask([&] { return config.get_bool(key); });
      ask([&] { return config.get_int(key); });
      ask([&] { return config.get_float(key); });
      ask([&] { return config.get_string(key); });
      ask([&] { return config.get_int_list(key); });
      ask([&] { return config.get_string_list(key); });
      ask([&] { return config.get_string_map(key); });
      ask([&] { return config.get_int_map(key); });
      ask([&] { return config.get_json(key); });
      ask([&] { return config.get_object(key); });
    }
    if (!config.unread_keys().empty()) __builtin_trap();
    const std::string dumped = config.dump();
    if (gpt::HfConfig::parse(dumped, "fuzz").dump() != dumped) __builtin_trap();
  } catch (const gpt::FormatError&) {
  }
  return 0;
}
