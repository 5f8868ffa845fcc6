// A request of the scheduler, with all that belongs to it.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <list>
#include <utility>
#include <vector>

#include "generate/context.h"
#include "generate/prefix_cache.h"
#include "generate/sequence.h"
#include "generate/settings.h"
#include "gpt/generate/sampler.h"
#include "gpt/generate/scheduler.h"
#include "gpt/models/model.h"

namespace gpt::generate {

struct Job {
  /// Throws as Session's constructor.
  Job(const Model& model, Settings resolved, const std::vector<TokenId>& prompt, RequestSettings request)
      : settings(std::move(resolved)),
        sampler(std::move(settings.processors)),
        sequence(model, settings, sampler, prompt, 0),
        priority(request.priority),
        on_done(std::move(request.on_done)) {
    context.keep = kept_tokens(settings, static_cast<std::int64_t>(prompt.size()), room_of(model, settings));
  }
  Job(const Job&) = delete;  // the sequence points into the settings
  Job& operator=(const Job&) = delete;

  /// Whether it comes before `other`.
  bool before(const Job& other) const noexcept {
    return priority != other.priority ? priority > other.priority : id < other.id;
  }
  std::int64_t pending() const noexcept { return context.pending(sequence.tokens.size()); }
  /// The most tokens that its cache holds at once.
  std::int64_t most_tokens(std::int64_t max_tokens) const noexcept {
    const std::int64_t all =
        static_cast<std::int64_t>(sequence.result.prompt_ids.size()) + sequence.max_new_tokens - 1;
    return all < max_tokens ? all : max_tokens;
  }

  RequestId id = 0;
  Settings settings;
  Sampler sampler;
  Sequence sequence;
  int priority;
  std::function<void(Completion)> on_done;
  Context context = {};
  // The last of the context's pages that are in the prefix cache, where the job uses them.
  PrefixCache::Node* last_published = nullptr;
  bool planned = false;  // in the pass that is planned
  bool has_run = false;
  std::exception_ptr error = {};
  std::list<Completion> completion =
      std::list<Completion>(1);  // filled in at its end, which must need no memory
};

using Jobs = std::list<Job>;

}  // namespace gpt::generate
