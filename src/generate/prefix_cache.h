// Pages of attention caches that are kept for sequences to come, found by the tokens they hold.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/nn/adapter.h"
#include "gpt/nn/kv_cache.h"

namespace gpt::generate {

/// A tree: a node is a full page of tokens, and stands below that of the page before. What lies in a page depends on all
/// tokens up to its end, on the adapter, and on nothing else. Who uses a node uses those before it, too; a node lives as long as it is used.
class PrefixCache {
 public:
  struct Node;

  explicit PrefixCache(std::int64_t page_tokens) : page_tokens_(static_cast<std::size_t>(page_tokens)) {}
  PrefixCache(const PrefixCache&) = delete;  // nodes point to each other
  PrefixCache& operator=(const PrefixCache&) = delete;

  /// The node of the last page of the longest beginning of `tokens` that is there for the adapter (null: none), null without
  /// any.
  Node* find(const nn::Adapter* adapter, std::span<const TokenId> tokens) noexcept;
  /// The pages up to a node (null: none), first page first, and how many they are.
  static std::vector<nn::KvPage> pages_to(const Node* last);
  static std::int64_t count_to(const Node* last) noexcept;

  /// Keeps a page behind `parent` (null: a sequence's first), which the caller uses, and returns its node: the one that is
  /// there already, or a new one. The caller uses it from now on. Throws std::bad_alloc.
  /// An adapter lives as long as a page of its own.
  Node* insert(Node* parent, const std::shared_ptr<const nn::Adapter>& adapter,
               std::span<const TokenId> tokens, const nn::KvPage& page);
  static const nn::KvPage& page_of(const Node& node) noexcept;

  /// One more uses the nodes up to `last` (null: none).
  void use(Node* last) noexcept;
  /// Who uses the nodes up to this one uses those before it alone, the last of which is returned (null: none).
  Node* leave(Node& last) noexcept;

  /// Forgets the page that was left first, of those that nobody uses; those behind it come before it. False when there is
  /// none.
  bool evict() noexcept;

  /// Pages kept, and those of them that nobody uses.
  std::size_t size() const noexcept { return used_.size() + unused_.size(); }
  std::int64_t unused() const noexcept { return static_cast<std::int64_t>(unused_.size()); }

 private:
  struct Less {
    using is_transparent = void;
    bool operator()(std::span<const TokenId> a, std::span<const TokenId> b) const noexcept {
      return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
    }
  };
  using Children = std::map<std::vector<TokenId>, Node*, Less>;

  void use_one(Node& node) noexcept;

  std::size_t page_tokens_;
  std::list<Node> used_;
  std::list<Node> unused_;  // that was left first comes first, and so each before its parent
  std::map<const nn::Adapter*, Children> first_;  // of those without a parent
};

struct PrefixCache::Node {
  Node* parent = nullptr;
  std::shared_ptr<const nn::Adapter> adapter = {};
  std::int64_t count = 0;  // of the nodes up to this one
  nn::KvPage page = {};
  Children children = {};
  Children::iterator place = {};          // among its parent's children
  std::list<Node>::iterator itself = {};  // in its list
  std::int64_t users = 0;
};

}  // namespace gpt::generate
