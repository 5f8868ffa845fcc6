// Any bytes either are a GGUF file, of which every value and tensor can then be asked for, and perhaps a network that runs, or
// give a typed error.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "gpt/io/gguf.h"
#include "models/load_gguf.h"

namespace {

void load_and_run(const gpt::GgufFile& file) {
  try {
    const gpt::Model model = gpt::load_gguf(file, {});
    if (model.has_tokenizer()) static_cast<void>(model.tokenizer().token_of(0));
    const gpt::TokenId id = 0;
    const gpt::Chunk chunk{{&id, 1}};
    gpt::Arena arena;
    static_cast<void>(model.network().forward({&chunk, 1}, arena));
  } catch (const gpt::Error&) {
  }
}

}  // namespace

GPT_FUZZER(gguf) {
  // A copy of exactly this size, so that the sanitizer sees a read beyond it.
  const auto bytes = std::make_shared<std::vector<std::uint8_t>>(data, data + size);
  try {
    const gpt::GgufFile file(bytes, std::as_writable_bytes(std::span(*bytes)), "fuzz");
    for (const std::string& key : file.keys()) {
      gpt::fuzz::ask([&] { return file.get_unsigned(key); });
      gpt::fuzz::ask([&] { return file.get_float(key); });
      gpt::fuzz::ask([&] { return file.get_bool(key); });
      gpt::fuzz::ask([&] { return file.get_string(key); });
      gpt::fuzz::ask([&] { return file.get_strings(key); });
      gpt::fuzz::ask([&] { return file.get_ints(key); });
    }
    std::size_t total = 0;
    for (const std::string& name : file.names()) {
      total += file.info(name).nbytes;
      volatile int sum = 0;
      for (const std::byte b : file.bytes(name)) sum = sum + std::to_integer<int>(b);
      if (gpt::dtype_of_gguf(file.info(name).type) && file.tensor(name).nbytes() != file.info(name).nbytes)
        __builtin_trap();
    }
    if (total > size) __builtin_trap();  // without overlaps the tensors fit into the file
    load_and_run(file);
  } catch (const gpt::FormatError&) {
  } catch (const gpt::UnsupportedError&) {
  }
  return 0;
}
