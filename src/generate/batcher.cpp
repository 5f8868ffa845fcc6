#include "generate/batcher.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <utility>

#include "core/memory.h"
#include "generate/session_support.h"

namespace gpt::generate {
namespace {

nn::KvPool make_pool(const Model& model, const SchedulerOptions& options) {
  const auto with_budget = [&](std::size_t bytes) {
    return model.network().make_pool(bytes, options.page_tokens, options.kv_cache_dtype);
  };
  constexpr auto kMost = ~std::size_t{0};
  const nn::KvPool all = with_budget(kMost);
  if (options.kv_cache_bytes == 0) {
    const auto pages = static_cast<std::size_t>(all.pages_for(model.config().n_positions));
    const std::size_t one = pages * all.page_bytes(), sequences = static_cast<std::size_t>(options.max_batch);
    return with_budget(one > kMost / sequences ? kMost : one * sequences);
  }
  if (options.kv_cache_bytes < all.page_bytes())
    fail<ArgumentError>("scheduler", "kv_cache_bytes is ", options.kv_cache_bytes, ", expected at least ",
                        all.page_bytes(), ", the size of a page of page_tokens = ", options.page_tokens,
                        " tokens");
  return with_budget(options.kv_cache_bytes);
}

/// Ends a sequence without a token.
void end(Job& job, std::exception_ptr error) noexcept {
  job.error = std::move(error);
  try {
    with_memory_errors("generate",
                       [&] { job.sequence.result.text += finish(job.sequence, FinishReason::kCancelled); });
  } catch (...) {  // for the text that was held back
    if (!job.error) job.error = std::current_exception();
  }
  job.sequence.ended = true;
}

}  // namespace

Batcher::Batcher(const Model& model, const SchedulerOptions& options)
    : model_(&model), options_(options), pool_(make_pool(model, options)), prefixes_(options.page_tokens) {}

void Batcher::insert(Jobs& list, Jobs& from, Jobs::iterator job) noexcept {
  // From behind: most come last.
  auto place = list.end();
  while (place != list.begin() && job->before(*std::prev(place))) --place;
  list.splice(place, from, job);
}

void Batcher::add(Jobs& jobs) noexcept {
  while (!jobs.empty()) insert(waiting_, jobs, jobs.begin());
}

void Batcher::cancel(const std::set<RequestId>& ids, Jobs& ended) noexcept {
  for (Jobs* jobs : {&waiting_, &running_})
    for (auto job = jobs->begin(); job != jobs->end();) {
      const auto next = std::next(job);
      if (job->settings.options.stop.stop_requested() || ids.contains(job->id)) {
        end(*job, nullptr);
        release(*job);
        ended.splice(ended.end(), *jobs, job);
      }
      job = next;
    }
}

void Batcher::release(Job& job) noexcept {
  forget_published(job, 0);
  job.context.cache = {};
  job.context.fed = 0;
  job.planned = false;
  blocked_ = 0;
}

void Batcher::preempt_last() noexcept {
  Job& job = running_.back();
  std::erase_if(feeds_, [&](const Feed& feed) {
    if (feed.job != &job) return false;
    room_ += static_cast<std::int64_t>(feed.ids.size());
    return true;
  });
  release(job);
  ++preemptions_;
  insert(waiting_, running_, std::prev(running_.end()));
}

std::int64_t Batcher::virtual_tokens(const Job& job) const noexcept {
  return room_of(*model_, job.settings).virtual_tokens;
}

std::int64_t Batcher::positions_of(const Job& job) const noexcept {
  return job.context.fed == 0 ? 0 : virtual_tokens(job) + job.context.fed;
}

void Batcher::forget_published(Job& job, std::int64_t positions) noexcept {
  while (PrefixCache::count_to(job.last_published) > positions / pool_.page_tokens())
    job.last_published = prefixes_.leave(*job.last_published);
}

void Batcher::slide(Job& job) {
  const std::int64_t before = job.context.dropped;
  job.context.slide(job.sequence.tokens.size(), room_of(*model_, job.settings).tokens);
  if (job.context.dropped == before) return;
  forget_published(job, positions_of(job));
  blocked_ = 0;
}

std::span<const TokenId> Batcher::tokens_at(const Job& job, std::int64_t begin, std::int64_t end) {
  constexpr TokenId kVirtual = -1;
  const auto& tokens = job.sequence.tokens;
  const std::int64_t before = virtual_tokens(job);
  scratch_.clear();
  for (std::int64_t position = begin; position < end; ++position) {
    const std::int64_t t = position - before;
    scratch_.push_back(
        t < 0 ? kVirtual
              : tokens[static_cast<std::size_t>(t < job.context.keep ? t : t + job.context.dropped)]);
  }
  return scratch_;
}

PrefixCache::Node* Batcher::use_prefix(Job& job) {
  const std::int64_t length = job.pending(), before = virtual_tokens(job);
  PrefixCache::Node* last =
      prefixes_.find(job.settings.options.adapter.get(), tokens_at(job, 0, before + length));
  // The last token is computed in any case, for its logits; where it ends a page, the page is shared until it is written to.
  job.context.fed = std::min(PrefixCache::count_to(last) * pool_.page_tokens() - before, length - 1);
  if (job.context.fed <= 0) {  // virtual tokens come with a token, or not at all
    job.context.fed = 0;
    last = nullptr;
  }
  prefixes_.use(last);
  job.last_published = last;
  forget_published(job, positions_of(job));
  return last;
}

void Batcher::publish(Job& job) {
  if (!options_.prefix_cache) return;
  nn::KvCache& cache = job.context.cache;
  const std::int64_t page_tokens = pool_.page_tokens();
  for (std::int64_t i = PrefixCache::count_to(job.last_published); i < positions_of(job) / page_tokens; ++i) {
    const nn::KvPage& page = cache.pages()[static_cast<std::size_t>(i)];
    job.last_published = prefixes_.insert(job.last_published, job.settings.options.adapter,
                                          tokens_at(job, i * page_tokens, (i + 1) * page_tokens), page);
    // Where another request was first, both have computed the same.
    if (const nn::KvPage& kept = PrefixCache::page_of(*job.last_published); kept != page)
      cache.replace(static_cast<std::size_t>(i), kept);
    blocked_ = 0;  // who waits may begin with it
  }
}

bool Batcher::reserve(Job& job, std::int64_t length) {
  nn::KvCache& cache = job.context.cache;
  // Where the system has no memory for a page within the budget, pages must be given up all the same.
  const auto has_pages = [&] {
    try {
      return cache.try_reserve(length);
    } catch (const MemoryError&) {
      return false;
    }
  };
  const auto is_job = [&](const Job& other) { return &other == &job; };
  while (!has_pages()) {
    if (prefixes_.evict()) continue;
    if (std::all_of(running_.begin(), running_.end(), is_job)) {  // nobody else has any
      cache.reserve(length);
      break;
    }
    if (!job.before(running_.back())) return false;
    preempt_last();
  }
  return true;
}

bool Batcher::feed(Job& job) {
  const auto ids = job.context.next(job.sequence.tokens, room_);
  const auto count = static_cast<std::int64_t>(ids.size());
  if (!reserve(job, job.context.fed + count)) {
    preempt_last();  // which is the job
    return false;
  }
  feeds_.push_back({.job = &job, .ids = ids, .completes = job.pending() == count});
  room_ -= count;
  job.planned = true;
  return true;
}

bool Batcher::make_room(const Job& job, std::int64_t length) {
  const std::int64_t needed =
      pool_.pages_for(virtual_tokens(job) + length) - PrefixCache::count_to(job.last_published);
  auto left = static_cast<std::int64_t>(running_.size());  // that would go on running
  std::int64_t given = 0;                                  // pages that nobody but the others has
  const auto is_enough = [&] {
    // A page more for each that runs, so that none has to go for a while. Alone, every request has what it needs.
    return left == 0 ||
           (left < options_.max_batch && pool_.free_pages() + given + prefixes_.unused() >= needed + left);
  };
  // Whether it is enough when these go, before any does.
  auto first = running_.end();
  while (!is_enough() && first != running_.begin() && std::prev(first)->priority < job.priority) {
    --first;
    --left;
    given += static_cast<std::int64_t>(first->context.cache.pages().size()) -
             PrefixCache::count_to(first->last_published);
    for (PrefixCache::Node* node = first->last_published; node != nullptr;) node = prefixes_.leave(*node);
  }
  const bool enough = is_enough();
  for (auto other = first; other != running_.end(); ++other) prefixes_.use(other->last_published);
  while (enough && std::cmp_greater(running_.size(), left)) preempt_last();
  return enough;
}

bool Batcher::admit() {
  Job& job = waiting_.front();
  if (job.id == blocked_) return false;
  // In a full batch it takes another's place, and what that is fed.
  const bool is_full = std::cmp_equal(running_.size(), options_.max_batch);
  if (is_full ? running_.back().priority >= job.priority : room_ == 0) return false;
  Context& context = job.context;
  slide(job);
  const std::int64_t length = job.pending();
  try {
    const PrefixCache::Node* const last = options_.prefix_cache ? use_prefix(job) : nullptr;
    bool has_room = make_room(job, length);
    if (has_room) {
      context.cache =
          pool_.make_cache(job.most_tokens(room_of(*model_, job.settings).tokens), virtual_tokens(job));
      context.cache.share(PrefixCache::pages_to(last), context.fed);
      has_room = reserve(job, length);
    }
    if (!has_room) {
      release(job);
      blocked_ = job.id;
      return false;
    }
  } catch (...) {
    release(job);
    throw;
  }
  if (!std::exchange(job.has_run, true) && context.fed > 0) {
    ++hits_;
    hit_tokens_ += context.fed;
  }
  insert(running_, waiting_, waiting_.begin());
  return true;
}

void Batcher::plan() {
  feeds_.clear();
  room_ = options_.max_tokens_per_step;
  for (Job& job : running_) {
    job.planned = false;
    slide(job);
  }
  // New tokens of all that run. A job that gives up its pages was the last.
  for (auto job = running_.begin(); job != running_.end(); ++job)
    if (job->pending() == 1 && !feed(*job)) break;
  // Then prompts: of those that run, and of one that waits before those of lower priority.
  for (bool admits = true;;) {
    const auto prompt =
        std::find_if(running_.begin(), running_.end(), [](const Job& job) { return !job.planned; });
    const bool is_last = prompt == running_.end();
    if (admits && !waiting_.empty() && (is_last || waiting_.front().priority > prompt->priority)) {
      admits = admit();
    } else if (is_last || room_ == 0 || !feed(*prompt)) {
      break;
    }
  }
}

ForwardOutput Batcher::compute(const std::stop_token& stop) {
  batch_.clear();
  for (const Feed& feed : feeds_)
    batch_.push_back({.ids = feed.ids,
                      .cache = &feed.job->context.cache,
                      .adapter = feed.job->settings.options.adapter.get()});
  const bool any_completes =
      std::any_of(feeds_.begin(), feeds_.end(), [](const Feed& feed) { return feed.completes; });
  const auto forward = [&] {
    arena_.reset();
    return model_->network().forward(
        batch_, arena_, {.logits = any_completes ? LogitsRows::kLast : LogitsRows::kNone, .stop = stop});
  };
  try {
    return forward();
  } catch (const MemoryError&) {
    if (!prefixes_.evict()) throw;
  }
  while (prefixes_.evict()) {  // what is kept in case must not be in the way
  }
  return forward();
}

void Batcher::choose(Feed& feed, std::span<const float> logits) noexcept {
  Job& job = *feed.job;
  try {
    with_memory_errors("generate", [&] {
      feed.piece = choose_next(job.sequence, *model_, job.settings, job.sampler, logits, 0);
    });
    ++generated_;
  } catch (...) {
    end(job, std::current_exception());
  }
}

void Batcher::tell(const Feed& feed) noexcept {
  const auto& on_token = feed.job->settings.options.on_token;
  if (!feed.piece || !on_token) return;
  try {
    on_token(*feed.piece);
  } catch (...) {
    end(*feed.job, std::current_exception());
  }
}

void Batcher::step(const std::stop_token& stop, Jobs& ended) {
  plan();
  if (feeds_.empty()) return;
  const auto start = std::chrono::steady_clock::now();
  const ForwardOutput output = compute(stop);
  ++steps_;
  const auto vocab_size = static_cast<std::size_t>(model_->config().vocab_size);
  for (std::size_t i = 0; i < feeds_.size(); ++i) {
    Feed& feed = feeds_[i];
    Job& job = *feed.job;
    const auto count = static_cast<std::int64_t>(feed.ids.size());
    job.context.fed += count;
    computed_ += count;
    count_pass(job.sequence, count);
    try {
      publish(job);
    } catch (const std::bad_alloc&) {  // then nobody shares it
    }
    if (feed.completes)
      choose(feed, ConstTensorView(output.logits).span<float>().subspan(i * vocab_size, vocab_size));
  }
  const double elapsed = seconds_since(start);
  for (const Feed& feed : feeds_) count_time(feed.job->sequence, elapsed);
  for (const Feed& feed : feeds_) tell(feed);
  for (auto job = running_.begin(); job != running_.end();) {
    const auto next = std::next(job);
    if (job->sequence.ended) {
      release(*job);
      ended.splice(ended.end(), running_, job);
    }
    job = next;
  }
}

void Batcher::report(SchedulerStatistics& statistics) const noexcept {
  statistics.waiting = static_cast<std::int64_t>(waiting_.size());
  statistics.running = static_cast<std::int64_t>(running_.size());
  statistics.steps = steps_;
  statistics.computed_tokens = computed_;
  statistics.generated_tokens = generated_;
  statistics.preemptions = preemptions_;
  statistics.prefix_hits = hits_;
  statistics.prefix_hit_tokens = hit_tokens_;
  statistics.pages = pool_.used_pages();
  statistics.prefix_pages = static_cast<std::int64_t>(prefixes_.size());
  statistics.peak_pages = pool_.peak_pages();
  statistics.total_pages = pool_.total_pages();
  statistics.page_bytes = pool_.page_bytes();
}

}  // namespace gpt::generate
