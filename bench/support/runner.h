// Runs benchmarks by their names under Google Benchmark, with the machine's peaks measured beside the work.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bench/support/name.h"

namespace gpt::bench {

using Counters = std::map<std::string, double>;

/// One piece of work to be timed, and what counts of it. Zero: does not count, no fraction of that peak.
struct Work {
  std::function<void()> run;
  std::function<void()> prepare;  // before every run, not timed; may be empty

  std::string_view rate;  // the counter that says how fast: "gflops", "tok_per_s", "gb_per_s", "mb_per_s"
  double amount = 0;      // of one run, in that counter's unit times seconds

  double flops = 0;              // all operations, as if of floats: frac_fma_peak
  double int16_ops = 0;          // of those, products as 16-bit integers: frac_int16_peak
  double int8_ops = 0;           // as 8-bit integers, summed in 16 bits (VNNI: 32): frac_int8_sum16_peak
  double int8_tile_ops = 0;      // products of bytes on matrix units instead: frac_int8_tiles_peak
  double read_bytes = 0;         // that must come from memory: frac_read_peak
  double cache_bytes = 0;        // that are read or written where the last cache holds them: frac_cache_peak
  const void* memory = nullptr;  // where most of read_bytes lie: the peak is that of the same size of pages

  /// Further counters, from the seconds of the runs; may be empty.
  std::function<void(const std::vector<double>& seconds, Counters& counters)> more;
};

/// Benchmarks whose names differ in values alone.
struct Family {
  std::string name;               // "BM_Matmul"
  std::vector<std::string> keys;  // of the parts behind it: {"", "M", "N", "K", "isa", "threads"}
  /// What to run for a name with these keys; throws ArgumentError for a value that cannot be.
  std::function<Work(const Name&)> make;
};

struct Option {
  std::string name, help;  // "--text=FILE"
  std::string* value;
};

struct Program {
  std::string about;  // for --help, with an example
  std::vector<Family> families;
  std::vector<std::string> names;  // those run without a filter
  std::vector<Option> options = {};
};

/// The whole of a benchmark program's main. The program runs `names`, and any other name of its families that
/// --benchmark_filter spells out.
int run(int argc, char** argv, const std::function<Program()>& program);

/// --smoke: small networks and few runs, to see that everything works. The numbers mean nothing.
bool smoke();

double median(std::vector<double> values);  // 0 for none

/// The wall-clock time of f().
double seconds_of(const std::function<void()>& f);

/// 1, 2, 4, ... and the number of CPUs.
std::vector<int> thread_counts();

struct Kept {
  std::string key;
  std::shared_ptr<void> thing;
};
Kept& kept();

/// What is expensive to make and of use to the next benchmark too, under a key that also says its type. One thing is
/// kept at a time, and it is let go before the next is made, so that none takes memory while another is measured.
template <class T, class Make>
std::shared_ptr<T> keep(const std::string& key, Make&& make) {
  Kept& slot = kept();
  if (slot.key != key || slot.thing == nullptr) {
    slot = {};
    slot = {key, std::make_shared<T>(make())};
  }
  return std::static_pointer_cast<T>(slot.thing);
}

}  // namespace gpt::bench
