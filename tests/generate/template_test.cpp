// Text to tokens and back where the tokenizer has a template, or a text of its own for the first token.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "generate/tiny_model.h"
#include "gpt/generate/generator.h"
#include "gpt/text/wordpiece.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;

// As many tokens as tiny_config() has rows: 0 is "[UNK]", 1 "[CLS]", 2 "[SEP]", then words of two letters.
std::shared_ptr<const WordPiece> make_tokenizer() {
  WordPieceModel model;
  model.vocab = {"[UNK]", "[CLS]", "[SEP]"};
  for (char a = 'a'; model.vocab.size() < 97; ++a)
    for (char b = 'a'; b <= 'z' && model.vocab.size() < 97; ++b) model.vocab.push_back({a, b});
  model.added_tokens = {{.content = "[CLS]"}, {.content = "[SEP]"}};
  model.prefix_tokens = {"[CLS]"};
  model.suffix_tokens = {"[SEP]"};
  return std::make_shared<const WordPiece>(std::move(model));
}

Model make_model() {
  return Model(test::random_network(test::endless_config(), 1), HfConfig(), make_tokenizer());
}

TEST(Template, IsPutBeforeAPromptButNotBehindIt) {
  const Model model = make_model();
  const Generator generator(model);
  EXPECT_EQ(generator.generate("aa ab", {.max_new_tokens = 1}).prompt_ids, (Ids{1, 3, 4}));
  EXPECT_EQ(generator.generate("[CLS] aa ab", {.max_new_tokens = 1}).prompt_ids, (Ids{1, 3, 4}));
  EXPECT_EQ(generator.stream("aa", {.max_new_tokens = 1}).result().prompt_ids, (Ids{1, 3}));
}

TEST(Template, NewTextFitsBehindThePromptsText) {
  const Model model = make_model();
  const Generator generator(model);
  const auto expect_fits = [&](const GenerateResult& result) {
    Ids all = result.prompt_ids;
    all.insert(all.end(), result.ids.begin(), result.ids.end());
    const DecodeOptions plain{.skip_special_tokens = true};
    EXPECT_EQ(model.tokenizer().decode(result.prompt_ids, plain) + result.text,
              model.tokenizer().decode(all, plain));
    EXPECT_EQ(result.text.substr(0, 1), " ");
  };
  // No special token comes, of which the text begins with nothing.
  const std::vector<BiasedSequence> bias{{{1}, -1000.0}, {{2}, -1000.0}};
  expect_fits(generator.generate("aa ab", {.max_new_tokens = 5, .sequence_bias = bias}));
  expect_fits(generator.generate("aa ab", {.max_new_tokens = 5, .num_beams = 2, .sequence_bias = bias}));
  expect_fits(generator.generate(
      "aa ab", {.max_new_tokens = 5, .top_k = 4, .penalty_alpha = 0.6, .sequence_bias = bias}));
  std::string streamed;
  for (const Piece& piece : generator.stream("aa ab", {.max_new_tokens = 5, .sequence_bias = bias}))
    streamed += piece.text;
  EXPECT_EQ(streamed, generator.generate("aa ab", {.max_new_tokens = 5, .sequence_bias = bias}).text);
  EXPECT_NE(generator.generate(Ids{1}, {.max_new_tokens = 5, .sequence_bias = bias}).text.substr(0, 1), " ")
      << "the first word of all";
}

}  // namespace
}  // namespace gpt
