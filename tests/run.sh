#!/bin/sh
# Builds libgpt and runs its tests: see --help.
set -eu
root=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
cd "$root"

usage() {
  cat <<'USAGE'
tests/run.sh [--all]

Installs what is missing (third_party/install.sh), builds Release with warnings as errors, checks the formatting, and runs
every test, once per instruction set where those can differ. Stops at the first failure.

  --all   also: compile every public header alone; build and test what computes with clang, libgpt as a shared library;
          everything with AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer, and what has threads with
          ThreadSanitizer; run the fuzzers, side by side

Environment:
  GPT_GOLDENS=DIR:DIR...       more folders with expected values, beside tests/golden; with --all their recorded losses, of
                               training and validation, are checked in Release alone
  GPT_FUZZ_SECONDS             how long each fuzzer runs (60; 20 those of files that few come by)
  CMAKE_BUILD_PARALLEL_LEVEL   how many compilers and tests run at once (the number of CPUs)
USAGE
}

all=no
for argument in "$@"; do
  case $argument in
    --all) all=yes ;;
    -h | --help) usage; exit 0 ;;
    *) echo "tests/run.sh: unknown argument $argument" >&2; usage >&2; exit 2 ;;
  esac
done

jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
start=$(date +%s)
section() {
  elapsed=$(($(date +%s) - start))
  printf '\n=== %s   [%d min %02d s]\n' "$1" $((elapsed / 60)) $((elapsed % 60))
}

# build PRESET OPTION...    all targets, or those in $targets
build() {
  preset=$1
  shift
  cmake --preset "$preset" "$@"
  cmake --build --preset "$preset" -j "$jobs" ${targets:+--target $targets}
}

# Older sanitizer runtimes cannot start where the kernel randomizes addresses more than they expect.
without_randomization() {
  if setarch -R true 2> /dev/null; then setarch -R "$@"; else "$@"; fi
}

check_format() {
  version=$(clang-format --version 2> /dev/null | sed 's/.*version \([0-9]*\).*/\1/') || true
  if [ "$version" != 14 ]; then  # other versions lay some lines out differently
    echo "skipped: the sources are formatted with clang-format 14, found ${version:-none}"
    return 0
  fi
  find include src tests bench examples -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.inl' \) \
    -exec clang-format --dry-run -Werror {} +
}

# A fuzzer starts from the seeds of tests/fuzz/corpus and keeps what it finds in the build directory. What takes a second, as a
# grammar at its limits does, takes ten with the sanitizers and as long again beside another fuzzer.
fuzzed_longest='bpe_encode config safetensors tokenizer_json'
run_fuzzer() {
  name=$1
  case " $fuzzed_longest " in
    *" $name "*) seconds=${GPT_FUZZ_SECONDS:-60} ;;
    *) seconds=${GPT_FUZZ_SECONDS:-20} ;;
  esac
  work=build/asan-ubsan/findings/$name
  mkdir -p "$work/corpus"
  set -- "$work/corpus"
  [ -d "tests/fuzz/corpus/$name" ] && set -- "$@" "tests/fuzz/corpus/$name"
  [ -f "tests/fuzz/$name.dict" ] && set -- "$@" -dict="tests/fuzz/$name.dict"
  without_randomization "build/asan-ubsan/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=60 -print_final_stats=1 \
    -artifact_prefix="$work/" "$@" > "$work/log" 2>&1 || {
    tail -n 60 "$work/log"
    echo "fuzz_$name failed; the input is in $work"
    return 1
  }
  echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log") inputs, no finding"
}

# Waits for all of these processes; fails if any did.
wait_for() {
  outcome=0
  for pid in "$@"; do wait "$pid" || outcome=$?; done
  return $outcome
}

# The instruction sets to leave out where one is enough: all but the best that this CPU has. The kernels that stand beside AVX-512 for
# products of integers are compared with it in kernels_test, and the programs' tests use them.
other_isas() {
  if grep -qw avx512vl /proc/cpuinfo; then echo '^(scalar|avx2|avx512_vnni|amx)$'
  elif grep -qw avx2 /proc/cpuinfo; then echo '^(scalar|avx512|avx512_vnni|amx)$'
  else echo '^(avx2|avx512|avx512_vnni|amx)$'; fi
}

targets=
group=tests
[ $all = yes ] && group=all
section 'Packages'
third_party/install.sh --$group

section 'Build: Release'
build release -DGPT_WERROR=ON

section 'Formatting'
check_format

section 'Tests: Release'
echo "expected values: tests/golden${GPT_GOLDENS:+ and $GPT_GOLDENS}"
ctest --preset release -j "$jobs"

if [ $all = yes ]; then
  section 'Public headers compile alone'
  cmake --build --preset release -j "$jobs" --target all_verify_interface_header_sets

  # What the committed folders show of training under clang and the sanitizers, longer runs do not show better.
  export GPT_GOLDENS_LOSSES=no

  # Another compiler's optimized numbers. The sanitizers' builds, which are clang's too, compile and run everything.
  section 'Build: clang, shared library'
  computing='core_test ops_test kernels_test nn_test autograd_test models_test generate_test peft_test train_test'
  (targets=$computing; build clang -DBUILD_SHARED_LIBS=ON -DGPT_BUILD_BENCH=OFF)
  # Every instruction set has kernels of its own: kernels_test runs them all. What lies above them is the same code for each.
  section 'Tests: clang, shared library'
  ctest --preset clang -j "$jobs" -LE "$(other_isas)" -R "^($(echo $computing | tr ' ' '|'))"

  section 'Build: AddressSanitizer and UndefinedBehaviorSanitizer'
  build asan-ubsan -DGPT_WERROR=ON
  section 'Tests: AddressSanitizer and UndefinedBehaviorSanitizer'
  without_randomization ctest --preset asan-ubsan -j "$jobs" -LE "$(other_isas)"

  # Work is divided among threads above the kernels, in code that all instruction sets share: one of them shows its races, and
  # the tests of what has no threads show none.
  section 'Build: ThreadSanitizer'
  threaded='core_test ops_test nn_test autograd_test models_test generate_test evaluate_test train_test'
  (targets="$threaded program_test"; build tsan)
  section 'Tests: ThreadSanitizer'
  without_randomization ctest --preset tsan -j "$jobs" -LE "$(other_isas)" \
    -R "^($(echo $threaded generate_program finetune_program other_program | tr ' ' '|'))"

  section 'Fuzzers'
  fuzzers=$fuzzed_longest  # beside one another: all of a round are waited for
  for source in tests/fuzz/fuzz_*.cpp; do
    name=${source##*/fuzz_} name=${name%.cpp}
    case " $fuzzed_longest " in *" $name "*) ;; *) fuzzers="$fuzzers $name" ;; esac
  done
  running=0
  pids=
  for name in $fuzzers; do
    run_fuzzer "$name" &
    pids="$pids $!"
    running=$((running + 1))
    if [ $running -ge "$jobs" ]; then wait_for $pids; running=0 pids=; fi
  done
  wait_for $pids
  section 'Everything passed'
fi
