// Any text either is a configuration, whose keys can then all be asked for as any type and which survives
// being written and read again, or gives a FormatError.
#include <cstddef>
#include <cstdint>
#include <string>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "gpt/io/hf_config.h"

GPT_FUZZER(config) {
  const std::string text(data, data + size);
  try {
    const gpt::HfConfig config = gpt::HfConfig::parse(text, "fuzz");
    for (const std::string& key : config.keys()) {
      gpt::fuzz::ask([&] { return config.get_bool(key); });
      gpt::fuzz::ask([&] { return config.get_int(key); });
      gpt::fuzz::ask([&] { return config.get_float(key); });
      gpt::fuzz::ask([&] { return config.get_string(key); });
      gpt::fuzz::ask([&] { return config.get_int_list(key); });
      gpt::fuzz::ask([&] { return config.get_string_list(key); });
      gpt::fuzz::ask([&] { return config.get_bool_list(key); });
      gpt::fuzz::ask([&] { return config.get_string_map(key); });
      gpt::fuzz::ask([&] { return config.get_int_map(key); });
      gpt::fuzz::ask([&] { return config.get_json(key); });
      gpt::fuzz::ask([&] { return config.get_object(key); });
    }
    if (!config.unread_keys().empty()) __builtin_trap();
    const std::string dumped = config.dump();
    if (gpt::HfConfig::parse(dumped, "fuzz").dump() != dumped) __builtin_trap();
  } catch (const gpt::FormatError&) {
  }
  return 0;
}
