// Any generation_config.json either gives options, which are then in their ranges or not, or a FormatError.
#include <cstddef>
#include <cstdint>
#include <string>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "gpt/generate/generate_options.h"
#include "gpt/io/hf_config.h"

GPT_FUZZER(generation_config) {
  const std::string text(data, data + size);
  try {
    gpt::GenerateOptions::from_config(gpt::HfConfig::parse(text, "fuzz")).validate();
  } catch (const gpt::FormatError&) {
  } catch (const gpt::ArgumentError&) {
  }
  return 0;
}
