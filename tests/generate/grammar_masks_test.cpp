// The tokens that a grammar admits, against trying every continuation.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "generate/grammar/automaton.h"
#include "generate/grammar/gbnf.h"
#include "generate/grammar/stacks.h"
#include "generate/grammar_support.h"
#include "gpt/core/error.h"
#include "gpt/generate/grammar.h"
#include "support/expect_error.h"
#include "support/isa.h"

namespace gpt {
namespace {

using test::expect_error;
using test::ListTokenizer;
using test::scores_after;

constexpr int kNever = 1000;

/// A language over a and b by its members up to some length, and the fewest tokens behind a prefix.
class Enumerated {
 public:
  template <class Holds>
  Enumerated(std::size_t max_length, Holds&& holds) : max_length_(max_length) {
    std::vector<std::string> texts{""};
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (holds(texts[i])) members_.push_back(texts[i]);
      if (texts[i].size() == max_length) continue;
      for (const char c : {'a', 'b'}) texts.push_back(texts[i] + c);
    }
  }

  bool empty() const { return members_.empty(); }

  /// How many of the tokens complete `prefix` to a member; kNever if none that was enumerated.
  int fewest(const std::string& prefix, const std::vector<std::string>& tokens) {
    const auto [known, is_new] = known_.try_emplace(prefix, kNever);
    if (!is_new) return known->second;
    int best = kNever;
    for (const std::string& text : members_) {
      if (!text.starts_with(prefix)) continue;
      std::vector<int> at(text.size() + 1, kNever);
      at[prefix.size()] = 0;
      for (std::size_t i = prefix.size(); i < text.size(); ++i)
        for (const std::string& token : tokens)
          if (text.compare(i, token.size(), token) == 0)
            at[i + token.size()] = std::min(at[i + token.size()], at[i] + 1);
      best = std::min(best, at.back());
    }
    return known->second = best;
  }

  std::size_t max_length() const { return max_length_; }

 private:
  std::size_t max_length_;
  std::vector<std::string> members_;
  std::map<std::string, int> known_;
};

/// A random regular expression over a and b with its own matcher, which follows the definition.
struct Expression {
  enum Kind { kText, kSet, kSequence, kChoice, kRepeat } kind = kText;
  std::string text;
  int least = 0, most = 0;  // most < 0: no limit
  std::vector<Expression> parts;

  static Expression random(std::mt19937& rng, int depth) {
    const auto below = [&rng](int n) { return static_cast<int>(rng() % static_cast<unsigned>(n)); };
    Expression e;
    e.kind = depth == 0 ? static_cast<Kind>(below(2)) : static_cast<Kind>(below(5));
    if (e.kind == kText)
      for (int i = below(4); i > 0; --i) e.text += below(2) != 0 ? 'a' : 'b';
    if (e.kind == kSequence || e.kind == kChoice)
      for (int i = 1 + below(3); i > 0; --i) e.parts.push_back(random(rng, depth - 1));
    if (e.kind == kRepeat) {
      e.parts.push_back(random(rng, depth - 1));
      e.least = below(3);
      e.most = below(3) == 0 ? -1 : e.least + below(3);
    }
    return e;
  }

  std::string pattern() const {
    std::string out = "(";
    for (std::size_t i = 0; i < parts.size(); ++i)
      out += (kind == kChoice && i > 0 ? "|" : "") + parts[i].pattern();
    if (kind == kText) out += text;
    if (kind == kSet) out += "[ab]";
    out += ")";
    if (kind == kRepeat)
      out += "{" + std::to_string(least) + "," + (most < 0 ? "" : std::to_string(most)) + "}";
    return out;
  }

  /// Where a match that begins at one of `begins` can end, as bits.
  std::uint32_t ends(const std::string& in, std::uint32_t begins) const {
    std::uint32_t out = 0;
    switch (kind) {
      case kText:
      case kSet:
        for (std::size_t i = 0; i <= in.size(); ++i) {
          if ((begins >> i & 1) == 0) continue;
          if (kind == kSet && i < in.size()) out |= 2u << i;
          if (kind == kText && in.compare(i, text.size(), text) == 0) out |= 1u << (i + text.size());
        }
        return out;
      case kSequence:
        for (const Expression& part : parts) begins = part.ends(in, begins);
        return begins;
      case kChoice:
        for (const Expression& part : parts) out |= part.ends(in, begins);
        return out;
      case kRepeat:
        for (int i = 0; i < least; ++i) begins = parts[0].ends(in, begins);
        out = begins;
        for (int i = least; most < 0 ? begins != 0 && i < least + 20 : i < most; ++i) {
          begins = parts[0].ends(in, begins);
          out |= begins;
        }
        return out;
    }
    return out;
  }

  bool matches(const std::string& in) const { return (ends(in, 1) >> in.size() & 1) != 0; }
};

const std::vector<std::string>& small_tokens() {
  static const std::vector<std::string> tokens{"a", "b", "ab", "ba", "aab", "bbb"};
  return tokens;
}

/// Compares every token's score at every place within two tokens from the beginning, for up to three tokens of room.
void expect_masks(const Grammar& grammar, const std::vector<std::string>& tokens, Enumerated& language,
                  const std::string& name) {
  const ListTokenizer tokenizer(tokens);
  const auto compiled = std::make_shared<const CompiledGrammar>(grammar, tokenizer);
  ASSERT_EQ(compiled->least_tokens(), language.fewest("", tokens)) << name;
  const GrammarConstrained processor(compiled, tokenizer, {tokenizer.end()});
  const auto vocab_size = static_cast<std::size_t>(tokenizer.vocab_size());
  std::vector<std::vector<TokenId>> places{{tokenizer.end()}};
  for (std::size_t p = 0; p < places.size(); ++p) {
    const std::vector<TokenId> history = places[p];
    std::string text;
    for (std::size_t i = 1; i < history.size(); ++i) text += tokenizer.bytes_of(history[i]);
    for (int room = 1; room <= 3; ++room) {
      if (language.fewest(text, tokens) > room) continue;  // nothing is admitted, which is an error
      if (text.size() + 3 * static_cast<std::size_t>(room) > language.max_length()) continue;
      const bool only_complete = language.fewest(text, tokens) == 0;
      const std::vector<double> scores =
          scores_after(processor, vocab_size, history, 1, history.size() + static_cast<std::size_t>(room));
      for (std::size_t id = 0; id < tokens.size(); ++id) {
        const bool admitted = language.fewest(text + tokens[id], tokens) <= room - 1;
        EXPECT_EQ(scores[id] == 0.0, admitted)
            << name << " behind " << text << " token " << tokens[id] << " room " << room;
      }
      EXPECT_EQ(scores.back() == 0.0, only_complete) << name << " behind " << text;
    }
    if (history.size() == 3) continue;
    for (std::size_t id = 0; id < tokens.size(); ++id) {
      if (language.fewest(text + tokens[id], tokens) >= kNever || text.size() + tokens[id].size() > 6)
        continue;
      places.push_back(history);
      places.back().push_back(static_cast<TokenId>(id));
    }
  }
}

TEST(GrammarMasks, AreThoseOfTryingEveryContinuation) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  std::mt19937 rng(7);
  int compared = 0;
  for (int i = 0; i < 150; ++i) {
    const Expression expression = Expression::random(rng, 3);
    Enumerated language(12, [&](const std::string& text) { return expression.matches(text); });
    const std::string pattern = expression.pattern();
    std::vector<std::string> tokens = small_tokens();
    if (i % 3 == 0) tokens.erase(tokens.begin() + 1);  // no token for b alone: some texts cannot be written
    if (language.fewest("", tokens) > 6) continue;
    ++compared;
    expect_masks(Grammar::from_regex(pattern), tokens, language, pattern);
    if (HasFailure()) break;
  }
  EXPECT_GT(compared, 100);
}

struct RecursiveCase {
  std::string text;
  std::function<bool(const std::string&)> holds;
};

TEST(GrammarMasks, OfRecursiveRulesLeaveAWayToTheEndAndLoseNone) {
  // Brackets a and b; texts that read the same backwards; a list by right recursion; two rules that begin alike.
  const auto is_balanced = [](const std::string& text) {
    int open = 0;
    for (const char c : text)
      if ((open += c == 'a' ? 1 : -1) < 0) return false;
    return open == 0;
  };
  const auto is_palindrome = [](const std::string& text) {
    return std::equal(text.begin(), text.end(), text.rbegin());
  };
  const auto is_list = [](const std::string& text) {  // a's with single b's between
    return !text.empty() && text.front() == 'a' && text.back() == 'a' && text.find("bb") == text.npos;
  };
  const auto is_half = [](const std::string& text) {  // a^n b^n or a^n b^2n
    const auto a = static_cast<std::size_t>(std::count(text.begin(), text.end(), 'a'));
    const bool sorted = text.find("ba") == text.npos;
    return sorted && a > 0 && (text.size() == 2 * a || text.size() == 3 * a);
  };
  const RecursiveCase cases[] = {
      {"root ::= (\"a\" root \"b\")*", is_balanced},
      {"root ::= \"a\" root \"a\" | \"b\" root \"b\" | \"a\"? | \"b\"", is_palindrome},
      {"root ::= item | item root | item \"b\" root\nitem ::= \"a\"", is_list},
      {"root ::= x | y\nx ::= \"a\" x \"b\" | \"ab\"\ny ::= \"a\" y \"bb\" | \"abb\"", is_half}};
  for (const auto& [text, holds] : cases) {
    const Grammar grammar = Grammar::from_gbnf(text);
    Enumerated language(16, holds);
    const std::vector<std::string>& tokens = small_tokens();
    const ListTokenizer tokenizer(tokens);
    const auto compiled = std::make_shared<const CompiledGrammar>(grammar, tokenizer);
    const GrammarConstrained processor(compiled, tokenizer, {tokenizer.end()});
    const auto vocab_size = static_cast<std::size_t>(tokenizer.vocab_size());
    const std::vector<std::string> bytes{"a", "b"};
    Enumerated again(16, holds);  // its numbers are of bytes
    std::mt19937 rng(3);
    for (int walk = 0; walk < 60; ++walk) {
      std::vector<TokenId> history{tokenizer.end()};
      std::string done;
      int room = std::max<int>(static_cast<int>(rng() % 6) + 1, static_cast<int>(compiled->least_tokens()));
      while (room > 0) {
        const std::vector<double> scores =
            scores_after(processor, vocab_size, history, 1, history.size() + static_cast<std::size_t>(room));
        EXPECT_EQ(scores.back() == 0.0, language.fewest(done, tokens) == 0) << text << " behind " << done;
        std::vector<std::size_t> admitted;
        for (std::size_t id = 0; id < tokens.size(); ++id) {
          const std::string next = done + tokens[id];
          if (scores[id] == 0.0) admitted.push_back(id);
          if (next.size() + static_cast<std::size_t>(room) > 14) continue;
          if (scores[id] == 0.0) {
            EXPECT_LE(language.fewest(next, tokens), room - 1) << text << " behind " << next;
          } else {
            EXPECT_GT(again.fewest(next, bytes), room - 1) << text << " behind " << next;
          }
        }
        if (admitted.empty() || done.size() > 8) break;
        const std::size_t id = admitted[rng() % admitted.size()];
        history.push_back(static_cast<TokenId>(id));
        done += tokens[id];
        --room;
      }
      if (room == 0) {
        EXPECT_TRUE(holds(done)) << text << ": " << done;
      }
    }
  }
}

TEST(GrammarMasks, CountTheFewestTokens) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const auto least = [](const Grammar& grammar, std::vector<std::string> tokens) {
    return CompiledGrammar(grammar, ListTokenizer(std::move(tokens))).least_tokens();
  };
  EXPECT_EQ(least(Grammar::from_regex("aabab"), small_tokens()), 2);  // aab ab
  EXPECT_EQ(least(Grammar::from_regex("b{6}a{3}"), small_tokens()), 5);
  EXPECT_EQ(least(Grammar::from_regex("(ab)*"), small_tokens()), 0);
  EXPECT_EQ(least(Grammar::from_gbnf("root ::= \"a\" root \"b\" | \"abab\""), small_tokens()), 2);
  expect_error<ArgumentError>([&] { least(Grammar::from_regex("ca"), small_tokens()); },
                              {"[grammar]", "tokens"});
  // Many states, and a large vocabulary without any token of one byte.
  const std::string letters = "abcdefghijklmnopqrstuvwxyz0123";
  std::vector<std::string> triples;
  for (const char a : letters)
    for (const char b : letters)
      for (const char c : letters) triples.push_back({a, b, c});
  EXPECT_EQ(least(Grammar::from_regex("[a-z0-3]{9000}"), triples), 3000);
}

TEST(GrammarMasks, LeaveOutTokensWithoutTextOfTheirOwn) {
  const ListTokenizer tokenizer({"<", "e", "n", "d", ">", "", "<e"});
  const auto compiled = std::make_shared<const CompiledGrammar>(Grammar::from_regex("<end>|"), tokenizer);
  const GrammarConstrained processor(compiled, tokenizer, {tokenizer.end()});
  const auto scores =
      scores_after(processor, 10, {0}, 1, 100);  // a model with more tokens than the tokenizer
  for (const TokenId id : {0, 6, 7}) EXPECT_EQ(scores[static_cast<std::size_t>(id)], 0.0);  // <, <e, the end
  for (const TokenId id : {1, 5, 8, 9}) EXPECT_TRUE(std::isinf(scores[static_cast<std::size_t>(id)])) << id;
}

// Every rule may be the one that was begun, at every depth.
TEST(GrammarStacks, BoundWhatATextCosts) {
  std::string root = "root ::= ", rules;
  for (int i = 0; i < 100; ++i) {
    const std::string name = "r" + std::to_string(i);
    root += (i > 0 ? " | " : "") + name;
    rules += name + " ::= \"a\" " + name + " \"c\" | \"" + std::to_string(i) + "b\"\n";
  }
  const generate::Automaton automaton(generate::parse_gbnf(root + "\n" + rules));
  const std::vector<generate::Distance> distances(automaton.states(), 0);
  generate::Stacks stacks(automaton, distances, std::size_t{1} << 20);
  auto at = stacks.begin_at(automaton.start());
  expect_error<ArgumentError>(
      [&] {
        for (int i = 0; i < 1000; ++i) at = stacks.step(at, 'a');
      },
      {"[grammar]", "too ambiguous", "1048576 bytes"});
  EXPECT_LT(stacks.memory(), std::size_t{2} << 20);
}

// A processor remembers where sequences were, as many as there may be at once: what it remembers changes nothing.
TEST(GrammarMasks, AreTheSameInWhateverOrderSequencesCome) {
  const ListTokenizer tokenizer(small_tokens());
  const auto compiled = std::make_shared<const CompiledGrammar>(
      Grammar::from_gbnf("root ::= (\"a\" root \"b\")* | \"bb\" root"), tokenizer);
  const GrammarConstrained shared(compiled, tokenizer, {tokenizer.end()});
  const auto vocab_size = static_cast<std::size_t>(tokenizer.vocab_size());
  std::mt19937 rng(5);
  std::vector<std::vector<TokenId>> sequences(400, {tokenizer.end()});
  for (int step = 0; step < 4000; ++step) {
    std::vector<TokenId>& history = sequences[rng() % sequences.size()];
    const int kind = static_cast<int>(rng() % 8);
    if (kind == 0) history.resize(1 + rng() % history.size());     // a guess that was wrong
    if (kind == 1) history = sequences[rng() % sequences.size()];  // a beam's child
    const auto scores = scores_after(shared, vocab_size, history, 1, 40);
    const GrammarConstrained alone(compiled, tokenizer, {tokenizer.end()});
    ASSERT_EQ(scores, scores_after(alone, vocab_size, history, 1, 40)) << step;
    std::vector<TokenId> admitted;
    for (std::size_t id = 0; id + 1 < scores.size(); ++id)
      if (scores[id] == 0.0) admitted.push_back(static_cast<TokenId>(id));
    if (history.size() < 30 && !admitted.empty()) history.push_back(admitted[rng() % admitted.size()]);
  }
}

TEST(GrammarMasks, SayWhatLeavesNothing) {
  const ListTokenizer tokenizer({"a", "b"});
  const auto compiled = std::make_shared<const CompiledGrammar>(Grammar::from_regex("a{3}"), tokenizer);
  const GrammarConstrained processor(compiled, tokenizer, {tokenizer.end()});
  ProcessorScratch scratch;
  std::vector<double> scores{-std::numeric_limits<double>::infinity(), 0.0, 0.0};
  const std::vector<TokenId> prompt{1};
  expect_error<ArgumentError>(
      [&] { processor.process(scores, {.history = prompt, .prompt_length = 1, .max_length = 9}, scratch); },
      {"position 1", "dropped every token that grammar admits"});
  const std::vector<TokenId> other{1, 0, 1};
  expect_error<ArgumentError>(
      [&] { processor.process(scores, {.history = other, .prompt_length = 1, .max_length = 9}, scratch); },
      {"token id 1", "in no text of grammar"});
  expect_error<UnsupportedError>([&] { GrammarConstrained(compiled, tokenizer, {1}); },
                                 {"eos_token_id 1", "has text"});
  expect_error<ArgumentError>([&] { GrammarConstrained(nullptr, tokenizer, {1}); }, {"grammar is null"});
}

}  // namespace
}  // namespace gpt
