#include "gpt/generate/logits_processor.h"

#include <limits>
#include <utility>

#include "gpt/core/error.h"

namespace gpt {

void LogitsProcessor::update(std::span<double>, TokenId, double) const {}

FunctionProcessor::FunctionProcessor(Function function) : function_(std::move(function)) {
  if (!function_)
    fail<ArgumentError>("generate", "logits_processor is an empty function, expected one to call");
}

void FunctionProcessor::process(std::span<double> scores, const DecodingStep& step, ProcessorScratch&) const {
  function_(scores, step);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (!(scores[i] < std::numeric_limits<double>::infinity()))
      fail<NumericError>("generate", "logits_processor made the score of token ", i, " ", scores[i],
                         " at position ", step.history.size(), ", expected a finite number or -infinity");
  }
}

}  // namespace gpt
