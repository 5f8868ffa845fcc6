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

}  // namespace
}  // namespace gpt
