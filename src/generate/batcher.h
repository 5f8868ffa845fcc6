// The scheduler's steps: which requests run, what is fed of them, where their keys and values lie. For one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <stop_token>
#include <vector>

#include "generate/job.h"
#include "generate/prefix_cache.h"
#include "gpt/core/arena.h"
#include "gpt/generate/scheduler.h"
#include "gpt/models/model.h"
#include "gpt/nn/kv_pool.h"

namespace gpt::generate {

class Batcher {
 public:
  /// Throws ArgumentError as nn::KvPool.
  Batcher(const Model& model, const SchedulerOptions& options);

  const nn::KvPool& pool() const noexcept { return pool_; }
  /// Takes all of `jobs` to those that wait.
  void add(Jobs& jobs) noexcept;
  /// Ends those of these ids, and those whose stop tokens say so; moves them to `ended`.
  void cancel(const std::set<RequestId>& ids, Jobs& ended) noexcept;
  /// One forward pass and the choice of the tokens it brings; moves what ends to `ended`. Before the pass is computed it
  /// may throw, CancelledError, MemoryError and std::bad_alloc, and be called again; after it throws nothing.
  void step(const std::stop_token& stop, Jobs& ended);
  /// Fills in what it knows.
  void report(SchedulerStatistics& statistics) const noexcept;

 private:
  /// What the pass feeds of a job.
  struct Feed {
    Job* job = nullptr;
    std::span<const TokenId> ids;
    bool completes = false;  // reaches the last token, so that the next one can be chosen
    std::optional<Piece> piece = {};
  };

  void plan();
  /// Feeds what there is room for. False when the job had to give up its pages itself.
  bool feed(Job& job);
  /// Whether the first that waits can run now; then it does.
  bool admit();
  /// Whether there are a place, and pages for `length` tokens, for a job that waits, once the last of those of lower priority
  /// have been preempted; then they are.
  bool make_room(const Job& job, std::int64_t length);
  /// Takes the pages of a job's first `length` tokens, at the cost of prefixes that nobody uses, and of those that run and
  /// come behind the job. False when that is not enough; throws MemoryError when nothing else runs.
  bool reserve(Job& job, std::int64_t length);
  /// Lets a job begin with pages of the prefix cache, the node of the last of which it returns.
  PrefixCache::Node* use_prefix(Job& job);
  /// Makes the full pages of a job known to the prefix cache.
  void publish(Job& job);
  void forget_published(Job& job, std::int64_t positions) noexcept;  // but those of its first `positions`
  std::int64_t virtual_tokens(const Job& job) const noexcept;
  /// What its cache holds, virtual tokens included.
  std::int64_t positions_of(const Job& job) const noexcept;
  void slide(Job& job);
  void preempt_last() noexcept;  // of those that run
  void release(Job& job) noexcept;
  static void insert(Jobs& list, Jobs& from, Jobs::iterator job) noexcept;
  /// The pass that is planned.
  ForwardOutput compute(const std::stop_token& stop);
  void choose(Feed& feed, std::span<const float> logits) noexcept;
  static void tell(const Feed& feed) noexcept;  // the caller of the token, if there is one
  /// The tokens at the positions [begin, end) of a job's context, -1 for virtual ones; valid until the next call.
  std::span<const TokenId> tokens_at(const Job& job, std::int64_t begin, std::int64_t end);

  const Model* model_;
  SchedulerOptions options_;
  nn::KvPool pool_;
  PrefixCache prefixes_;
  Jobs waiting_, running_;  // both in their order: Job::before
  std::vector<Feed> feeds_;
  std::vector<Chunk> batch_;
  std::vector<TokenId> scratch_;
  Arena arena_;
  std::int64_t room_ = 0;  // for tokens in the pass that is planned
  RequestId blocked_ =
      0;  // for whom there were too few pages; since then, none came free, and none could be shared
  std::int64_t steps_ = 0, computed_ = 0, generated_ = 0, preemptions_ = 0, hits_ = 0, hit_tokens_ = 0;
};

}  // namespace gpt::generate
