// Contrastive search against its formula, computed with a forward pass of the whole sequence for every candidate.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "generate/tiny_model.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "support/expect_error.h"
#include "support/isa.h"

namespace gpt {
namespace {

using test::expect_error;
using test::kPrompt;
using test::tiny_model;
using Ids = std::vector<TokenId>;

struct Pass {
  std::vector<double> logits;               // after the last token
  std::vector<std::vector<double>> hidden;  // of every token
};

Pass pass_over(const Model& model, const Ids& ids) {
  Arena arena;
  const Chunk chunk{.ids = ids};
  const ForwardOutput output = model.network().forward(std::span(&chunk, 1), arena, {.final_hidden = true});
  const auto logits = ConstTensorView(output.logits).span<float>(),
             hidden = ConstTensorView(output.final_hidden).span<float>();
  Pass pass;
  pass.logits.assign(logits.begin(), logits.end());
  const std::size_t width = hidden.size() / ids.size();
  for (std::size_t t = 0; t < ids.size(); ++t)
    pass.hidden.emplace_back(hidden.begin() + static_cast<std::ptrdiff_t>(t * width),
                             hidden.begin() + static_cast<std::ptrdiff_t>((t + 1) * width));
  return pass;
}

double cosine(const std::vector<double>& a, const std::vector<double>& b) {
  double ab = 0.0, aa = 0.0, bb = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / std::sqrt(aa) / std::sqrt(bb);
}

Ids by_formula(const Model& model, double alpha, std::size_t top_k, std::size_t count, TokenId banned = -1) {
  Ids tokens = kPrompt;
  while (tokens.size() < kPrompt.size() + count) {
    std::vector<double> p = pass_over(model, tokens).logits;
    double sum = 0.0;
    for (std::size_t i = 0; i < p.size(); ++i) {
      p[i] = static_cast<TokenId>(i) == banned ? 0.0 : std::exp(p[i]);
      sum += p[i];
    }
    Ids ids(p.size());
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(i);
    const auto probability = [&](TokenId id) { return p[static_cast<std::size_t>(id)] / sum; };
    std::stable_sort(ids.begin(), ids.end(),
                     [&](TokenId a, TokenId b) { return probability(a) > probability(b); });
    double best = -10.0;
    TokenId chosen = 0;
    for (std::size_t i = 0; i < std::min(top_k, ids.size()); ++i) {
      Ids with = tokens;
      with.push_back(ids[i]);
      const auto hidden = pass_over(model, with).hidden;
      double likeness = -1.0;
      for (std::size_t t = 0; t < tokens.size(); ++t)
        likeness = std::max(likeness, cosine(hidden[t], hidden.back()));
      const double score = (1.0 - alpha) * probability(ids[i]) - alpha * likeness;
      if (score > best) {
        best = score;
        chosen = ids[i];
      }
    }
    tokens.push_back(chosen);
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(kPrompt.size()), tokens.end()};
}

TEST(Contrastive, TakesTheLikelyTokenThatIsLeastLikeThoseBefore) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const Model model = tiny_model();
  const Generator generator(model);
  for (const double alpha : {0.05, 0.6, 1.0}) {
    for (const std::int64_t top_k : {2, 5, 200}) {
      const auto ids =
          generator.generate(kPrompt, {.max_new_tokens = 9, .top_k = top_k, .penalty_alpha = alpha}).ids;
      EXPECT_EQ(ids, by_formula(model, alpha, static_cast<std::size_t>(top_k), 9)) << alpha << ' ' << top_k;
    }
  }
  EXPECT_EQ(generator.generate(kPrompt, {.max_new_tokens = 4, .penalty_alpha = 0.6}).ids,
            by_formula(model, 0.6, 50, 4));
  EXPECT_NE(by_formula(model, 0.6, 5, 9), generator.generate(kPrompt, {.max_new_tokens = 9}).ids);
}

TEST(Contrastive, ProcessorsComeFirstAndMayLeaveFewerCandidates) {
  const Model model = tiny_model();
  const Generator generator(model);
  const TokenId banned = by_formula(model, 0.6, 5, 1)[0];
  GenerateOptions options{
      .max_new_tokens = 9, .top_k = 5, .penalty_alpha = 0.6, .suppress_tokens = Ids{banned}};
  EXPECT_EQ(generator.generate(kPrompt, options).ids, by_formula(model, 0.6, 5, 9, banned));
  // From five candidates to one and back: the last candidate's cache may hold the text.
  options = {.max_new_tokens = 20, .top_k = 5, .penalty_alpha = 1.0, .logprobs = 0};
  options.prefix_allowed_tokens_fn = [](std::size_t, std::span<const TokenId> history) {
    return history.size() % 3 == 0 ? Ids{7} : Ids{1, 2, 3, 4, 5, 6, 7, 8};
  };
  const GenerateResult result = generator.generate(kPrompt, options);
  Ids tokens = kPrompt;
  for (std::size_t i = 0; i < result.ids.size(); ++i) {
    const auto logits = pass_over(model, tokens).logits;
    double sum = 0.0;
    for (const double logit : logits) sum += std::exp(logit);
    const double logprob = logits[static_cast<std::size_t>(result.ids[i])] - std::log(sum);
    EXPECT_NEAR(result.logprobs[i], logprob, 2.5e-7)
        << i;  // a sum over floats, each within 2 units of its last place
    tokens.push_back(result.ids[i]);
  }
}

TEST(Contrastive, EndsAtEosAndStopStringsAndWhereTheCallerStops) {
  const Model model = tiny_model();
  const Generator generator(model);
  GenerateOptions options{.max_new_tokens = 20, .top_k = 4, .penalty_alpha = 0.6};
  const GenerateResult whole = generator.generate(kPrompt, options);
  EXPECT_EQ(whole.finish_reason, FinishReason::kLength);
  options.eos_token_id = Ids{whole.ids[4]};
  const auto end = std::find(whole.ids.begin(), whole.ids.end(), whole.ids[4]) + 1;
  const GenerateResult at_eos = generator.generate(kPrompt, options);
  EXPECT_EQ(at_eos.ids, Ids(whole.ids.begin(), end));
  EXPECT_EQ(at_eos.finish_reason, FinishReason::kEos);
  options.eos_token_id.reset();
  std::string bytes;
  for (std::size_t i = 3; bytes.size() < 2; ++i) bytes += model.tokenizer().bytes_of(whole.ids[i]);
  options.stop_strings = std::vector<std::string>{bytes};
  const GenerateResult at_stop = generator.generate(kPrompt, options);
  EXPECT_EQ(at_stop.finish_reason, FinishReason::kStopString);
  EXPECT_LT(at_stop.ids.size(), whole.ids.size());
  EXPECT_TRUE(std::equal(at_stop.ids.begin(), at_stop.ids.end(), whole.ids.begin()));
  options.stop_strings.reset();
  std::stop_source source;
  options.stop = source.get_token();
  options.logits_processor = [&, count = 0](std::span<double>, const DecodingStep&) mutable {
    if (++count == 4) source.request_stop();
  };
  const GenerateResult stopped = generator.generate(kPrompt, options);
  EXPECT_EQ(stopped.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(stopped.ids, Ids(whole.ids.begin(), whole.ids.begin() + 3));
}

TEST(Contrastive, RefusesWhatDoesNotGoWithIt) {
  const Model model = tiny_model();
  const Generator generator(model);
  const auto wrong = [&](const GenerateOptions& options, std::string_view part, std::string_view other) {
    expect_error<ArgumentError>([&] { generator.generate(kPrompt, options); }, {part, other});
  };
  wrong({.penalty_alpha = 1.5}, "penalty_alpha is 1.5", "0 to 1");
  wrong({.top_k = 1, .penalty_alpha = 0.5}, "penalty_alpha is 0.5", "top_k above 1");
  wrong({.do_sample = true, .penalty_alpha = 0.5}, "penalty_alpha is 0.5", "do_sample");
  wrong({.penalty_alpha = 0.5, .num_beams = 2}, "penalty_alpha is 0.5", "num_beams");
  wrong({.max_new_tokens = 28, .penalty_alpha = 0.5}, "28 new ones", "n_positions = 32");
  EXPECT_EQ(generator.generate(kPrompt, {.max_new_tokens = 27, .penalty_alpha = 0.5}).ids.size(), 27u);
  const auto unsupported = [&](const GenerateOptions& options, std::string_view part) {
    expect_error<UnsupportedError>([&] { generator.check(options); }, {part, "penalty_alpha"});
  };
  unsupported({.penalty_alpha = 0.5, .guidance_scale = 2.0}, "guidance_scale");
  unsupported({.penalty_alpha = 0.5, .prompt_lookup_num_tokens = 3}, "prompt_lookup_num_tokens");
  unsupported({.penalty_alpha = 0.5, .on_token = [](const Piece&) {}}, "on_token");
  expect_error<UnsupportedError>([&] { generator.stream(kPrompt, {.penalty_alpha = 0.5}); },
                                 {"stream", "penalty_alpha"});
  EXPECT_FALSE(generator.streams({.penalty_alpha = 0.5}));

  const Model with_file =
      tiny_model(test::endless_config(), R"({"penalty_alpha": 0.6, "top_k": 4, "max_new_tokens": 9})");
  EXPECT_EQ(Generator(with_file).generate(kPrompt).ids, by_formula(model, 0.6, 4, 9));
  EXPECT_NO_THROW(Generator(with_file).generate(kPrompt, {.do_sample = true}));
}

}  // namespace
}  // namespace gpt
