// Pages of attention caches that are kept for sequences to come, found by the tokens they hold.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <span>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/nn/kv_cache.h"

namespace gpt::generate {

/// A tree: a node is a full page of tokens, and stands below that of the page before. What lies in a page depends on all
/// tokens up to its end, and on nothing else.
class PrefixCache {
 public:
  struct Node;

  explicit PrefixCache(std::int64_t page_tokens) : page_tokens_(static_cast<std::size_t>(page_tokens)) {}
  PrefixCache(const PrefixCache&) = delete;  // nodes point to each other
  PrefixCache& operator=(const PrefixCache&) = delete;

  /// The pages of the longest beginning of `tokens` that is there, first page first. `last` is the node of the last of
  /// them, null without any. Throws std::bad_alloc.
  std::vector<nn::KvPage> find(std::span<const TokenId> tokens, Node*& last);

  /// Keeps a page behind `parent` (null: a sequence's first), which holds `tokens`, and returns its node: the one that is
  /// there already, or a new one. A node lives as long as somebody else has its page, or a node below it does. Throws
  /// std::bad_alloc.
  Node* insert(Node* parent, std::span<const TokenId> tokens, const nn::KvPage& page);
  static const nn::KvPage& page_of(const Node& node) noexcept;
  static Node* parent_of(const Node& node) noexcept;

  /// Lets go of the page that was used least recently, of those that nobody else has and that no other page stands behind.
  /// False when there is none.
  bool evict();

  /// Pages kept.
  std::size_t size() const noexcept { return nodes_.size(); }
  /// Those that nobody else has, which evict() lets go of one after the other: who has a page has those before it, too.
  std::int64_t unused() const noexcept;

 private:
  struct Less {
    using is_transparent = void;
    bool operator()(std::span<const TokenId> a, std::span<const TokenId> b) const noexcept {
      return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
    }
  };
  using Children = std::map<std::vector<TokenId>, Node*, Less>;

  Children& children_of(Node* parent) noexcept;
  /// The nodes up to this one were used just now.
  void touch(Node* node) noexcept;

  std::size_t page_tokens_;
  std::list<Node> nodes_;  // the least recently used first
  Children first_;         // of those without a parent
};

struct PrefixCache::Node {
  Node* parent = nullptr;
  nn::KvPage page = {};
  Children children = {};
  Children::iterator place = {};          // among its parent's children
  std::list<Node>::iterator itself = {};  // in nodes_
};

}  // namespace gpt::generate
