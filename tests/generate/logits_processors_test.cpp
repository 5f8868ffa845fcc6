#include "gpt/generate/logits_processors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "generate/processor_run.h"
#include "gpt/core/error.h"
#include "gpt/generate/sampler.h"
#include "support/expect_error.h"
#include "support/json.h"

namespace gpt {
namespace {

using test::expect_error;
using test::kDropped;
using test::kept;
using test::kNaN;
using test::run;

TEST(FunctionProcessor, CallsTheFunction) {
  const FunctionProcessor processor([](std::span<double> scores, const DecodingStep& step) {
    scores[1] = kDropped;
    scores[2] += static_cast<double>(step.history.size());
  });
  EXPECT_EQ(run(processor, {1.0, 2.0, 3.0}, {0, 0}), (std::vector<double>{1.0, kDropped, 5.0}));
}

TEST(FunctionProcessor, RefusesWhatIsNoScore) {
  for (const double bad : {kNaN, -kDropped}) {
    const FunctionProcessor processor(
        [bad](std::span<double> scores, const DecodingStep&) { scores[1] = bad; });
    expect_error<NumericError>(
        [&] {
          run(processor, {1.0, 2.0}, {0, 0, 0});
        },
        {"logits_processor", "token 1", "position 3"});
  }
  expect_error<ArgumentError>([] { FunctionProcessor{nullptr}; }, {"logits_processor"});
}

// The sampling.jsonl files of the committed goldens and of those that GPT_GOLDENS names.
std::vector<std::filesystem::path> sampling_goldens() {
  std::vector<std::filesystem::path> roots = {std::filesystem::path(GPT_SOURCE_DIR) / "tests/golden"};
  if (const char* list = std::getenv("GPT_GOLDENS")) {
    std::istringstream stream(list);
    for (std::string root; std::getline(stream, root, ':');) roots.emplace_back(root);
  }
  std::vector<std::filesystem::path> files;
  for (const auto& root : roots) {
    for (const auto& file : {root / "sampling/sampling.jsonl", root / "sampling.jsonl"}) {
      if (std::filesystem::exists(file)) files.push_back(file);
    }
  }
  return files;
}

// The processors for a case's parameters, in the order of goldens/README.md.
LogitsProcessors processors_for(const test::Json& params) {
  LogitsProcessors list;
  std::vector<BiasedSequence> biases;
  if (params.contains("logit_bias")) {
    for (const auto& [id, bias] : params.at("logit_bias").items())
      biases.push_back({{static_cast<TokenId>(std::stoi(id))}, bias.get<double>()});
  }
  list.push_back(std::make_unique<SequenceBias>(std::move(biases)));
  list.push_back(std::make_unique<RepetitionPenalty>(params.value("repetition_penalty", 1.0)));
  list.push_back(std::make_unique<FrequencyPenalty>(params.value("frequency_penalty", 0.0),
                                                    params.value("presence_penalty", 0.0)));
  list.push_back(std::make_unique<NoRepeatNGram>(params.value("no_repeat_ngram_size", std::int64_t{0})));
  list.push_back(std::make_unique<Temperature>(params.value("temperature", 1.0)));
  list.push_back(std::make_unique<TopK>(params.value("top_k", std::int64_t{0})));
  list.push_back(std::make_unique<TopP>(params.value("top_p", 1.0)));
  list.push_back(std::make_unique<MinP>(params.value("min_p", 0.0)));
  list.push_back(std::make_unique<TypicalP>(params.value("typical_p", 1.0)));
  return list;
}

TEST(LogitsProcessors, GiveTheGoldenProbabilities) {
  const auto files = sampling_goldens();
  if (files.empty()) GTEST_SKIP() << "no sampling goldens here";
  int cases = 0;
  for (const auto& file : files) {
    std::ifstream stream(file);
    int line = 0;
    for (std::string text; std::getline(stream, text);) {
      SCOPED_TRACE(file.string() + ":" + std::to_string(++line));
      const auto golden = test::parse_json(text);
      ++cases;
      std::vector<double> scores;
      for (const auto& value : golden.at("logits"))
        scores.push_back(value.is_string() ? kDropped : value.get<double>());
      const auto history = golden.at("history").get<std::vector<TokenId>>();
      ProcessorScratch scratch;
      for (const auto& processor : processors_for(golden.at("params")))
        processor->process(scores, DecodingStep{.history = history}, scratch);
      std::vector<double> probabilities(scores.size());
      softmax(scores, probabilities);

      auto expected = golden.at("probs").get<std::vector<double>>();
      const auto expected_kept = golden.at("kept").get<std::vector<TokenId>>();
      if (golden.at("ties").get<bool>()) {  // which of equal scores stay is left open
        std::sort(expected.begin(), expected.end());
        std::sort(probabilities.begin(), probabilities.end());
        EXPECT_EQ(kept(scores).size(), expected_kept.size());
      } else {
        EXPECT_EQ(kept(scores), expected_kept);
      }
      for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(probabilities[i], expected[i], 1e-9) << i;
    }
  }
  EXPECT_GT(cases, 0);
}

}  // namespace
}  // namespace gpt
