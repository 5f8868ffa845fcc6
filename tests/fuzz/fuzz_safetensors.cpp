// Any bytes either are a safetensors file, whose tensors can then all be read, or give a typed error.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "gpt/io/safetensors.h"

GPT_FUZZER(safetensors) {
  // A copy of exactly this size, so that the sanitizer sees a read beyond it.
  const auto bytes = std::make_shared<std::vector<std::uint8_t>>(data, data + size);
  try {
    const gpt::SafetensorsFile file(bytes, std::as_writable_bytes(std::span(*bytes)), "fuzz");
    std::size_t total = 0;
    for (const std::string& name : file.names()) {
      const gpt::TensorInfo& info = file.info(name);
      total += info.nbytes;
      try {
        const gpt::Tensor t = file.tensor(name);
        if (t.nbytes() != info.nbytes || t.shape() != info.shape) __builtin_trap();
        volatile int sum = 0;
        for (std::size_t i = 0; i < t.nbytes(); ++i) sum = sum + static_cast<int>(t.view().raw()[i]);
      } catch (const gpt::UnsupportedError&) {  // a dtype that the library lacks
      } catch (const gpt::FormatError&) {       // a BOOL of neither 0 nor 1
      }
    }
    if (total > size) __builtin_trap();  // without overlaps the tensors fit into the file
  } catch (const gpt::FormatError&) {
  } catch (const gpt::UnsupportedError&) {
  }
  return 0;
}
