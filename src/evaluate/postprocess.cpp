#include "gpt/evaluate/postprocess.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <utility>

#include <re2/re2.h>

#include "core/memory.h"
#include "core/quote.h"
#include "evaluate/words.h"
#include "gpt/core/error.h"

namespace gpt {

std::string trim(std::string_view text) {
  return with_memory_errors("trim", [&] {
    return std::string(evaluate::without_space_at_start(evaluate::without_space_at_end(text)));
  });
}

std::string dedupe_lines(std::string_view text) {
  return with_memory_errors("dedupe_lines", [&] {
    std::string out;
    std::set<std::string_view> seen;
    bool ended = true;  // what was kept last ended with a line feed
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view line = text.substr(begin, end - begin);
      const bool has_feed = end < text.size();
      begin = end + 1;
      const bool is_blank = evaluate::without_space_at_start(line).empty();
      if (!is_blank && !seen.insert(line).second) continue;
      if (!ended) out += '\n';
      out += line;
      ended = has_feed;
      if (has_feed) out += '\n';
    }
    return out;
  });
}

struct RegexReplace::Compiled {
  Compiled(const re2::StringPiece& pattern, const re2::RE2::Options& options, std::string by)
      : expression(pattern, options), replacement(std::move(by)) {}

  re2::RE2 expression;
  std::string replacement;
};

RegexReplace::RegexReplace(std::string_view expression, std::string_view replacement) {
  constexpr std::string_view where = "regex_replace";
  with_memory_errors(where, [&] {
    re2::RE2::Options quiet;
    quiet.set_log_errors(false);  // to standard error
    const re2::StringPiece pattern(expression.data(), expression.size());
    auto compiled = std::make_shared<Compiled>(pattern, quiet, std::string(replacement));
    if (!compiled->expression.ok())
      fail<ArgumentError>(where, quote(expression),
                          " is no regular expression: ", compiled->expression.error());
    std::string error;
    if (!compiled->expression.CheckRewriteString(compiled->replacement, &error))
      fail<ArgumentError>(where, quote(replacement), " is no replacement: ", error);
    compiled_ = std::move(compiled);
  });
}

std::string RegexReplace::operator()(std::string_view text) const {
  return with_memory_errors("regex_replace", [&] {
    std::string result(text);
    re2::RE2::GlobalReplace(&result, compiled_->expression, compiled_->replacement);
    return result;
  });
}

std::string postprocess(std::string_view text, std::span<const TextStep> steps) {
  return with_memory_errors("postprocess", [&] {
    std::string result(text);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      if (!steps[i]) fail<ArgumentError>("postprocess", "step ", i, " is empty");
      result = steps[i](result);
    }
    return result;
  });
}

}  // namespace gpt
