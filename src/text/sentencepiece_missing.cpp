// In place of sentencepiece.cpp where libgpt is built without libsentencepiece.
#include "core/file_status.h"
#include "gpt/core/error.h"
#include "gpt/text/sentencepiece.h"

namespace gpt {
namespace {

[[noreturn]] void fail_without_library(const std::string& source) {
  fail<UnsupportedError>(source,
                         "is a sentencepiece model, which this build cannot read: configure libgpt with "
                         "-DGPT_WITH_SENTENCEPIECE=ON");
}

}  // namespace

std::shared_ptr<const Tokenizer> make_sentencepiece(SentencePieceModel model) {
  fail_without_library(model.source);
}

std::shared_ptr<const Tokenizer> load_sentencepiece(const std::filesystem::path& directory,
                                                    const std::function<void(std::string_view)>&) {
  const auto path = directory / "tokenizer.model";
  fail_without_library((is_there(path) ? path : directory / "spiece.model").string());
}

}  // namespace gpt
