#include "generate/grammar/rules.h"

#include <utility>

#include "core/quote.h"
#include "gpt/core/error.h"

namespace gpt::generate {
namespace {

constexpr std::size_t kMaxExpressions = std::size_t{1} << 18;
constexpr std::size_t kMaxRanges = std::size_t{1} << 22;  // of characters, in all sets: \p{L} has 600

}  // namespace

Rules::Node Rules::add(Expression expression) {
  if (nodes_.size() == kMaxExpressions)
    fail<ArgumentError>(source_, "has more than ", kMaxExpressions, " parts, which is the limit");
  nodes_.push_back(std::move(expression));
  return static_cast<Node>(nodes_.size() - 1);
}

Rules::Node Rules::text(std::string_view bytes) {
  return add({.kind = Kind::kText, .text = std::string(bytes)});
}

Rules::Node Rules::set(CharSet characters) {
  ranges_ += characters.ranges().size();
  if (ranges_ > kMaxRanges)
    fail<ArgumentError>(source_, "has more than ", kMaxRanges,
                        " ranges of characters in its classes, which is the limit");
  sets_.push_back(std::move(characters));
  return add({.kind = Kind::kSet, .index = static_cast<std::uint32_t>(sets_.size() - 1)});
}

Rules::Node Rules::sequence(std::vector<Node> parts) {
  if (parts.size() == 1) return parts.front();
  return add({.kind = Kind::kSequence, .parts = std::move(parts)});
}

Rules::Node Rules::choice(std::vector<Node> alternatives) {
  if (alternatives.size() == 1) return alternatives.front();
  return add({.kind = Kind::kChoice, .parts = std::move(alternatives)});
}

Rules::Node Rules::repeat(Node part, std::uint32_t least, std::uint32_t most) {
  Expression expression{.kind = Kind::kRepeat, .least = least, .most = most};
  expression.parts.push_back(part);
  return add(std::move(expression));
}

Rules::Node Rules::call(Rule rule) { return add({.kind = Kind::kCall, .index = rule}); }

Rules::Node Rules::list(List list) {
  lists_.push_back(std::move(list));
  return add({.kind = Kind::kList, .index = static_cast<std::uint32_t>(lists_.size() - 1)});
}

Rules::Rule Rules::declare(std::string name) {
  rules_.push_back({std::move(name)});
  return static_cast<Rule>(rules_.size() - 1);
}

std::optional<Rules::Rule> Rules::without_text(bool in_alternatives) const {
  struct Place {
    Rule rule;
    Node node;
  };
  std::vector<bool> seen(nodes_.size());
  std::vector<Place> to_do{{root_, body(root_)}};
  while (!to_do.empty()) {
    const auto [rule, node] = to_do.back();
    to_do.pop_back();
    if (seen[node]) continue;
    seen[node] = true;
    const Expression& e = nodes_[node];
    const bool is_choice = e.kind == Kind::kChoice;
    if (is_choice && e.parts.empty()) return rule;
    if (e.kind == Kind::kSet && sets_[e.index].ranges().empty()) return rule;
    if (e.kind == Kind::kCall) to_do.push_back({e.index, body(e.index)});
    if (e.kind == Kind::kSequence || (e.kind == Kind::kRepeat && e.least > 0) ||
        (is_choice && in_alternatives))
      for (const Node part : e.parts) to_do.push_back({rule, part});
    if (e.kind != Kind::kList) continue;
    const List& list = lists_[e.index];
    for (std::size_t i = 0; i < list.items.size(); ++i)
      if (list.required[i]) to_do.push_back({rule, list.items[i]});
  }
  return std::nullopt;
}

std::string Rules::why_no_text() const {
  if (const auto rule = without_text(false)) return concat(": nothing is left for ", quote(name(*rule)));
  // Where no part is without a text by itself, only calls that lead back can be the cause.
  return without_text(true) ? "" : ": every way through it is without an end";
}

}  // namespace gpt::generate
