// What a look inside shows, on one page.
#pragma once

#include <string>
#include <vector>

#include "gpt/core/tensor.h"
#include "gpt/evaluate/explain.h"

namespace gpt {

/// What the page shows, from top to bottom; parts that are empty are left out. All text may be any bytes: it is escaped, and
/// what is not UTF-8 is replaced.
struct ExplanationPage {
  std::string title;
  std::string value;                // what is explained, in words: "log p( Romeo) = -0.31"
  std::vector<std::string> tokens;  // the texts of the T tokens
  std::string method;               // of the attribution
  std::vector<double> scores = {};  // T, for the value where they are above 0, against it below
  /// [layer][token], the words and probabilities of the logit lens.
  struct Guess {
    std::string text;
    double probability = 0;
  };
  std::vector<std::vector<Guess>> lens = {};
  std::vector<Tensor> attentions = {};  // float32 [H, T, T] of each layer
  Tensor rollout = {};                  // float32 [T, T]
};

/// A HTML page of its own, for light and dark screens: no scripts, and no reference to anything outside. Of the attention it shows
/// where the last token looks, and of at most 32 tokens where all of them do. Throws ShapeError for parts of another T.
std::string to_html(const ExplanationPage& page);

}  // namespace gpt
