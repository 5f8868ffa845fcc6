// Any text either is a configuration, whose keys can then all be asked for as any type and which survives
// being written and read again, or gives a FormatError. It either is that of a network, which survives the same, or gives an error
// that says why not.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "gpt/io/hf_config.h"
#include "gpt/models/gpt2_config.h"

namespace gpt::fuzz {

inline std::string written(const Gpt2Config& network) {
  HfConfig file;
  network.to_hf(file);
  return file.dump();
}

inline void read_network(const HfConfig& config) {
  std::optional<Gpt2Config> network;
  try {
    network = Gpt2Config::from_hf(config, [](std::string_view) {});
  } catch (const FormatError&) {
  } catch (const UnsupportedError&) {
  } catch (const ArgumentError&) {
  }
  if (!network) return;
  const std::string text = written(*network);
  require(written(Gpt2Config::from_hf(HfConfig::parse(text, "written"))) == text);
}

}  // namespace gpt::fuzz

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
    return 0;
  }
  gpt::fuzz::read_network(gpt::HfConfig::parse(text, "fuzz"));
  return 0;
}
