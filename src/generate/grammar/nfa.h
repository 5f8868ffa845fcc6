// The first step from rules to an automaton: machines that may be in several states at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "generate/grammar/rules.h"

namespace gpt::generate {

/// Thompson's construction, of the rules that stay rules.
struct Nfa {
  using State = std::uint32_t;
  struct ByteEdge {
    ByteRange range;
    State to = 0;
  };
  struct CallEdge {
    std::uint32_t rule = 0;  // among `machines`
    State to = 0;
  };
  struct Node {
    std::vector<ByteEdge> bytes;
    std::vector<CallEdge> calls;
    std::vector<State> empty;  // edges that read nothing
  };
  struct Machine {
    std::string name;
    State start = 0, end = 0;
  };
  std::vector<Node> nodes;
  std::vector<Machine> machines;  // the root's first
};

/// Throws ArgumentError for more states than the limit.
Nfa build_nfa(const Rules& rules);

}  // namespace gpt::generate
