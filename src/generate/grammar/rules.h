// What a grammar says, whatever it was written in: rules over characters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "generate/grammar/char_set.h"

namespace gpt::generate {

/// What regular expressions and GBNF may ask for.
inline constexpr int kMaxGroupDepth = 100;
inline constexpr std::uint32_t kMaxRepeat = 100000;

/// A context-free grammar whose right-hand sides are regular expressions over characters and rules. Expressions are nodes of a
/// graph without cycles; only calls lead back.
class Rules {
 public:
  using Node = std::uint32_t;
  using Rule = std::uint32_t;
  static constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();
  static constexpr Node kNone = std::numeric_limits<Node>::max();

  /// Elements with a separator between those that are there.
  struct List {
    std::vector<Node> items = {};
    std::vector<bool> required = {};  // beside them
    Node separator = kNone;
    Node more = kNone;  // may follow the items, any number of times
    /// An item may be left out only with all that stand behind it, as in an array.
    bool is_prefix = false;
  };

  enum class Kind : std::uint8_t { kText, kSet, kSequence, kChoice, kRepeat, kCall, kList };
  struct Expression {
    Kind kind = Kind::kText;
    std::uint32_t least = 0, most = 0;  // kRepeat
    std::uint32_t index = 0;            // of the set, rule or list
    std::string text = {};              // kText
    std::vector<Node> parts = {};       // kSequence, kChoice; one of kRepeat
  };

  /// `source` is what errors name: "regex".
  explicit Rules(std::string source) : source_(std::move(source)) {}

  /// These bytes; none: the empty text.
  Node text(std::string_view bytes);
  Node set(CharSet characters);
  Node sequence(std::vector<Node> parts);
  /// One of the alternatives; of none there is no text at all.
  Node choice(std::vector<Node> alternatives);
  Node repeat(Node part, std::uint32_t least, std::uint32_t most = kNoLimit);
  Node optional(Node part) { return repeat(part, 0, 1); }
  Node call(Rule rule);
  Node list(List list);

  /// A rule that can be called before it is defined.
  Rule declare(std::string name);
  void define(Rule rule, Node body) { rules_[rule].body = body; }
  void set_root(Rule rule) noexcept { root_ = rule; }
  const std::string& source() const noexcept { return source_; }
  Rule root() const noexcept { return root_; }
  std::size_t size() const noexcept { return rules_.size(); }
  const std::string& name(Rule rule) const noexcept { return rules_[rule].name; }
  Node body(Rule rule) const noexcept { return rules_[rule].body; }
  const Expression& at(Node node) const noexcept { return nodes_[node]; }
  const CharSet& set_at(std::uint32_t index) const noexcept { return sets_[index]; }
  const List& list_at(std::uint32_t index) const noexcept { return lists_[index]; }

  /// Where there is no text: the cause, as the end of a sentence. Empty when it is not one alone.
  std::string why_no_text() const;

 private:
  Node add(Expression expression);
  /// A rule with an expression that nothing fits and that no text can do without, or none of some alternatives.
  std::optional<Rule> without_text(bool in_alternatives) const;

  struct Named {
    std::string name;
    Node body = kNone;
  };
  std::string source_;
  Rule root_ = 0;
  std::vector<Named> rules_;
  std::vector<Expression> nodes_;
  std::vector<CharSet> sets_;
  std::size_t ranges_ = 0;  // of all sets
  std::vector<List> lists_;
};

}  // namespace gpt::generate
