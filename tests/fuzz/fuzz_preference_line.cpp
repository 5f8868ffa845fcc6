// Any line is a pair of answers to one prompt, each with something to learn at its end, or gives a FormatError.
#include <algorithm>
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
gpt::ByteBpe bytes_without_z(bool has_eos) {
  gpt::ByteBpeModel model;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    if (c != 'z') model.vocab.emplace_back(gpt::spell_bytes({&c, 1}), byte);
  }
  model.added_tokens = {{.content = "<eos>"}};
  if (has_eos) model.eos_token = "<eos>";
  return gpt::ByteBpe(std::move(model));
}

}  // namespace

GPT_FUZZER(preference_line) {
  using gpt::fuzz::require;
  static const gpt::ByteBpe with_eos = bytes_without_z(true), without = bytes_without_z(false);
  const std::string line(data, data + size);
  for (const gpt::ByteBpe* tokenizer : {&with_eos, &without})
    for (const bool special : {false, true}) {
      try {
        const gpt::PreferenceIds pair = gpt::read_preference_line(line, "fuzz:1", *tokenizer, special);
        const auto prompt_of = [](const gpt::MaskedIds& answer) {
          return std::ranges::find(answer.learned, true) - answer.learned.begin();
        };
        for (const gpt::MaskedIds* answer : {&pair.chosen, &pair.rejected}) {
          require(answer->learned.size() == answer->ids.size() && answer->ids.size() >= 2);
          require(answer->learned.back());
          if (tokenizer == &with_eos) require(answer->ids.back() == with_eos.eos_token_id());
        }
        const auto prompt = prompt_of(pair.chosen);
        require(prompt == prompt_of(pair.rejected));
        require(
            std::equal(pair.chosen.ids.begin(), pair.chosen.ids.begin() + prompt, pair.rejected.ids.begin()));
      } catch (const gpt::FormatError&) {
      }
    }
  return 0;
}
