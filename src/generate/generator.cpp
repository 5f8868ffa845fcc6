#include "gpt/generate/generator.h"

#include <utility>

#include "core/memory.h"
#include "generate/session.h"
#include "generate/settings.h"
#include "gpt/core/error.h"

namespace gpt {

Stream::Stream(std::unique_ptr<generate::Session> session) noexcept : session_(std::move(session)) {}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

Stream::Iterator Stream::begin() {
  if (!started_) advance();
  return Iterator(*this);
}

void Stream::advance() {
  started_ = true;
  next_ = nullptr;  // also when the step throws
  const auto pieces = with_memory_errors("generate", [&] { return session_->step(); });
  if (!pieces.empty()) next_ = pieces.data();
}

const GenerateResult& Stream::result() const noexcept { return session_->result(0); }

Generator::Generator(const Model& model, const WarningCallback& on_warning)
    : model_(&model), defaults_(with_memory_errors("generate", [&] {
        return std::make_shared<const generate::CheckpointDefaults>(
            generate::read_defaults(model, on_warning));
      })) {}

std::vector<TokenId> Generator::encode(std::string_view prompt) const {
  if (!model_->has_tokenizer())
    fail<UnsupportedError>("generate", "the checkpoint has no tokenizer: give the prompt as token ids");
  return model_->tokenizer().encode(prompt);
}

std::unique_ptr<generate::Session> Generator::start(std::vector<std::vector<TokenId>> prompts,
                                                    const GenerateOptions& options) const {
  return with_memory_errors("generate", [&] {
    return std::make_unique<generate::Session>(*model_, generate::resolve(options, *defaults_, *model_),
                                               std::move(prompts));
  });
}

GenerateResult Generator::generate(std::string_view prompt, const GenerateOptions& options) const {
  return generate(encode(prompt), options);
}

GenerateResult Generator::generate(std::span<const TokenId> prompt, const GenerateOptions& options) const {
  return with_memory_errors("generate", [&] {
    const std::vector<TokenId> ids(prompt.begin(), prompt.end());
    return std::move(generate(std::span(&ids, 1), options).front());
  });
}

std::vector<GenerateResult> Generator::generate(std::span<const std::vector<TokenId>> prompts,
                                                const GenerateOptions& options) const {
  return with_memory_errors("generate", [&] {
    const auto session = start({prompts.begin(), prompts.end()}, options);
    while (!session->step().empty()) {
    }
    return session->take_results();
  });
}

Stream Generator::stream(std::string_view prompt, const GenerateOptions& options) const {
  return stream(encode(prompt), options);
}

Stream Generator::stream(std::span<const TokenId> prompt, const GenerateOptions& options) const {
  return with_memory_errors("generate", [&] {
    std::vector<std::vector<TokenId>> prompts;
    prompts.emplace_back(prompt.begin(), prompt.end());
    return Stream(start(std::move(prompts), options));
  });
}

void Generator::check(const GenerateOptions& options) const {
  with_memory_errors("generate", [&] { generate::resolve(options, *defaults_, *model_); });
}

}  // namespace gpt
