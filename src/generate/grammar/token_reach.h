// Where one token leads a machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "generate/grammar/automaton.h"
#include "generate/grammar/token_trie.h"

namespace gpt::generate {

/// The states of a machine without calls behind one token. The tokens are read together, as sets of the trie's nodes: what a
/// state does to a set, by which bytes it tells apart, many others do as well (all characters that a string counts), so that it is
/// found out once.
class TokenReach {
 public:
  using State = Automaton::State;

  /// All must outlive the object. `classes` are those of the nodes' bytes.
  TokenReach(const Automaton& automaton, const TokenTrie& trie, std::span<const std::uint8_t> classes);

  /// Appends the states that one token leads to, each once. Throws ArgumentError when all calls together take too much.
  void find(State from, std::vector<State>& out);

 private:
  using Set = std::uint32_t;
  /// A set of nodes, and a byte's class that leads there.
  struct Branch {
    std::uint8_t byte_class = 0;
    Set to = 0;
  };
  using Branches = std::vector<Branch>;

  const Branches& branches(Set set, State state);
  std::uint32_t partition_of(State state);
  Set set_of(std::vector<std::uint32_t> nodes);

  const Automaton& automaton_;
  const TokenTrie& trie_;
  std::span<const std::uint8_t> classes_;
  std::vector<std::vector<std::uint32_t>> sets_;
  std::vector<bool> has_token_;                          // by set
  std::unordered_multimap<std::uint64_t, Set> set_ids_;  // by hash
  std::vector<std::uint32_t> partitions_;  // by state: a number for its partition of the classes
  std::map<std::vector<State>, std::uint32_t>
      partition_ids_;  // for each class, its part from 1 on; 0 is read by none
  std::unordered_map<std::uint64_t, Branches> branches_;  // by set and partition
  std::vector<State> seen_by_;                            // by state: the last one that leads there
  std::vector<std::pair<Set, State>> stack_;
  std::size_t nodes_ = 0, visits_ = 0;
};

}  // namespace gpt::generate
