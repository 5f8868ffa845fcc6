// Any adapter_config.json describes an adapter, which another is made like from what it says of itself, or gives an error of the file.
#include <cstddef>
#include <cstdint>
#include <string>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "gpt/io/hf_config.h"
#include "gpt/models/gpt2.h"
#include "peft/any_adapter.h"

namespace {

gpt::Gpt2 adapted_network() {
  gpt::Gpt2Config config;
  config.vocab_size = 97;
  config.n_positions = 32;
  config.n_embd = 16;
  config.n_layer = 2;
  config.n_head = 2;
  return gpt::Gpt2(config);
}

}  // namespace

GPT_FUZZER(adapter_config) {
  static const gpt::Gpt2 network = adapted_network();
  try {
    const auto config = gpt::HfConfig::parse({reinterpret_cast<const char*>(data), size}, "fuzz");
    const auto adapter = gpt::peft::adapter_of(network, config, [](std::string_view) {});
    const std::string described = adapter->describe();
    const auto again = gpt::peft::adapter_of(network, gpt::HfConfig::parse(described, "described"),
                                             [](std::string_view) { __builtin_trap(); });
    gpt::fuzz::require(again->describe() == described);
  } catch (const gpt::FormatError&) {
  } catch (const gpt::ShapeError&) {
  } catch (const gpt::UnsupportedError&) {
  }
  return 0;
}
