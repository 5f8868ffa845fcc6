// Which tokens of a vocabulary an automaton admits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "generate/grammar/automaton.h"
#include "generate/grammar/stacks.h"
#include "generate/grammar/token_trie.h"

namespace gpt::generate {

/// An automaton against a vocabulary. What a state admits is found out once and kept, for as much of a token as the state's own
/// rule and those that it calls can read; only what reaches beyond the rule's end is looked up in the frames below, where
/// it is kept in the same way. Safe for several threads.
class TokenMasks {
 public:
  using State = Automaton::State;

  /// Throws ArgumentError when no text of the grammar can be made of the tokens.
  TokenMasks(std::shared_ptr<const Automaton> automaton, TokenTrie trie);

  const Automaton& automaton() const noexcept { return *automaton_; }
  const TokenTrie& trie() const noexcept { return trie_; }
  /// Of each state: so many tokens lead to the end of its rule. The fewest, as far as tokens that reach beyond the ends of
  /// several rules are not needed for that: without recursion, the fewest.
  const std::vector<Distance>& distances() const noexcept { return distances_; }
  /// Of a whole text.
  Distance least_tokens() const noexcept { return distances_[automaton_->start()]; }

  /// Sets the bits of the tokens behind which a text can be completed with `left` more; bit i of a word for the token
  /// 64 * word + i. `stacks` are of the same automaton and distances.
  void mask(const Stacks& stacks, Stacks::Configuration at, Distance left,
            std::vector<std::uint64_t>& words) const;

 private:
  static constexpr std::uint32_t kNoNodes = 0xFFFFFFFF;

  /// Tokens that lead to configurations of one distance.
  struct Level {
    Distance distance = 0;
    std::vector<std::uint64_t> words = {};  // a set of all, or
    std::vector<TokenId> ids = {};          // few
  };
  /// What a state admits of the tokens below some nodes of the trie.
  struct Partial {
    std::vector<Level> levels = {};  // by distance
    /// A set of nodes at which the rule may end, with bytes of tokens still to come that its callers may read.
    std::uint32_t returns = kNoNodes;
  };

  /// The distances, of a grammar without calls, and of one with them: whether there was the time for all ways.
  void search();
  bool relax();
  void find_followers();
  /// Finds out what all states admit, as far as that does not take too long: the rest as it is asked for.
  void fill();
  /// Calls visit(node, configuration) for the nodes below `top` that can be read from `from` on.
  template <class Visit>
  void walk(std::uint32_t top, Stacks::Configuration from, Visit&& visit) const;
  // With the mutex:
  const Partial& partial(std::uint32_t tops, State state) const;
  Partial make_partial(std::uint32_t tops, State state) const;
  std::uint32_t set_of(std::vector<std::uint32_t> nodes) const;
  void forget() const;  // all that was found out

  std::shared_ptr<const Automaton> automaton_;
  TokenTrie trie_;
  std::vector<Distance> distances_;
  std::vector<std::uint8_t> classes_;  // of the bytes of the trie's nodes
  std::vector<bool> follows_;          // [rules, classes]: may stand behind a text of the rule

  mutable std::mutex mutex_;  // of what follows
  mutable Stacks stacks_;     // whose bottoms are the ends of rules, not of the text
  mutable std::vector<Stacks::Configuration> path_;
  mutable std::unordered_map<std::uint64_t, Partial> partials_;  // by set of nodes and state
  mutable std::vector<std::vector<std::uint32_t>> node_sets_;
  mutable std::map<std::vector<std::uint32_t>, std::uint32_t> node_set_ids_;
  mutable std::size_t partial_bytes_ = 0;
  mutable std::size_t visits_ = 0;
  mutable bool is_open_ = false;
};

}  // namespace gpt::generate
