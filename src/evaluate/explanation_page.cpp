#include "gpt/evaluate/explanation_page.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "text/markup.h"

namespace gpt {
namespace {

constexpr std::int64_t kMostTokensOfMaps = 32;

constexpr std::string_view kExplanationStyle = R"(:root {
  color-scheme: light dark;
  --page: #f6f6f4; --card: #fff; --ink: #1c1e21; --soft: #646a72; --line: #e4e5e3;
  --for: 47, 107, 216; --against: 210, 98, 42;
}
@media (prefers-color-scheme: dark) {
  :root { --page: #121416; --card: #1a1d20; --ink: #e8e9eb; --soft: #9ba1a9; --line: #2d3135;
    --for: 108, 159, 243; --against: 236, 143, 91; }
}
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 48px 24px 72px; }
h1 { margin: 0; font-size: 28px; font-weight: 650; overflow-wrap: anywhere; }
h2 { margin: 44px 0 8px; font-size: 17px; font-weight: 650; }
p { margin: 6px 0 12px; color: var(--soft); }
.value { font-size: 18px; color: var(--ink); overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; overflow-x: auto; }
.tokens { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2; }
.tokens span { padding: 3px 0; border-radius: 3px; }
table { border-collapse: collapse; font-size: 12px; }
th { text-align: right; font-weight: 400; color: var(--soft); padding: 2px 8px; white-space: nowrap; }
thead th, td { text-align: left; padding: 2px 6px; white-space: pre; border: 1px solid var(--line); }
.maps { display: flex; flex-wrap: wrap; gap: 12px; }
figure { margin: 0; }
figcaption { font-size: 12px; color: var(--soft); }
svg { display: block; }
.cell { fill: rgb(var(--for)); }
.frame { fill: none; stroke: var(--line); }
)";

/// A token as a table shows it: what is not seen is named.
std::string shown(std::string_view token) {
  std::string text;
  for (const char c : token)
    if (c == '\n')
      text += "\u21b5";
    else if (c == '\t')
      text += "\u21e5";
    else
      text += c;
  return escape_markup(text);
}

std::string background(double weight, bool against = false) {
  return concat("background: rgba(var(--", against ? "against" : "for", "), ",
                fixed(std::min(1.0, weight) * 0.75, 3), ")");
}

/// The tokens in a line, each with the colour and title that its score gives it.
std::string token_line(const std::vector<std::string>& tokens, const std::vector<double>& scores) {
  double largest = 0;
  for (const double score : scores) largest = std::max(largest, std::abs(score));
  std::string html = "<div class=\"card tokens\">";
  for (std::size_t t = 0; t < tokens.size(); ++t)
    html +=
        concat("<span style=\"", background(largest > 0 ? std::abs(scores[t]) / largest : 0, scores[t] < 0),
               "\" title=\"", significant(scores[t], 3), "\">", escape_markup(tokens[t]), "</span>");
  return html + "</div>\n";
}

std::string lens_table(const ExplanationPage& page) {
  std::string html = "<div class=\"card\"><table><thead><tr><th></th>";
  for (const std::string& token : page.tokens) html += concat("<th>", shown(token), "</th>");
  html += "</tr></thead><tbody>\n";
  for (std::size_t layer = page.lens.size(); layer-- > 0;) {
    html += concat("<tr><th>", layer == 0 ? std::string("embeddings") : concat("layer ", layer), "</th>");
    for (const ExplanationPage::Guess& guess : page.lens[layer])
      html += concat("<td style=\"", background(guess.probability), "\" title=\"",
                     fixed(guess.probability, 3), "\">", shown(guess.text), "</td>");
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

/// A map of rows x columns, whose cells are as dark as weight(row, column), from 0 to 1; titles say which they are.
template <class Weight, class Title>
std::string map(std::int64_t rows, std::int64_t columns, std::int64_t side, const Weight& weight,
                const Title& title) {
  std::string svg = concat("<svg width=\"", columns * side + 2, "\" height=\"", rows * side + 2,
                           "\"><rect class=\"frame\" x=\"0.5\" y=\"0.5\" width=\"", columns * side + 1,
                           "\" height=\"", rows * side + 1, "\"/>");
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) {
      const double w = weight(i, j);
      if (w < 0.005) continue;
      svg += concat("<rect class=\"cell\" x=\"", j * side + 1, "\" y=\"", i * side + 1, "\" width=\"", side,
                    "\" height=\"", side, "\" fill-opacity=\"", fixed(w, 2), "\"><title>", title(i, j), ": ",
                    fixed(w, 3), "</title></rect>");
    }
  return svg + "</svg>";
}

std::string attention_maps(const ExplanationPage& page) {
  const auto t = static_cast<std::int64_t>(page.tokens.size());
  const auto token = [&](std::int64_t i) { return shown(page.tokens[static_cast<std::size_t>(i)]); };
  std::string html;
  for (std::size_t layer = 0; layer < page.attentions.size(); ++layer) {
    const Tensor& a = page.attentions[layer];
    const std::int64_t heads = a.dim(0);
    const auto at = [&](std::int64_t head, std::int64_t query, std::int64_t key) {
      return static_cast<double>(a.data<float>()[(head * t + query) * t + key]);
    };
    html += concat(
        "<p>Layer ", layer + 1, "</p><div class=\"card maps\"><figure>",
        map(
            heads, t, 12, [&](std::int64_t head, std::int64_t key) { return at(head, t - 1, key); },
            [&](std::int64_t head, std::int64_t key) { return concat("head ", head, ", to ", token(key)); }),
        "<figcaption>the last token, a row for each head</figcaption></figure>");
    for (std::int64_t head = 0; t <= kMostTokensOfMaps && head < heads; ++head)
      html += concat(
          "<figure>",
          map(
              t, t, 5, [&](std::int64_t query, std::int64_t key) { return at(head, query, key); },
              [&](std::int64_t query, std::int64_t key) { return concat(token(query), " to ", token(key)); }),
          "<figcaption>head ", head, "</figcaption></figure>");
    html += "</div>\n";
  }
  return html;
}

void check_shapes(const ExplanationPage& page) {
  constexpr std::string_view where = "explanation_page";
  const auto t = static_cast<std::int64_t>(page.tokens.size());
  const auto require = [&](std::string_view what, bool holds) {
    if (!holds) fail<ShapeError>(where, what, " is of another number of tokens than ", t);
  };
  require("the attribution", page.scores.empty() || std::ssize(page.scores) == t);
  for (const auto& layer : page.lens) require("the logit lens", std::ssize(layer) == t);
  for (const Tensor& a : page.attentions)
    require("an attention", a.shape() == Shape{a.shape().rank() > 0 ? a.dim(0) : 0, t, t});
  require("the rollout", page.rollout.empty() || page.rollout.shape() == Shape{t, t});
}

}  // namespace

std::string to_html(const ExplanationPage& page) try {
  check_shapes(page);
  const DefaultFloatEnvironment environment;
  const std::string title = escape_markup(page.title);
  std::string html = concat(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<title>",
      title, "</title>\n<style>\n", kExplanationStyle, "</style>\n</head>\n<body>\n<main>\n<h1>", title,
      "</h1>\n<p class=\"value\">", escape_markup(page.value), "</p>\n");
  if (!page.scores.empty())
    html += concat("<h2>What it is due to</h2>\n<p>", escape_markup(page.method),
                   "; blue speaks for it, orange against it.</p>\n", token_line(page.tokens, page.scores));
  if (!page.rollout.empty()) {
    const std::int64_t t = page.rollout.dim(0);
    const float* last = page.rollout.data<float>() + (t - 1) * t;
    html += concat("<h2>What reaches the last token</h2>\n<p>Attention rollout through all layers.</p>\n",
                   token_line(page.tokens, std::vector<double>(last, last + t)));
  }
  if (!page.lens.empty())
    html += concat(
        "<h2>What each layer would say</h2>\n<p>The logit lens: the most probable token behind each, if the "
        "network "
        "ended there.</p>\n",
        lens_table(page));
  if (!page.attentions.empty()) html += concat("<h2>Where the attention goes</h2>\n", attention_maps(page));
  return html + "</main>\n</body>\n</html>\n";
} catch (...) {
  rethrow_with_memory_errors("explanation");
}

}  // namespace gpt
