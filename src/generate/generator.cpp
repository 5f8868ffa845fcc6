#include "gpt/generate/generator.h"

#include <utility>

#include "core/memory.h"
#include "generate/beam_session.h"
#include "generate/contrastive_session.h"
#include "generate/session.h"
#include "generate/session_support.h"
#include "generate/settings.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

// Of one prompt where one result is given back.
void require_one_result(const GenerateOptions& options) {
  if (const std::int64_t count = options.num_return_sequences.value_or(1); count != 1)
    fail<ArgumentError>("generate", "num_return_sequences is ", count,
                        ", expected 1 where one result is given back; a list "
                        "of prompts gives all");
}

// As its settings ask for: by beam search, or token by token.
std::vector<GenerateResult> results_of(const Model& model, generate::Settings settings,
                                       std::vector<std::vector<TokenId>> prompts) {
  for (std::size_t i = 0; prompts.size() > 1 && i < prompts.size(); ++i)
    generate::check_prompt(prompts[i], model.config(), concat(" at index ", i));
  if (generate::has_beams(settings.options))
    return generate::BeamSession(model, std::move(settings), std::move(prompts)).run();
  if (generate::is_contrastive(settings.options))
    return generate::ContrastiveSession(model, std::move(settings), std::move(prompts)).run();
  generate::Session session(model, std::move(settings), std::move(prompts));
  while (!session.step().empty()) {
  }
  return session.take_results();
}

}  // namespace

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
  if (!ahead_.empty()) ahead_ = ahead_.subspan(1);
  if (ahead_.empty()) ahead_ = with_memory_errors("generate", [&] { return session_->step(); });
  if (!ahead_.empty()) next_ = ahead_.data();
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
  return model_->tokenizer().encode_prompt(prompt);
}

GenerateResult Generator::generate(std::string_view prompt, const GenerateOptions& options) const {
  return generate(encode(prompt), options);
}

GenerateResult Generator::generate(std::span<const TokenId> prompt, const GenerateOptions& options) const {
  return with_memory_errors("generate", [&] {
    generate::Settings settings = generate::resolve(options, *defaults_, *model_);
    require_one_result(settings.options);
    std::vector<std::vector<TokenId>> prompts;
    prompts.emplace_back(prompt.begin(), prompt.end());
    return std::move(results_of(*model_, std::move(settings), std::move(prompts)).front());
  });
}

std::vector<GenerateResult> Generator::generate(std::span<const std::vector<TokenId>> prompts,
                                                const GenerateOptions& options) const {
  return with_memory_errors("generate", [&] {
    return results_of(*model_, generate::resolve(options, *defaults_, *model_),
                      {prompts.begin(), prompts.end()});
  });
}

Stream Generator::stream(std::string_view prompt, const GenerateOptions& options) const {
  return stream(encode(prompt), options);
}

Stream Generator::stream(std::span<const TokenId> prompt, const GenerateOptions& options) const {
  return with_memory_errors("generate", [&] {
    generate::Settings settings = generate::resolve(options, *defaults_, *model_);
    require_one_result(settings.options);
    if (generate::has_beams(settings.options))
      fail<UnsupportedError>("generate", "num_beams is ", *settings.options.num_beams,
                             ", and a stream of tokens is not supported with "
                             "beams, which change to the last");
    if (generate::is_contrastive(settings.options))
      fail<UnsupportedError>("generate", "a stream of tokens together with penalty_alpha is not supported");
    std::vector<std::vector<TokenId>> prompts;
    prompts.emplace_back(prompt.begin(), prompt.end());
    return Stream(std::make_unique<generate::Session>(*model_, std::move(settings), std::move(prompts)));
  });
}

bool Generator::streams(const GenerateOptions& options) const {
  return with_memory_errors("generate", [&] {
    const GenerateOptions merged = generate::resolve(options, *defaults_, *model_).options;
    return !generate::has_beams(merged) && !generate::is_contrastive(merged) &&
           merged.num_return_sequences.value_or(1) == 1;
  });
}

void Generator::check(const GenerateOptions& options) const {
  with_memory_errors("generate", [&] { generate::resolve(options, *defaults_, *model_); });
}

}  // namespace gpt
