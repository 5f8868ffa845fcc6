#include "gpt/core/parallel.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

class Parallel : public testing::Test {
 protected:
  ~Parallel() override { set_num_threads(0); }
};

struct Visit {
  std::int64_t begin, end;
  std::thread::id thread;
};

// All ranges that a loop calls its body with, by their begin.
std::vector<Visit> visits(std::int64_t n, std::int64_t grain, Sharing sharing = Sharing::kInterleaved) {
  std::mutex mutex;
  std::vector<Visit> all;
  parallel_for(
      n, grain,
      [&](std::int64_t begin, std::int64_t end) noexcept {
        const std::lock_guard lock(mutex);
        all.push_back({begin, end, std::this_thread::get_id()});
      },
      sharing);
  std::sort(all.begin(), all.end(), [](const Visit& a, const Visit& b) { return a.begin < b.begin; });
  return all;
}

std::size_t threads_in(const std::vector<Visit>& all) {
  std::set<std::thread::id> ids;
  for (const Visit& v : all) ids.insert(v.thread);
  return ids.size();
}

TEST_F(Parallel, CoversEveryIndexOnceInEvenRangesOfAGrainOrMore) {
  for (const int threads : {1, 2, 3, 7, 16}) {
    set_num_threads(threads);
    for (const std::int64_t n : {1, 2, 5, 16, 17, 100, 1001}) {
      for (const std::int64_t grain : {1, 3, 16, 2000})
        for (const Sharing sharing : {Sharing::kInterleaved, Sharing::kStretches}) {
          std::int64_t covered = 0, shortest = n, longest = 0;
          for (const Visit& v : visits(n, grain, sharing)) {
            ASSERT_EQ(v.begin, covered) << n << " in " << grain;
            shortest = std::min(shortest, v.end - v.begin);
            longest = std::max(longest, v.end - v.begin);
            covered = v.end;
          }
          ASSERT_GE(shortest, std::min(n, grain)) << n << " in " << grain;
          ASSERT_LE(longest - shortest, 1) << n << " in " << grain;
          ASSERT_EQ(covered, n);
        }
    }
  }
}

TEST_F(Parallel, AnEmptyRangeCallsNothing) {
  EXPECT_TRUE(visits(0, 1).empty());
  EXPECT_TRUE(visits(-5, 1).empty());
}

TEST_F(Parallel, CoversHugeRanges) {
  set_num_threads(4);
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  std::int64_t covered = 0;
  for (const Visit& v : visits(kHuge, 64)) {
    EXPECT_EQ(v.begin, covered);
    covered = v.end;
  }
  EXPECT_EQ(covered, kHuge);
}

TEST_F(Parallel, UsesNoMoreThreadsThanAllowed) {
  const auto caller = std::this_thread::get_id();
  set_num_threads(3);
  EXPECT_EQ(num_threads(), 3);
  EXPECT_LE(threads_in(visits(1000, 1)), 3u);
  set_num_threads(1);
  const std::vector<Visit> all = visits(1000, 1);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].thread, caller);
}

TEST_F(Parallel, RunsOnSeveralThreadsWhenAllowed) {
  set_num_threads(2);
  // Each half waits for the other: this ends only when they run at the same time.
  std::atomic<int> arrived{0};
  parallel_for(2, 1, [&](std::int64_t begin, std::int64_t end) noexcept {
    if (end - begin == 2) return;  // the system gave one thread only
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
  });
  EXPECT_TRUE(arrived == 2 || arrived == 0);
}

TEST_F(Parallel, NumThreadsIsCheckedAndCanBeReset) {
  const int by_default = num_threads();
  EXPECT_GE(by_default, 1);
  set_num_threads(by_default + 5);
  EXPECT_EQ(num_threads(), by_default + 5);
  test::expect_error<ArgumentError>([] { set_num_threads(-1); }, {"[set_num_threads]", "-1"});
  EXPECT_EQ(num_threads(), by_default + 5);
  set_num_threads(0);
  EXPECT_EQ(num_threads(), by_default);
}

TEST_F(Parallel, LimitsNestAndOnlyTighten) {
  set_num_threads(8);
  {
    const ThreadLimit outer(4);
    EXPECT_EQ(num_threads(), 4);
    {
      const ThreadLimit looser(6);
      EXPECT_EQ(num_threads(), 4);
      const ThreadLimit tighter(2);
      EXPECT_EQ(num_threads(), 2);
      EXPECT_LE(threads_in(visits(100, 1)), 2u);
      const ThreadLimit none(0);
      EXPECT_EQ(num_threads(), 2);
    }
    EXPECT_EQ(num_threads(), 4);
  }
  EXPECT_EQ(num_threads(), 8);
}

TEST_F(Parallel, LimitBindsOnlyItsOwnThread) {
  set_num_threads(8);
  const ThreadLimit limit(2);
  int elsewhere = 0;
  std::thread([&] { elsewhere = num_threads(); }).join();
  EXPECT_EQ(elsewhere, 8);
}

TEST_F(Parallel, NestedLoopsRunInline) {
  set_num_threads(4);
  std::atomic<std::int64_t> sum{0};
  std::atomic<bool> stayed{true};
  parallel_for(8, 1, [&](std::int64_t begin, std::int64_t end) noexcept {
    if (end - begin == 8) return;  // ran alone: nothing is nested
    const auto outer = std::this_thread::get_id();
    for (std::int64_t i = begin; i < end; ++i) {
      parallel_for(100, 1, [&](std::int64_t b, std::int64_t e) noexcept {
        if (std::this_thread::get_id() != outer || b != 0 || e != 100) stayed = false;
        sum += e - b;
      });
    }
  });
  EXPECT_TRUE(stayed);
  EXPECT_TRUE(sum == 800 || sum == 0) << sum;
}

TEST_F(Parallel, ServesSeveralHostThreadsAtOnce) {
  set_num_threads(2);
  std::vector<std::int64_t> sums(4);
  std::vector<std::thread> hosts;
  for (std::int64_t& sum : sums)
    hosts.emplace_back([&sum] {
      for (int i = 0; i < 50; ++i) {
        std::atomic<std::int64_t> total{0};
        parallel_for(1000, 10, [&](std::int64_t begin, std::int64_t end) noexcept { total += end - begin; });
        sum += total;
      }
    });
  for (std::thread& t : hosts) t.join();
  for (const std::int64_t sum : sums) EXPECT_EQ(sum, 50'000);
}

// What an OpenMP runtime does not do.
#if !defined(GPT_TEST_WITH_OPENMP)

// The exit status of a child process that runs `body`, or -1.
template <class Body>
int status_of_child(const Body& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// 0 when a loop covers its range, on four threads or on one.
int run_loop(int threads) {
  set_num_threads(4);
  std::atomic<int> covered{0}, elsewhere{0};
  parallel_for(4, 1, [&, caller = std::this_thread::get_id()](std::int64_t begin, std::int64_t end) noexcept {
    if (std::this_thread::get_id() != caller) ++elsewhere;
    covered += static_cast<int>(end - begin);
    while (threads == 4 && covered < 4) std::this_thread::yield();  // each waits for all others
  });
  return covered == 4 && elsewhere == threads - 1 ? 0 : 1;
}

TEST_F(Parallel, GoesOnAloneWhereTheSystemStartsNoThreads) {
#if defined(GPT_TEST_SANITIZED)
  GTEST_SKIP() << "a sanitizer needs more address space than this test leaves";
#endif
  EXPECT_EQ(status_of_child([] {
              // The child inherits the stacks of the parent's threads, and would use them again: none is as large as this.
              pthread_attr_t large;
              pthread_attr_init(&large);
              pthread_attr_setstacksize(&large, std::size_t{1} << 28);
              pthread_setattr_default_np(&large);
              const rlimit no_room_for_stacks{1, 1};
              if (setrlimit(RLIMIT_AS, &no_room_for_stacks) != 0) return 2;
              return run_loop(1);
            }),
            0);
}

TEST_F(Parallel, AChildOfForkStartsItsOwnThreads) {
#if defined(GPT_TEST_THREAD_SANITIZER)
  GTEST_SKIP() << "ThreadSanitizer lets no child of a process with threads start one";
#endif
  ASSERT_EQ(run_loop(4), 0);
  EXPECT_EQ(status_of_child([] { return run_loop(4); }), 0);
  EXPECT_EQ(run_loop(4), 0);
}

TEST_F(Parallel, UsesTheCpusThatTheProcessMayUse) {
#if defined(__linux__) && !defined(GPT_TEST_SANITIZED)
  // In a new process: the number is asked for once.
  EXPECT_EQ(status_of_child([] {
              cpu_set_t one;
              CPU_ZERO(&one);
              CPU_SET(static_cast<std::size_t>(sched_getcpu()), &one);
              if (sched_setaffinity(0, sizeof one, &one) != 0) return 2;
              execl("/proc/self/exe", "core_test", "--gtest_filter=Parallel.DISABLED_HasOneThread",
                    "--gtest_also_run_disabled_tests", static_cast<char*>(nullptr));
              return 3;
            }),
            0);
#else
  GTEST_SKIP() << "only on Linux, without a sanitizer";
#endif
}

TEST_F(Parallel, DISABLED_HasOneThread) { EXPECT_EQ(num_threads(), 1); }

// Loops of an object that is destroyed after the thread's workers have ended.
struct LoopsAtTheEnd {
  ~LoopsAtTheEnd() {
    if (active && run_loop(1) != 0) _exit(1);
  }
  bool active = false;
};
LoopsAtTheEnd g_at_the_end;

TEST_F(Parallel, RunsLoopsAloneOnceTheThreadsWorkersHaveEnded) {
#if defined(GPT_TEST_SANITIZED)
  GTEST_SKIP() << "a child of a process with threads, which ends by exit()";
#endif
  EXPECT_EQ(status_of_child([] {
              if (run_loop(4) != 0) return 2;
              g_at_the_end.active = true;
              std::exit(0);
            }),
            0);
}

TEST_F(Parallel, WorkersTakeNoSignals) {
  set_num_threads(2);
  std::atomic<int> arrived{0}, open{0};
  parallel_for(2, 1, [&, caller = std::this_thread::get_id()](std::int64_t, std::int64_t) noexcept {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    if (std::this_thread::get_id() == caller) return;
    if (!sigismember(&blocked, SIGUSR1) || !sigismember(&blocked, SIGINT)) ++open;
    if (sigismember(&blocked, SIGSEGV) || sigismember(&blocked, SIGBUS))
      ++open;  // faults are the worker's own
  });
  EXPECT_EQ(open, 0);
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  EXPECT_FALSE(sigismember(&blocked, SIGUSR1));
}

#endif

TEST_F(Parallel, RunsInTheDefaultFloatingPointEnvironmentAndLeavesTheHostsAsItWas) {
  constexpr int kRoundings[] = {FE_UPWARD, FE_TOWARDZERO};
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    for (const int rounding : kRoundings) {
      std::fesetround(rounding);
      std::feclearexcept(FE_ALL_EXCEPT);
      std::atomic<int> others{0};
      parallel_for(1000, 1, [&](std::int64_t, std::int64_t) noexcept {
        if (std::fegetround() != FE_TONEAREST) ++others;
        volatile float zero = 0.0f, one = 1.0f;
        zero = one / zero;
      });
      const int after = std::fegetround();
      const bool raised = std::fetestexcept(FE_DIVBYZERO) != 0;
      std::fesetround(FE_TONEAREST);
      EXPECT_EQ(others, 0) << threads;
      EXPECT_EQ(after, rounding) << threads;
      EXPECT_FALSE(raised) << threads;
    }
  }
}

#if defined(__SSE__)
TEST_F(Parallel, KeepsSubnormalNumbersWhereTheHostFlushesThem) {
  constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  const unsigned host = __builtin_ia32_stmxcsr();
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    __builtin_ia32_ldmxcsr(host | kFlushToZero | kDenormalsAreZero);
    std::atomic<int> flushed{0};
    parallel_for(1000, 1, [&](std::int64_t, std::int64_t) noexcept {
      volatile float small = 1e-40f, half = 0.5f;
      if (small * half == 0.0f) ++flushed;
    });
    const unsigned after = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(host);
    EXPECT_EQ(flushed, 0) << threads;
    EXPECT_EQ(after & (kFlushToZero | kDenormalsAreZero), kFlushToZero | kDenormalsAreZero) << threads;
  }
}
#endif

}  // namespace
}  // namespace gpt
