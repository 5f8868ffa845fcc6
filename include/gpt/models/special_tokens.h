// The tokens that begin, end and fill up texts: a model's and its tokenizer's.
#pragma once

#include <functional>
#include <string_view>

#include "gpt/models/model.h"

namespace gpt {

/// Has a model take over the special tokens of its tokenizer, as transformers' Trainer does (align_special_tokens). For a tokenizer
/// that the model did not come with (Model::set_tokenizer), before the model is trained, used or saved: texts would else end, or
/// begin, with ids that are other tokens now, or none.
///
///   config.json             bos_token_id, eos_token_id and pad_token_id become the tokenizer's. Several eos_token_id stay as
///                           they are where the tokenizer's is among them
///   generation_config.json  the same, of those keys that it has; but beside an eos_token_id that is new, the former ones stay
///
/// An id that the tokenizer gives no other for, and a former eos_token_id, stay only where they are special tokens of the
/// tokenizer: left over from another vocabulary they are none (50256 in one of 512), or end texts at a word. The Trainer keeps
/// such a former one, and in its later versions none of the others. A token of the tokenizer that the network has no row for
/// counts as none, unless the model has it already.
///
/// `on_warning` is told of every id that changes, from what to what and why. Copies of the model keep theirs. Throws
/// UnsupportedError without a tokenizer, FormatError for ids in generation_config.json that are no integers, MemoryError; the
/// model is then as it was.
void align_special_tokens(Model& model, const std::function<void(std::string_view message)>& on_warning = {});

}  // namespace gpt
