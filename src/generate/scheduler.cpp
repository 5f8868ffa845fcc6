#include "gpt/generate/scheduler.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "generate/batcher.h"
#include "generate/drafter.h"
#include "generate/processor_list.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/ops/attention.h"

namespace gpt {
namespace {

constexpr const char* kWhere = "scheduler";

const SchedulerOptions& validated(const SchedulerOptions& options) {
  options.validate();
  return options;
}

/// The request's options, complete, are such that the scheduler can run them.
void check_options(const GenerateOptions& options, const GenerateOptions& merged, DType kv_cache_dtype) {
  const auto refuse = [](std::string_view name, bool is_on, std::string_view instead = "") {
    if (is_on) fail<UnsupportedError>(kWhere, name, " is not supported in a request", instead);
  };
  refuse("num_beams", generate::has_beams(merged));
  refuse("penalty_alpha", generate::is_contrastive(merged));
  refuse("num_return_sequences", merged.num_return_sequences.value_or(1) != 1,
         ": submit one for each, with the streams stream, stream + 1, ...");
  refuse("guidance_scale", generate::is_guided(merged));
  refuse("assistant_model", merged.assistant_model != nullptr);
  refuse("prompt_lookup_num_tokens", generate::has_drafts(merged));
  if (options.kv_cache_dtype != kv_cache_dtype)
    fail<ArgumentError>(kWhere, "kv_cache_dtype is ", name_of(options.kv_cache_dtype), ", expected ",
                        name_of(kv_cache_dtype), ", the scheduler's");
  if (options.num_threads != 0)
    fail<ArgumentError>(kWhere, "num_threads is ", options.num_threads,
                        ", expected 0: requests share the scheduler's threads");
}

}  // namespace

void SchedulerOptions::validate() const {
  const auto require = [](const char* name, std::int64_t value, std::int64_t least) {
    if (value < least) fail<ArgumentError>(kWhere, name, " is ", value, ", expected at least ", least);
  };
  require("max_batch", max_batch, 1);
  require("max_tokens_per_step", max_tokens_per_step, 1);
  require("max_queue", max_queue, 1);
  require("num_threads", num_threads, 0);
  require("page_tokens", page_tokens, 1);
  if (page_tokens % ops::kKeyGroup != 0)
    fail<ArgumentError>(kWhere, "page_tokens is ", page_tokens, ", expected a multiple of ", ops::kKeyGroup);
  if (!ops::is_cache_dtype(kv_cache_dtype))
    fail<ArgumentError>(kWhere, "kv_cache_dtype is ", name_of(kv_cache_dtype),
                        ", expected float32, float16, bfloat16 or int8");
  if (max_tokens_per_step < max_batch)
    fail<ArgumentError>(kWhere, "max_tokens_per_step is ", max_tokens_per_step,
                        ", expected at least max_batch = ", max_batch);
}

struct Scheduler::State {
  State(const Model& m, const SchedulerOptions& o, const Generator::WarningCallback& on_warning)
      : model(&m), options(validated(o)), defaults(generate::read_defaults(m, on_warning)), batcher(m, o) {
    batcher.report(statistics);
  }

  RequestId submit(std::span<const TokenId> prompt, const GenerateOptions& request, RequestSettings settings);
  bool step(const std::stop_token& stop, std::exception_ptr& failure);
  void deliver(generate::Jobs& ended, std::exception_ptr& failure);

  const Model* model;
  const SchedulerOptions options;
  const generate::CheckpointDefaults defaults;
  generate::Batcher batcher;  // of the thread that steps
  std::atomic<bool> stepping{false};

  mutable std::mutex mutex;  // of what follows
  std::condition_variable_any arrived;
  generate::Jobs inbox;
  std::set<RequestId> cancelled;
  std::map<RequestId, bool> active;  // whose completions have not been delivered; whether they have ended
  std::list<Completion> kept;        // of those without on_done
  RequestId last_id = 0;
  SchedulerStatistics statistics;
};

RequestId Scheduler::State::submit(std::span<const TokenId> prompt, const GenerateOptions& request,
                                   RequestSettings settings) {
  generate::Settings resolved = generate::resolve(request, defaults, *model);
  check_options(request, resolved.options, options.kv_cache_dtype);
  generate::Jobs made;
  generate::Job& job = made.emplace_back(
      *model, std::move(resolved), std::vector<TokenId>(prompt.begin(), prompt.end()), std::move(settings));
  const nn::KvPool& pool = batcher.pool();
  const generate::Room room = room_of(*model, job.settings);
  const std::int64_t tokens = job.most_tokens(room.tokens);
  if (const std::int64_t pages = pool.pages_for(room.virtual_tokens + tokens); pages > pool.total_pages())
    fail<ArgumentError>(kWhere, "the request may need keys and values of ", tokens, " tokens, ", pages,
                        " pages of ", pool.page_bytes(),
                        " bytes, and kv_cache_bytes = ", options.kv_cache_bytes, " allows ",
                        pool.total_pages(), ": it could never run");
  const std::lock_guard lock(mutex);
  const auto waiting = static_cast<std::int64_t>(inbox.size()) + statistics.waiting;
  if (waiting >= options.max_queue)
    fail<BusyError>(kWhere, waiting, " requests are waiting, max_queue is ", options.max_queue);
  job.id = last_id + 1;
  job.completion.front().id = job.id;
  active.emplace_hint(active.end(), job.id, false);
  last_id = job.id;
  ++statistics.submitted;
  inbox.splice(inbox.end(), made);
  arrived.notify_all();
  return last_id;
}

void Scheduler::State::deliver(generate::Jobs& ended, std::exception_ptr& failure) {
  while (!ended.empty()) {
    generate::Jobs one;  // with all that belongs to the request, but for its completion
    one.splice(one.begin(), ended, ended.begin());
    generate::Job& job = one.front();
    Completion& completion = job.completion.front();
    completion.result = std::move(job.sequence.result);
    completion.error = std::move(job.error);
    if (job.on_done) {
      try {
        job.on_done(std::move(completion));
      } catch (...) {
        if (!failure) failure = std::current_exception();
      }
    }
    const RequestId id = job.id;
    std::list<Completion> taken_later;
    if (!job.on_done) taken_later.splice(taken_later.end(), job.completion);
    one.clear();  // what the callbacks hold is gone before anybody sees that the request has ended
    const std::lock_guard lock(mutex);
    active.erase(id);
    ++statistics.finished;
    kept.splice(kept.end(), taken_later);
  }
}

bool Scheduler::State::step(const std::stop_token& stop, std::exception_ptr& failure) {
  if (stepping.exchange(true))
    fail<ArgumentError>(kWhere, "a step is being taken already, expected one at a time");
  struct Guard {
    std::atomic<bool>& flag;
    ~Guard() { flag = false; }
  } const guard{stepping};
  const DefaultFloatEnvironment environment;
  const ThreadLimit limit(options.num_threads);
  generate::Jobs ended, fresh;
  std::set<RequestId> ids;
  {
    const std::lock_guard lock(mutex);
    statistics.waiting += static_cast<std::int64_t>(inbox.size());
    fresh.swap(inbox);
    ids.swap(cancelled);
  }
  batcher.add(fresh);
  batcher.cancel(ids, ended);
  try {
    with_memory_errors(kWhere, [&] { batcher.step(stop, ended); });
  } catch (const CancelledError&) {  // of `stop`: what requests throw is theirs
  } catch (...) {
    failure = std::current_exception();
  }
  {
    const std::lock_guard lock(mutex);
    batcher.report(statistics);
    for (const generate::Job& job : ended) active.find(job.id)->second = true;
  }
  deliver(ended, failure);
  const std::lock_guard lock(mutex);
  return !active.empty();
}

Scheduler::Scheduler(const Model& model, const SchedulerOptions& options,
                     const Generator::WarningCallback& on_warning)
    : state_(
          with_memory_errors(kWhere, [&] { return std::make_unique<State>(model, options, on_warning); })) {}

Scheduler::~Scheduler() = default;

RequestId Scheduler::submit(std::string_view prompt, const GenerateOptions& options,
                            RequestSettings settings) {
  if (!state_->model->has_tokenizer())
    fail<UnsupportedError>("generate", "the checkpoint has no tokenizer: give the prompt as token ids");
  return submit(state_->model->tokenizer().encode_prompt(prompt), options, std::move(settings));
}

RequestId Scheduler::submit(std::span<const TokenId> prompt, const GenerateOptions& options,
                            RequestSettings settings) {
  return with_memory_errors(kWhere, [&] { return state_->submit(prompt, options, std::move(settings)); });
}

bool Scheduler::cancel(RequestId id) {
  return with_memory_errors(kWhere, [&] {
    const std::lock_guard lock(state_->mutex);
    const auto found = state_->active.find(id);
    if (found == state_->active.end() || found->second) return false;
    state_->cancelled.insert(id);
    return true;
  });
}

bool Scheduler::step(std::stop_token stop) {
  std::exception_ptr failure;  // thrown from here, so that a callback's is what it was
  const bool is_left = with_memory_errors(kWhere, [&] { return state_->step(stop, failure); });
  if (failure) std::rethrow_exception(failure);
  return is_left;
}

void Scheduler::run(std::stop_token stop) {
  while (!stop.stop_requested() && step(stop)) {
  }
}

void Scheduler::wait(std::stop_token stop) {
  std::unique_lock lock(state_->mutex);
  state_->arrived.wait(lock, std::move(stop), [this] { return !state_->active.empty(); });
}

bool Scheduler::idle() const {
  const std::lock_guard lock(state_->mutex);
  return state_->active.empty();
}

std::optional<Completion> Scheduler::take(RequestId id) {
  const std::lock_guard lock(state_->mutex);
  if (state_->active.contains(id)) return std::nullopt;
  const auto found = std::find_if(state_->kept.begin(), state_->kept.end(),
                                  [id](const Completion& other) { return other.id == id; });
  if (found == state_->kept.end())
    fail<ArgumentError>(kWhere, "request ", id, " is none whose completion is kept");
  std::optional<Completion> taken(std::move(*found));
  state_->kept.erase(found);
  return taken;
}

SchedulerStatistics Scheduler::statistics() const {
  const std::lock_guard lock(state_->mutex);
  SchedulerStatistics now = state_->statistics;
  now.waiting += static_cast<std::int64_t>(state_->inbox.size());
  return now;
}

}  // namespace gpt
