// The tokens that begin, end and fill up texts: a model's and its tokenizer's.
#pragma once

#include <functional>
#include <string_view>

#include "gpt/models/model.h"

namespace gpt {

/// Has a model take over the special tokens of its tokenizer, much as transformers' Trainer does (align_special_tokens). For a
/// tokenizer that the model did not come with (Model::set_tokenizer), before the model is trained, used or saved: texts would else
/// end, or begin, with ids that are other tokens now, or none. A Classifier's pad_token_id is its model's, and changes with it.
///
///   config.json             bos_token_id, eos_token_id and pad_token_id become the tokenizer's. Beside an eos_token_id that is
///                           among several already, the others stay
///   generation_config.json  the same, where the model has one; but beside an eos_token_id that is new, the former ones stay, too.
///                           Missing keys of tokens that the tokenizer names are added, with the ids of config.json
///
/// Ids stay only where they are special tokens of the tokenizer, as those do that it gives no other for: left over from another
/// vocabulary they are none (50256 in one of 512), or end texts at a word. A token of the tokenizer that the network has no row for
/// counts as none, unless the model has it already.
///
/// The Trainer does otherwise in this: of several eos_token_id in config.json it keeps the tokenizer's alone; the former ones in
/// generation_config.json stay whatever they are; and where the tokenizer gives none, ids go, in its later versions.
///
/// `on_warning` is told of every id that changes, from what to what and why, and of the tokenizer's that the network has no row
/// for; before anything changes. Copies of the model keep theirs. Throws UnsupportedError without a tokenizer, FormatError for ids
/// in generation_config.json that are no integers, MemoryError, and what on_warning throws; the model is then as it was.
void align_special_tokens(Model& model, const std::function<void(std::string_view message)>& on_warning = {});

}  // namespace gpt
