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
  const Gpt2& network = model.network();
  if (options.kv_cache_bytes != 0)
    return network.make_pool(options.kv_cache_bytes, options.page_tokens, options.kv_cache_dtype);
  constexpr auto kMost = ~std::size_t{0};
  const nn::KvPool all = network.make_pool(kMost, options.page_tokens, options.kv_cache_dtype);
  const auto pages = static_cast<std::size_t>(all.pages_for(network.config().n_positions));
  const std::size_t one = pages * all.page_bytes(), sequences = static_cast<std::size_t>(options.max_batch);
  return network.make_pool(one > kMost / sequences ? kMost : one * sequences, options.page_tokens,
                           options.kv_cache_dtype);
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

void Batcher::cancel(std::span<const RequestId> ids, Jobs& ended) noexcept {
  for (Jobs* jobs : {&waiting_, &running_})
    for (auto job = jobs->begin(); job != jobs->end();) {
      const auto next = std::next(job);
      if (job->settings.options.stop.stop_requested() ||
          std::find(ids.begin(), ids.end(), job->id) != ids.end()) {
        end(*job, nullptr);
        release(*job);
        ended.splice(ended.end(), *jobs, job);
      }
      job = next;
    }
}

void Batcher::release(Job& job) noexcept {
  job.context.cache = {};
  job.context.fed = 0;
  job.published = 0;
  job.last_published = nullptr;
}

void Batcher::preempt(Job& job) noexcept {
  std::erase_if(feeds_, [&](const Feed& feed) {
    if (feed.job != &job) return false;
    room_ += static_cast<std::int64_t>(feed.ids.size());
    return true;
  });
  release(job);
  ++preemptions_;
  insert(waiting_, running_,
         std::find_if(running_.begin(), running_.end(), [&](const Job& other) { return &other == &job; }));
}

void Batcher::forget_published(Job& job, std::int64_t tokens) noexcept {
  for (; std::cmp_greater(job.published, tokens / pool_.page_tokens()); --job.published)
    job.last_published = PrefixCache::parent_of(*job.last_published);
}

void Batcher::slide(Job& job) {
  job.context.slide(job.sequence.tokens.size(), model_->config().n_positions);
  forget_published(job, job.context.fed);
}

std::span<const TokenId> Batcher::tokens_at(const Job& job, std::int64_t begin, std::int64_t end) {
  const auto& tokens = job.sequence.tokens;
  scratch_.clear();
  for (std::int64_t position = begin; position < end; ++position)
    scratch_.push_back(tokens[static_cast<std::size_t>(
        position < job.context.keep ? position : position + job.context.dropped)]);
  return scratch_;
}

void Batcher::share_prefix(Job& job) {
  const std::int64_t length = job.pending();
  PrefixCache::Node* last = nullptr;
  const auto pages = prefixes_.find(tokens_at(job, 0, length), last);
  if (pages.empty()) return;
  // The last token is computed in any case, for its logits; where it ends a page, the page is shared until it is written to.
  job.context.fed = std::min(static_cast<std::int64_t>(pages.size()) * pool_.page_tokens(), length - 1);
  job.context.cache.share(pages, job.context.fed);
  job.published = pages.size();
  job.last_published = last;
  forget_published(job, job.context.fed);
}

void Batcher::publish(Job& job) {
  if (!options_.prefix_cache) return;
  nn::KvCache& cache = job.context.cache;
  const std::int64_t page_tokens = pool_.page_tokens();
  for (std::size_t& i = job.published; std::cmp_less_equal(i + 1, job.context.fed / page_tokens); ++i) {
    const std::int64_t begin = static_cast<std::int64_t>(i) * page_tokens;
    PrefixCache::Node* const node =
        prefixes_.insert(job.last_published, tokens_at(job, begin, begin + page_tokens), cache.pages()[i]);
    // Where another request was first, both have computed the same.
    if (PrefixCache::page_of(*node) != cache.pages()[i]) cache.replace(i, PrefixCache::page_of(*node));
    job.last_published = node;
  }
}

bool Batcher::feed(Job& job) {
  Context& context = job.context;
  const auto ids = context.next(job.sequence.tokens, room_);
  const auto count = static_cast<std::int64_t>(ids.size());
  while (!context.cache.try_reserve(context.fed + count)) {
    if (prefixes_.evict()) continue;
    Job& last = running_.back();
    preempt(last);
    if (&last == &job) return false;
  }
  room_ -= count;
  feeds_.push_back({.job = &job, .ids = ids, .completes = job.pending() == count});
  return true;
}

bool Batcher::admit(Job& job) {
  Context& context = job.context;
  const std::int64_t page_tokens = pool_.page_tokens();
  release(job);  // what an attempt left that threw
  context.cache = pool_.make_cache(job.most_tokens(model_->config().n_positions));
  slide(job);
  if (options_.prefix_cache) share_prefix(job);
  const std::int64_t length = context.fed + job.pending();
  for (;;) {
    // A page more for each that runs, so that none has to go for a while.
    const std::int64_t needed = pool_.pages_for(length) - pool_.pages_for(context.fed) +
                                (context.fed % page_tokens != 0 ? 1 : 0) +
                                static_cast<std::int64_t>(running_.size());
    if (pool_.free_pages() + prefixes_.unused() >= needed) break;
    if (!running_.empty() && running_.back().priority < job.priority) {
      preempt(running_.back());
    } else if (context.fed % page_tokens != 0) {  // without the copy
      context.fed = context.fed / page_tokens * page_tokens;
      context.cache.truncate(context.fed);
    } else {
      release(job);
      return false;
    }
  }
  while (!context.cache.try_reserve(length))
    if (!prefixes_.evict()) {  // what a pool's other user took in between
      release(job);
      return false;
    }
  if (context.fed > 0 && !std::exchange(job.counted_hit, true)) {
    ++hits_;
    hit_tokens_ += context.fed;
  }
  insert(running_, waiting_,
         std::find_if(waiting_.begin(), waiting_.end(), [&](const Job& other) { return &other == &job; }));
  return true;
}

void Batcher::plan() {
  feeds_.clear();
  room_ = options_.max_tokens_per_step;
  for (Job& job : running_) slide(job);
  // New tokens of all that run, then prompts. A job that gives up its pages was the last.
  for (const bool prompts : {false, true})
    for (auto job = running_.begin(); job != running_.end() && room_ > 0; ++job)
      if ((job->pending() > 1) == prompts && !feed(*job)) break;
  while (room_ > 0 && !waiting_.empty()) {
    Job& job = waiting_.front();
    if (std::cmp_equal(running_.size(), options_.max_batch)) {
      if (running_.back().priority >= job.priority) break;
      preempt(running_.back());
    }
    if (!admit(job) || !feed(job)) break;
  }
}

void Batcher::choose(Job& job, std::span<const float> logits) noexcept {
  try {
    with_memory_errors("generate", [&] {
      const Piece piece = choose_next(job.sequence, *model_, job.settings, job.sampler, logits, 0);
      ++generated_;
      if (job.settings.options.on_token) job.settings.options.on_token(piece);
    });
  } catch (...) {
    end(job, std::current_exception());
  }
}

void Batcher::step(std::stop_token stop, Jobs& ended) {
  plan();
  if (feeds_.empty()) return;
  batch_.clear();
  for (const Feed& feed : feeds_) batch_.push_back({.ids = feed.ids, .cache = &feed.job->context.cache});
  const auto start = std::chrono::steady_clock::now();
  const bool any_completes =
      std::any_of(feeds_.begin(), feeds_.end(), [](const Feed& feed) { return feed.completes; });
  arena_.reset();
  const ForwardOutput output = model_->network().forward(
      batch_, arena_,
      {.logits = any_completes ? LogitsRows::kLast : LogitsRows::kNone, .stop = std::move(stop)});
  ++steps_;
  for (const Feed& feed : feeds_) {
    const auto count = static_cast<std::int64_t>(feed.ids.size());
    feed.job->context.fed += count;
    computed_ += count;
    count_pass(feed.job->sequence, count);
  }
  const auto vocab_size = static_cast<std::size_t>(model_->config().vocab_size);
  for (std::size_t i = 0; i < feeds_.size(); ++i) {
    Job& job = *feeds_[i].job;
    try {
      publish(job);
    } catch (const std::bad_alloc&) {  // then nobody shares it
    }
    if (feeds_[i].completes)
      choose(job, ConstTensorView(output.logits).span<float>().subspan(i * vocab_size, vocab_size));
  }
  const double elapsed = seconds_since(start);
  for (const Feed& feed : feeds_) count_time(feed.job->sequence, elapsed);
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
