#include "bench/support/runner.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <optional>
#include <set>
#include <thread>

#include "bench/support/memory.h"
#include "bench/support/peaks.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/ops/isa.h"

namespace gpt::bench {
namespace {

struct Settings {
  int pairs = 7;
  bool smoke = false;
  double min_time = 0.5;  // --benchmark_min_time: Google Benchmark accepts a run of so many seconds
  std::string peaks;      // the program; empty: no fractions
};
Settings settings;
std::optional<PeakProcess> peak_process;
bool any_failed = false;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Seconds of `runs` runs.
double time_runs(const Work& work, std::int64_t runs) {
  if (!work.prepare) {
    const double start = now();
    for (std::int64_t i = 0; i < runs; ++i) work.run();
    return now() - start;
  }
  double seconds = 0;
  for (std::int64_t i = 0; i < runs; ++i) {
    work.prepare();
    const double start = now();
    work.run();
    seconds += now() - start;
  }
  return seconds;
}

// The threads have slept while the peaks were measured, and may wake up on the same core: the first milliseconds of work are
// slow. A sample that is long enough does not notice.
void warm_up(const Work& work, double sample_seconds) {
  constexpr double kLong = 0.25, kEnough = 0.02;
  if (sample_seconds >= kLong || settings.smoke) return;
  for (const double start = now(); now() - start < kEnough;) time_runs(work, 1);
}

// How many runs take `seconds`; at least 1. The first run finds cold caches and is not counted.
std::int64_t runs_in(double seconds, const Work& work) {
  if (time_runs(work, 1) >= seconds) return 1;
  for (std::int64_t runs = 1;; runs *= 4) {
    const double taken = time_runs(work, runs);
    if (taken * 4 >= seconds || settings.smoke)
      return std::max<std::int64_t>(
          1, static_cast<std::int64_t>(static_cast<double>(runs) * seconds / std::max(taken, 1e-9) + 0.5));
  }
}

// A limit, how much of the work falls under it, and the samples.
struct Limit {
  Peak peak;
  std::string name;  // "fma": frac_fma_peak, peak_fma
  double amount;     // of one run, in the peak's unit times seconds
  std::vector<double> fractions, peaks;
};

std::vector<Limit> limits_of(const Work& work) {
  std::vector<Limit> limits;
  const auto add = [&](Peak peak, const char* name, double amount) {
    if (amount > 0) limits.push_back({peak, name, amount * 1e-9, {}, {}});
  };
  add(Peak::kFma, "fma", work.flops);
  add(Peak::kInt16, "int16", work.int16_ops);
  add(Peak::kInt8Sum16, "int8_sum16", work.int8_ops);
  add(Peak::kInt8Tiles, "int8_tiles", work.int8_tile_ops);
  add(on_huge_pages(work.memory) ? Peak::kRead2m : Peak::kRead4k, "read", work.read_bytes);
  add(Peak::kReadCache, "cache", work.cache_bytes);
  return limits;
}

void report(benchmark::State& state, const Work& work, const std::vector<double>& seconds,
            const std::vector<Limit>& limits) {
  const double middle = median(seconds);
  state.counters[std::string(work.rate)] = work.amount / middle;
  const auto [min, max] = std::minmax_element(seconds.begin(), seconds.end());
  state.counters["spread"] = (*max - *min) / middle;
  std::string label;
  for (const Limit& limit : limits) {
    if (limit.fractions.empty()) continue;
    state.counters["frac_" + limit.name + "_peak"] = median(limit.fractions);
    state.counters["peak_" + limit.name] = median(limit.peaks);
    if (limit.name == "read") label = limit.peak == Peak::kRead2m ? "pages: 2 MiB" : "pages: 4 KiB";
  }
  if (work.read_bytes > 0 && work.flops > 0) state.counters["ops_per_byte"] = work.flops / work.read_bytes;
  if (const auto peak = peak_rss_mib()) state.counters["peak_rss_mb"] = *peak;
  if (work.more) {
    Counters more;
    work.more(seconds, more);
    for (const auto& [name, value] : more) state.counters[name] = value;
  }
  state.SetLabel(label);
}

// The work of the benchmark that ran last: Google Benchmark calls a function several times.
struct Current {
  std::string name;
  std::optional<Work> work;
  std::int64_t runs = 0;  // of a sample: all repetitions must have the same number of iterations
} current;

void run_benchmark(benchmark::State& state, const Family& family, const Name& name) {
  set_num_threads(name.threads());
  if (num_threads() != name.threads() && !settings.smoke)
    fail<ArgumentError>(name.text(), "only ", num_threads(), " threads can run at once here");
  if (current.name != name.text()) {
    current = {};
    current = {name.text(), family.make(name)};
    reset_peak_rss();
    current.runs = runs_in(settings.smoke ? 0 : 1.2 * settings.min_time / settings.pairs, *current.work);
  }
  const Work& work = *current.work;
  const std::int64_t runs = current.runs;
  std::vector<Limit> limits = limits_of(work);
  std::vector<double> samples;
  // One batch is the whole measurement. The timer of Google Benchmark stands still while the peaks are measured and
  // while the work is prepared, as far as that matters: its time is wall-clock time of the runs.
  while (state.KeepRunningBatch(settings.pairs * runs)) {
    for (int pair = 0; pair < settings.pairs; ++pair) {
      state.PauseTiming();
      warm_up(work, samples.empty() ? 0 : samples.back() * static_cast<double>(runs));
      state.ResumeTiming();
      const double seconds = time_runs(work, runs) / static_cast<double>(runs);
      state.PauseTiming();
      samples.push_back(seconds);
      for (Limit& l : limits)
        if (const auto peak = peak_process->measure(l.peak, name.threads())) {
          l.fractions.push_back(l.amount / seconds / *peak);
          l.peaks.push_back(*peak);
        }
      // The peak that bounds is measured right after the work, the others after it.
      if (pair == 0)
        std::stable_sort(limits.begin(), limits.end(), [](const Limit& a, const Limit& b) {
          return median(a.fractions) > median(b.fractions);
        });
      state.ResumeTiming();
    }
  }
  report(state, work, samples, limits);
}

bool has_shape_of(const Name& name, const Family& family) {
  return name.family() == family.name && name.keys() == family.keys;
}

void register_benchmark(const Program& program, const std::string& text) {
  const Name name(text);
  const auto family = std::find_if(program.families.begin(), program.families.end(),
                                   [&](const Family& f) { return has_shape_of(name, f); });
  if (family == program.families.end()) return;
  // No UseRealTime(), which would append /real_time to the name: the times reported are wall-clock anyway, see above.
  benchmark::RegisterBenchmark(text.c_str(), [family = *family, name](benchmark::State& state) {
    try {
      run_benchmark(state, family, name);
    } catch (const std::exception& e) {
      any_failed = true;
      current = {};
      state.SkipWithError(e.what());
    }
  })->Unit(benchmark::kMillisecond);
}

std::string help;  // what PrintDefaultHelp cannot know
void print_help() {
  std::cout << help << '\n';
  benchmark::PrintDefaultHelp();
}

std::string help_of(const Program& program) {
  std::string text =
      program.about + "\n\nNames: values may be others than those that run without a filter.\n";
  for (const Family& f : program.families) {
    text += "  " + f.name;
    for (const std::string& key : f.keys) text += key.empty() ? "/WORD" : "/" + key + ":VALUE";
    text += '\n';
  }
  text += "\nOptions:\n";
  const auto line = [&](std::string name, const std::string& what) {
    name.resize(std::max<std::size_t>(name.size() + 1, 14), ' ');
    text += "  " + name + what + '\n';
  };
  for (const Option& o : program.options) line(o.name, o.help);
  line("--pairs=N", "pairs of work and peak, of which the medians are taken (default 7)");
  line("--no-peaks", "measure no peaks, report no fractions");
  line("--peaks=FILE", "the program that measures them (default: bench_peaks beside this one)");
  line("--smoke", "small networks, few runs: to see that it works; the numbers mean nothing");
  return text;
}

// Takes our own options out of argv. Returns false for a bad value.
bool take_options(int& argc, char** argv, const Program& program) {
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto value_of = [&](std::string_view name) -> const char* {
      return argument.starts_with(name) ? argv[i] + name.size() : nullptr;
    };
    bool ours = true;
    if (argument == "--smoke") {
      settings.smoke = true;
      static char once[] =
          "--benchmark_min_time=1e-9";  // one run is enough, however short; unless what follows asks for more
      argv[kept++] = once;
    } else if (argument == "--no-peaks") {
      settings.peaks.clear();
    } else if (const char* pairs = value_of("--pairs=")) {
      settings.pairs = std::atoi(pairs);
      if (settings.pairs < 1) {
        std::cerr << "error: " << argument << ": expected a positive number\n";
        return false;
      }
    } else if (const char* file = value_of("--peaks=")) {
      settings.peaks = file;
    } else {
      ours = false;
      if (const char* seconds = value_of("--benchmark_min_time=")) settings.min_time = std::atof(seconds);
      for (const Option& o : program.options)
        if (const char* value = value_of(o.name.substr(0, o.name.find('=') + 1))) {
          *o.value = value;
          ours = true;
        }
    }
    if (!ours) argv[kept++] = argv[i];
  }
  argc = kept;
  argv[argc] = nullptr;
  return true;
}

std::string default_peaks(const char* program) {
  std::error_code error;
  std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) self = program;
  return (self.parent_path() / "bench_peaks").string();
}

int run_program(int argc, char** argv, const Program& program) {
  settings.peaks = default_peaks(argv[0]);
  help = help_of(program);
  if (!take_options(argc, argv, program)) return 2;
  if (settings.smoke) settings.pairs = 1;
  benchmark::Initialize(&argc, argv, print_help);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  ops::use_amx();  // the process is ours
  if (settings.peaks.empty())
    peak_process.emplace();
  else
    peak_process.emplace(settings.peaks, settings.smoke);
  benchmark::AddCustomContext("isa", std::string(ops::instruction_set()));
  benchmark::AddCustomContext("integer_isa", std::string(ops::integer_instruction_set()));
  benchmark::AddCustomContext("pairs", std::to_string(settings.pairs));

  std::set<std::string> registered;
  std::vector<std::string> names = program.names;
  for (std::string& asked : names_in_filter(benchmark::GetBenchmarkFilter()))
    names.push_back(std::move(asked));
  for (const std::string& name : names)
    if (registered.insert(name).second) register_benchmark(program, name);
  const std::size_t found = benchmark::RunSpecifiedBenchmarks();
  current = {};
  kept() = {};
  return found == 0 || any_failed ? 1 : 0;
}

}  // namespace

bool smoke() { return settings.smoke; }

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double seconds_of(const std::function<void()>& f) {
  const double start = now();
  f();
  return now() - start;
}

Kept& kept() {
  static Kept slot;
  return slot;
}

std::vector<int> thread_counts() {
  const int cpus = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  std::vector<int> counts;
  for (int n = 1; n < cpus; n *= 2) counts.push_back(n);
  counts.push_back(cpus);
  return counts;
}

int run(int argc, char** argv, const std::function<Program()>& program) {
  try {
    return run_program(argc, argv, program());
  } catch (const std::exception& e) {
    std::cerr << "error: " << e.what() << '\n';
    return 1;
  }
}

}  // namespace gpt::bench
