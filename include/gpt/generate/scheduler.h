// Many generations at once: requests that come and go while others run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string_view>
#include <vector>

#include "gpt/core/dtype.h"
#include "gpt/core/token.h"
#include "gpt/generate/generate_options.h"
#include "gpt/generate/generator.h"
#include "gpt/models/model.h"

namespace gpt {

struct SchedulerOptions {
  /// Requests that run at once.
  std::int64_t max_batch = 16;
  /// Tokens that one step computes at most: the newest of every request that runs, then parts of prompts. Not below
  /// max_batch.
  std::int64_t max_tokens_per_step = 512;
  /// Requests that wait, those that gave up their place for others included; while there are as many, new ones are refused.
  std::int64_t max_queue = 1024;
  /// Memory for keys and values. 0: as much as max_batch requests need that fill the context.
  std::size_t kv_cache_bytes = 0;
  /// Tokens of a page, a multiple of 16: memory is given out, and shared, by pages.
  std::int64_t page_tokens = 16;
  /// What keys and values are held as; requests must ask for the same.
  DType kv_cache_dtype = DType::f32;
  /// Keep the pages of what has been computed, as long as nobody needs the memory, for requests that begin with the same
  /// tokens.
  bool prefix_cache = true;
  /// Threads that a step may use at most; 0: as many as gpt::num_threads() says.
  int num_threads = 0;

  /// Checks what can be judged without a model. Throws ArgumentError naming the option.
  void validate() const;
};

/// A number of its own for every request of a scheduler, larger for a later one.
using RequestId = std::uint64_t;

/// What became of a request.
struct Completion {
  RequestId id = 0;
  GenerateResult result;  // with an error, what there was until then
  std::exception_ptr
      error;  // of this request alone: what Generator::generate would have thrown, or a callback did

  /// The result, or throws the error.
  GenerateResult& get() & {
    if (error) std::rethrow_exception(error);
    return result;
  }
};

/// How a request is run, beside its options.
struct RequestSettings {
  /// Requests of higher priority run first, and take the places and the memory of those of lower ones.
  int priority = 0;
  /// Called by the thread that steps when the request has ended. Without it the scheduler keeps the completion for take().
  std::function<void(Completion completion)> on_done = {};
};

struct SchedulerStatistics {
  std::int64_t waiting = 0;  // now
  std::int64_t running = 0;
  std::int64_t submitted = 0;  // since the beginning, as all below
  std::int64_t finished = 0;   // cancelled and failed ones included; after on_done has been called
  std::int64_t steps = 0;
  std::int64_t computed_tokens = 0;   // fed to the network, again after a preemption
  std::int64_t generated_tokens = 0;  // chosen
  std::int64_t preemptions = 0;       // requests that gave up their memory, to be computed again later
  std::int64_t prefix_hits = 0;       // requests whose first tokens had been computed
  std::int64_t prefix_hit_tokens = 0;
  std::int64_t pages = 0;         // in use now; those that are kept for their prefixes alone included
  std::int64_t prefix_pages = 0;  // kept for their prefixes, whether in use or not
  std::int64_t peak_pages = 0;
  std::int64_t total_pages = 0;  // what kv_cache_bytes allows
  std::size_t page_bytes = 0;
};

/// Runs requests of one model in ragged batches over a paged cache (continuous batching: Yu et al., "Orca", OSDI 2022; paged
/// caches: Kwon et al., arXiv 2309.06180). In every step, each running request gets its next token, and what is left of
/// max_tokens_per_step goes to prompts, in parts where they are long. Order is by priority, then by age. When pages run
/// out, or the system has no memory for one, prefixes nobody uses are forgotten, the least recently used first; then the
/// running request of the lowest priority, and of those the youngest, gives up its pages, waits, and is computed again up to
/// where it was. To begin, a request takes place and pages of those of lower priority alone, and only if that is enough.
///
/// A request's result is, timing apart, to the bit what Generator::generate gives for the same prompt and options, whatever
/// runs beside it. The model must outlive the scheduler.
///
/// submit, cancel, take, wait, idle and statistics may be called from any thread at any time, from callbacks too; one
/// thread at a time steps. Options' functions (on_token, logits_processor, prefix_allowed_tokens_fn) and on_done are called
/// by that thread, in the default floating-point environment. The scheduler may not be destroyed while a thread is in one of
/// its functions, which those that call back are.
class Scheduler {
 public:
  /// Takes no memory for keys and values yet. Throws ArgumentError as SchedulerOptions::validate, and where kv_cache_bytes is
  /// less than a page takes; as Generator's constructor.
  explicit Scheduler(const Model& model, const SchedulerOptions& options = {},
                     const Generator::WarningCallback& on_warning = {});
  explicit Scheduler(Model&&, const SchedulerOptions& = {}, const Generator::WarningCallback& = {}) = delete;
  ~Scheduler();  // requests that have not ended are dropped without a call
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// Queues a request; nothing is computed. The options' stop token ends it between two steps. A prompt for several
  /// sequences is several requests, with the streams stream, stream + 1, ..., which share the prompt's pages. Throws what
  /// Generator::generate does before it computes; ArgumentError when the request could never have the pages it needs, or
  /// asks for another kv_cache_dtype than the scheduler's or for num_threads; UnsupportedError with num_beams,
  /// penalty_alpha, num_return_sequences, guidance_scale, assistant_model and prompt_lookup_num_tokens; BusyError when
  /// max_queue requests wait.
  RequestId submit(std::string_view prompt, const GenerateOptions& options = {},
                   RequestSettings settings = {});
  RequestId submit(std::span<const TokenId> prompt, const GenerateOptions& options = {},
                   RequestSettings settings = {});

  /// Ends a request at the beginning of the next step, with what it has and FinishReason::kCancelled, unless a step that is
  /// being taken brings its end. False when it has ended already, also where on_done has not been called yet, or there is none.
  bool cancel(RequestId id);

  /// Computes one step, and calls back what it brought. True while requests are left. `stop` is asked before every matrix
  /// product: then no request gets any further, though some may have begun to run, and others given up their pages. An error
  /// of one request ends that request alone. Throws MemoryError when there is none for the step although everything is
  /// forgotten that is kept for its prefix alone; it may be tried again. Throws what on_done throws, after all others were
  /// called; ArgumentError when another thread, or a callback of this one, is in a step.
  bool step(std::stop_token stop = {});
  /// Steps until no request is left or `stop` says so.
  void run(std::stop_token stop = {});
  /// Returns when a request is there to step for, or `stop` says so.
  void wait(std::stop_token stop = {});
  /// Whether none is: all have ended, and their on_done has been called.
  bool idle() const;

  /// Takes the completion of a request without on_done, once; nothing while it has not ended. Throws ArgumentError when there
  /// is no such request.
  std::optional<Completion> take(RequestId id);

  SchedulerStatistics statistics() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gpt
