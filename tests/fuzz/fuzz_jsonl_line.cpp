// Any line is a sample with something to learn at its end, or gives a FormatError.
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "gpt/text/byte_bpe.h"
#include "text/byte_map.h"
#include "train/jsonl_line.h"

namespace {

// All bytes but one, so that a text can also be one that the vocabulary lacks.
gpt::ByteBpe bytes_without_q(bool has_eos) {
  gpt::ByteBpeModel model;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    if (c != 'q') model.vocab.emplace_back(gpt::spell_bytes({&c, 1}), byte);
  }
  model.added_tokens = {{.content = "<eos>"}};
  if (has_eos) model.eos_token = "<eos>";
  return gpt::ByteBpe(std::move(model));
}

}  // namespace

GPT_FUZZER(jsonl_line) {
  static const gpt::ByteBpe with_eos = bytes_without_q(true), without = bytes_without_q(false);
  const std::string line(data, data + size);
  for (const gpt::ByteBpe* tokenizer : {&with_eos, &without}) {
    try {
      const gpt::MaskedIds sample = gpt::read_jsonl_line(line, "fuzz:1", *tokenizer, true, {});
      if (sample.learned.size() != sample.ids.size() || sample.ids.size() < 2 || !sample.learned.back())
        __builtin_trap();
      if (tokenizer == &with_eos && sample.ids.back() != with_eos.eos_token_id()) __builtin_trap();
    } catch (const gpt::FormatError&) {
    }
  }
  return 0;
}
