// What this machine can do at most: the roofline of the benchmarks, which start this program as a process of its own so
// that its arrays are not counted as theirs.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "bench/peaks/loops.h"

namespace gpt::bench::peaks {
namespace {

constexpr std::size_t kMebi = std::size_t{1} << 20;
std::size_t stream_bytes = 512 * kMebi;  // far beyond every cache
constexpr std::size_t kCacheBytes = std::size_t{8}
                                    << 20;  // all threads together: in the last cache, not in the first
double measured_seconds = 0.04;             // of one measurement
const Loops* loops = &best_loops();
constexpr double kWarmUpSeconds = 0.005;  // the threads of the caller may spin for a moment; the clock rises

struct Kind {
  std::string_view name, unit, meaning;
};
constexpr Kind kKinds[] = {
    {"fma", "GFLOP/s", "float32 multiply-adds"},
    {"int8", "GOP/s", "8-bit integer products, 32-bit sums"},
    {"int8_sum16", "GOP/s", "8-bit integer products, 16-bit sums"},
    {"int16", "GOP/s", "16-bit integer products, 32-bit sums"},
    {"int8_tiles", "GOP/s", "8-bit integer products on matrix units, 32-bit sums"},
    {"read_4k", "GB/s", "memory read, pages of 4 KiB"},
    {"read_2m", "GB/s", "memory read, pages of 2 MiB"},
    {"read_cache", "GB/s", "read of 8 MiB in the last cache"},
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// body(thread) on all threads at once: the seconds from the first start to the last end.
template <class Body>
double run_on(int threads, const Body& body) {
  std::vector<double> start(static_cast<std::size_t>(threads)), end(start);
  std::atomic<int> waiting{threads};
  const auto run = [&](std::size_t thread) {
    for (--waiting; waiting > 0;) std::this_thread::yield();
    start[thread] = now();
    body(thread);
    end[thread] = now();
  };
  std::vector<std::thread> others;
  for (std::size_t t = 1; t < start.size(); ++t) others.emplace_back(run, t);
  run(0);
  for (std::thread& t : others) t.join();
  return *std::max_element(end.begin(), end.end()) - *std::min_element(start.begin(), start.end());
}

double compute_rate(const ComputeLoop& loop, int threads) {
  if (loop.run == nullptr) return 0;
  const auto run = [&](std::uint64_t iterations) {
    return run_on(threads, [&](std::size_t) { loop.run(iterations); });
  };
  constexpr std::uint64_t kProbe = 100'000;
  const double probe = std::max(run(kProbe), 1e-9);
  const auto iterations_in = [&](double seconds) {
    return std::max<std::uint64_t>(1,
                                   static_cast<std::uint64_t>(static_cast<double>(kProbe) * seconds / probe));
  };
  run(iterations_in(kWarmUpSeconds));
  const std::uint64_t iterations = iterations_in(measured_seconds);
  return static_cast<double>(iterations) * loop.ops * threads / run(iterations) * 1e-9;
}

// An array in pages of one size, each thread's part touched by that thread.
class Array {
 public:
  Array(std::size_t bytes, bool huge, int threads)
      : part_(bytes / static_cast<std::size_t>(threads) / kUnit * kUnit) {
    mapped_ = part_ * static_cast<std::size_t>(threads) + kHugePage;
    void* const memory = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    map_ = static_cast<std::byte*>(memory);
    start_ = map_ + (kHugePage - reinterpret_cast<std::uintptr_t>(map_) % kHugePage) % kHugePage;
#ifdef MADV_HUGEPAGE
    ::madvise(map_, mapped_, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#endif
    run_on(threads, [&](std::size_t t) { std::memset(start_ + t * part_, 1, part_); });
  }
  ~Array() {
    if (map_ != nullptr) ::munmap(map_, mapped_);
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  explicit operator bool() const { return map_ != nullptr && part_ > 0; }
  const std::byte* part(std::size_t thread) const { return start_ + thread * part_; }
  std::size_t part_bytes() const { return part_; }

 private:
  static constexpr std::size_t kUnit = 4096, kHugePage = 2 * kMebi;
  std::size_t part_, mapped_ = 0;
  std::byte* map_ = nullptr;
  std::byte* start_ = nullptr;
};

double read_rate(const Array& array, int threads) {
  if (!array) return 0;
  const auto pass = [&](int times) {
    return run_on(threads, [&](std::size_t t) {
      for (int i = 0; i < times; ++i) loops->read(array.part(t), array.part_bytes());
    });
  };
  pass(1);
  const double probe = pass(1);
  const int times = std::max(1, static_cast<int>(measured_seconds / std::max(probe, 1e-9)));
  const double bytes = static_cast<double>(array.part_bytes()) * threads;
  return times * bytes / pass(times) * 1e-9;
}

// Arrays are kept from one request to the next.
double measure(std::string_view kind, int threads) {
  if (kind == "fma") return compute_rate(loops->fma, threads);
  if (kind == "int8") return compute_rate(loops->int8, threads);
  if (kind == "int8_sum16") return compute_rate(loops->int8_sum16, threads);
  if (kind == "int16") return compute_rate(loops->int16, threads);
  if (kind == "int8_tiles") return compute_rate(loops->int8_tiles, threads);
  static std::map<std::pair<std::string, int>, Array> arrays;
  const auto key = std::pair(std::string(kind), threads);
  if (!arrays.contains(key)) {
    std::erase_if(arrays, [&](const auto& item) { return item.first.second != threads; });
    const bool cache = kind == "read_cache";
    arrays.try_emplace(key, cache ? kCacheBytes : stream_bytes, kind != "read_4k", threads);
  }
  return read_rate(arrays.at(key), threads);
}

bool known(std::string_view kind) {
  return std::any_of(std::begin(kKinds), std::end(kKinds), [&](const Kind& k) { return k.name == kind; });
}

// Reads lines "KIND THREADS", answers each with a number, 0 for what cannot be measured.
int serve() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string kind;
    int threads = 0;
    words >> kind >> threads;
    std::cout << (known(kind) && threads > 0 ? measure(kind, threads) : 0.0) << std::endl;
  }
  return 0;
}

int print_table(int threads, int samples, bool json) {
  if (json)
    std::cout << "{\"isa\": \"" << loops->isa << "\", \"threads\": " << threads;
  else
    std::cout << loops->isa << ", threads: " << threads << ", medians of " << samples << " [min .. max]\n";
  for (const Kind& kind : kKinds) {
    if (kind.name == "int8_tiles" && loops->int8_tiles.run == nullptr) continue;
    std::vector<double> rates;
    for (int i = 0; i < samples; ++i) rates.push_back(measure(kind.name, threads));
    std::sort(rates.begin(), rates.end());
    const double median = rates[rates.size() / 2];
    if (json)
      std::cout << ", \"" << kind.name << "\": " << median;
    else
      std::printf("%-11s %7.1f %-7s [%.1f .. %.1f]  %s\n", kind.name.data(), median, kind.unit.data(),
                  rates.front(), rates.back(), kind.meaning.data());
    std::fflush(stdout);
  }
  if (json) std::cout << "}\n";
  return 0;
}

constexpr std::string_view kHelp =
    R"(bench_peaks [--threads=N] [--samples=N] [--json]
bench_peaks --serve [--smoke]

Measures what this machine can do at most: float32 multiply-adds, integer products (on matrix units, too, where there are
some), reading memory in pages of 4 KiB and of 2 MiB, reading the last cache. Prints medians.

  --threads=N  default: the CPUs
  --samples=N  measurements of each (default 9)
  --json       one object instead of a table
  --portable   what the compiler makes of vectors of 16 bytes, instead of the best instructions of this CPU
  --smoke      little memory and time, to see that it works; the numbers mean nothing
  --serve      answer lines "KIND THREADS" on stdin with one number each; the benchmarks do this

Example: bench_peaks --threads=1
)";

int run(int argc, char** argv) {
  int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency())), samples = 9;
  bool json = false, serving = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--help" || option == "-h") {
      std::cout << kHelp;
      return 0;
    }
    const auto count = [&](std::string_view name) {
      return option.starts_with(name) ? std::atoi(argv[i] + name.size()) : -1;
    };
    const int new_threads = count("--threads="), new_samples = count("--samples=");
    if (option == "--json") {
      json = true;
    } else if (option == "--serve") {
      serving = true;
    } else if (option == "--portable") {
      loops = &kPortableLoops;
    } else if (option == "--smoke") {
      stream_bytes = 4 * kMebi;
      measured_seconds = 0.001;
    } else if (new_threads > 0) {
      threads = new_threads;
    } else if (new_samples > 0) {
      samples = new_samples;
    } else {
      std::cerr << "error: bad option " << option << '\n' << kHelp;
      return 2;
    }
  }
  return serving ? serve() : print_table(threads, samples, json);
}

}  // namespace
}  // namespace gpt::bench::peaks

int main(int argc, char** argv) { return gpt::bench::peaks::run(argc, argv); }
