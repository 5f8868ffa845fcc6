// parallel_for on std::thread, the default: it goes on with fewer threads where the system allows no more, and it
// survives fork().
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "core/parallel_state.h"
#include "gpt/core/parallel.h"

namespace gpt::detail {
namespace {

thread_local bool t_in_parallel = false;

int count_cpus() noexcept {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
#endif
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

/// Those that the process might use when it first asked. Not a static of the function: another thread's fork() while it is
/// initialized would leave it so in the child for ever.
int cpus() noexcept {
  static std::atomic<int> known{0};
  if (known.load(std::memory_order_relaxed) == 0) known.store(count_cpus(), std::memory_order_relaxed);
  return known.load(std::memory_order_relaxed);
}

void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  asm volatile("pause");
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Blocks signals for this thread, and for those that it starts, while it lives: a host's handlers run on its own threads. Not
/// those of faults, which belong to the thread that makes them.
class NoSignals {
 public:
  NoSignals() noexcept {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) sigdelset(&all, fault);
    pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  sigset_t before_;
};

/// Workers of one thread of the host, which alone starts loops on them. A worker that has nothing to do looks for the
/// next loop for a moment and then sleeps.
class Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    signal(kStop);
    for (std::thread& t : workers_) t.join();
  }

  void run(std::int64_t n, std::int64_t grain, int threads, Sharing sharing, ParallelBody body,
           void* context) noexcept {
    threads = 1 + grow_to(threads - 1);
    body_ = body;
    context_ = context;
    spins_ = threads <= cpus() ? kSpins : 0;
    pieces_.reset(n, pieces_of(n, grain, threads), threads, sharing);
    pending_.store(threads - 1, std::memory_order_relaxed);
    if (threads > 1) signal(threads);
    run_pieces(0);
    const auto all_done = [this] { return pending_.load(std::memory_order_acquire) == 0; };
    if (spin(all_done)) return;
    std::unique_lock lock(mutex_);
    done_.wait(lock, all_done);
  }

 private:
  static constexpr int kSpins =
      10000;  // 0.1 to 0.4 ms; a gap between two loops of a forward pass is some microseconds
  static constexpr int kThreadBits = 16, kStop = (1 << kThreadBits) - 1;

  /// Makes sure of `wanted` workers where the system allows it; returns how many can take part.
  int grow_to(int wanted) noexcept {
    wanted = std::min(wanted, kStop - 2);
    if (refused_ > 0) {  // asking again in every loop would cost more than the loop
      --refused_;
      wanted = std::min(wanted, static_cast<int>(workers_.size()));
    }
    if (static_cast<int>(workers_.size()) < wanted) {
      const NoSignals inherited;
      try {
        while (static_cast<int>(workers_.size()) < wanted) {
          const int index = static_cast<int>(workers_.size()) + 1;
          workers_.emplace_back([this, index, seen = signal_.load()] { work(index, seen); });
        }
      } catch (const std::exception&) {  // no more threads or memory: go on with those there are
        refused_ = kLoopsAfterRefusal;
      }
    }
    return std::min(wanted, static_cast<int>(workers_.size()));
  }

  /// Starts a loop on the workers below `threads`, or ends all.
  void signal(int threads) noexcept {
    {
      const std::lock_guard lock(mutex_);  // a worker between its last look and its sleep must not miss it
      const std::int64_t loop = (signal_.load(std::memory_order_relaxed) >> kThreadBits) + 1;
      signal_.store(loop << kThreadBits | threads, std::memory_order_release);
    }
    work_.notify_all();
  }

  template <class Condition>
  bool spin(const Condition& holds) const noexcept {
    for (int i = spins_.load(std::memory_order_relaxed); i > 0; --i, pause())
      if (holds()) return true;
    return holds();
  }

  void work(int index, std::int64_t seen) noexcept {
    t_in_parallel = true;
    for (;;) {
      // The fields of a loop are read only by the workers that take part in it, and these it waits for.
      const auto called = [&] {
        const std::int64_t now = signal_.load(std::memory_order_acquire);
        return now != seen && index < (now & kStop);
      };
      if (!spin(called)) {
        std::unique_lock lock(mutex_);
        work_.wait(lock, called);
      }
      seen = signal_.load(std::memory_order_relaxed);
      if ((seen & kStop) == kStop) return;
      run_pieces(index);
      if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        { const std::lock_guard lock(mutex_); }
        done_.notify_one();
      }
    }
  }

  void run_pieces(int thread) noexcept {
    const DefaultFloatEnvironment environment;
    pieces_.run(thread,
                [this](std::int64_t begin, std::int64_t end) noexcept { body_(context_, begin, end); });
  }

  static constexpr int kLoopsAfterRefusal = 1000;

  std::vector<std::thread> workers_;
  int refused_ = 0;  // loops until another worker is asked for
  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::atomic<std::int64_t> signal_{0};  // the number of the loop, and how many threads it has
  std::atomic<int> pending_{0};          // workers that have not finished the loop
  std::atomic<int> spins_{kSpins};
  ParallelBody body_ = nullptr;
  void* context_ = nullptr;
  Pieces pieces_;
};

std::atomic<int> g_forks{0};  // of this process and those it comes from
// Registered when the library is loaded. Where that fails no pool is made.
const bool g_forks_are_counted =
    pthread_atfork(nullptr, nullptr, [] { g_forks.fetch_add(1, std::memory_order_relaxed); }) == 0;

/// Set when this thread's pool has ended: destructors of its other objects, and those of the process, may still run loops.
thread_local bool t_pool_ended = false;

/// The pool of a thread. A child of fork() has none of its parent's workers: it leaves the pool behind and makes a
/// new one.
class OwnPool {
 public:
  OwnPool() = default;
  OwnPool(const OwnPool&) = delete;
  OwnPool& operator=(const OwnPool&) = delete;
  ~OwnPool() {
    leave_behind_after_fork();
    t_pool_ended = true;
  }

  /// Null when there is no memory for one.
  Pool* get() noexcept {
    if (!g_forks_are_counted) return nullptr;
    leave_behind_after_fork();
    if (!pool_) pool_.reset(new (std::nothrow) Pool);
    return pool_.get();
  }

 private:
  void leave_behind_after_fork() noexcept {
    if (forks_ != g_forks.load(std::memory_order_relaxed)) static_cast<void>(pool_.release());
    forks_ = g_forks.load(std::memory_order_relaxed);
  }

  std::unique_ptr<Pool> pool_;
  int forks_ = g_forks.load(std::memory_order_relaxed);
};

/// The pool for a loop of this thread, or null: then the loop runs inline.
Pool* own_pool() noexcept {
  if (t_pool_ended) return nullptr;
  thread_local OwnPool own;
  return own.get();
}

}  // namespace

int default_num_threads() noexcept { return cpus(); }

void parallel_for(std::int64_t n, std::int64_t grain, Sharing sharing, ParallelBody body,
                  void* context) noexcept {
  if (n <= 0) return;
  const int threads = t_in_parallel ? 1 : useful_threads(n, grain, num_threads());
  Pool* const pool = threads > 1 ? own_pool() : nullptr;
  if (!pool) {
    const DefaultFloatEnvironment environment;
    return body(context, 0, n);
  }
  t_in_parallel = true;
  pool->run(n, grain, threads, sharing, body, context);
  t_in_parallel = false;
}

}  // namespace gpt::detail
