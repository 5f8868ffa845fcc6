// parallel_for on a pool of std::thread, for hosts that cannot have an OpenMP runtime (and for
// ThreadSanitizer, which does not understand libgomp's synchronization).
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/parallel_state.h"
#include "gpt/core/parallel.h"

namespace gpt::detail {
namespace {

thread_local bool t_in_parallel = false;

void run_inline(std::int64_t n, ParallelBody body, void* context) noexcept {
  const DefaultFloatEnvironment environment;
  body(context, 0, n);
}

/// Workers sleep on a condition variable and never spin. One loop runs at a time; a loop that finds the pool
/// taken by another thread of the host runs inline instead of waiting.
class Pool {
 public:
  static Pool& instance() {
    static Pool pool;
    return pool;
  }

  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    for (std::thread& t : workers_) t.join();
  }

  void run(std::int64_t n, std::int64_t grain, int threads, Sharing sharing, ParallelBody body,
           void* context) noexcept {
    std::unique_lock turn(turn_, std::try_to_lock);
    if (!turn.owns_lock()) return run_inline(n, body, context);
    threads = 1 + grow_to(threads - 1);
    {
      const std::lock_guard lock(mutex_);
      job_ = {threads, body, context};
      pieces_.reset(n, pieces_of(n, grain, threads), threads, sharing);
      pending_ = threads - 1;
      ++generation_;
    }
    work_.notify_all();
    run_pieces(0, job_);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return pending_ == 0; });
  }

 private:
  struct Job {
    int threads = 0;
    ParallelBody body = nullptr;
    void* context = nullptr;
  };

  void run_pieces(int thread, const Job& job) noexcept {
    const DefaultFloatEnvironment environment;
    t_in_parallel = true;
    pieces_.run(thread,
                [&job](std::int64_t begin, std::int64_t end) noexcept { job.body(job.context, begin, end); });
    t_in_parallel = false;
  }

  /// Makes sure of `wanted` workers where the system allows it; returns how many can take part.
  int grow_to(int wanted) noexcept {
    try {
      while (static_cast<int>(workers_.size()) < wanted) {
        const int index = static_cast<int>(workers_.size()) + 1;
        workers_.emplace_back([this, index, seen = generation_] { work(index, seen); });
      }
    } catch (const std::exception&) {  // no more threads or memory: go on with those there are
    }
    return std::min(wanted, static_cast<int>(workers_.size()));
  }

  void work(int index, std::uint64_t seen) noexcept {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_.wait(lock, [&] { return stopping_ || generation_ != seen; });
      if (stopping_) return;
      seen = generation_;
      if (index >= job_.threads) continue;
      const Job job = job_;
      lock.unlock();
      run_pieces(index, job);
      lock.lock();
      if (--pending_ == 0) done_.notify_one();
    }
  }

  std::mutex turn_;  // held by the thread whose loop is running; also guards workers_
  std::vector<std::thread> workers_;
  std::mutex mutex_;  // guards all below
  std::condition_variable work_, done_;
  Job job_;
  Pieces pieces_;
  std::uint64_t generation_ = 0;  // of job_; written only by the holder of turn_
  int pending_ = 0;
  bool stopping_ = false;
};

}  // namespace

int default_num_threads() noexcept {
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

void parallel_for(std::int64_t n, std::int64_t grain, Sharing sharing, ParallelBody body,
                  void* context) noexcept {
  if (n <= 0) return;
  const int threads = t_in_parallel ? 1 : useful_threads(n, grain, num_threads());
  if (threads <= 1) return run_inline(n, body, context);
  Pool::instance().run(n, grain, threads, sharing, body, context);
}

}  // namespace gpt::detail
