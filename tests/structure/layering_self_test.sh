#!/bin/sh
# Feeds layering.sh one breach of every rule and expects each to be reported at its line, and no harmless line.
. "$(dirname "$0")/../support/script_test.sh"

# refuse, accept FILE LINE: layering.sh must, or must not, complain about FILE when its second line is LINE.
put() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree/src/core" "$tree/$(dirname "$1")"
  echo '// a clean file' > "$tree/src/core/clean.cpp"
  printf '// one\n%s\n' "$2" > "$tree/$1"
}
refuse() {
  put "$1" "$2"
  if output=$(sh "$here/layering.sh" "$tree"); then
    echo "not found: $1: $2"; failed=1
  elif ! echo "$output" | grep -q "^$1:2: "; then
    echo "not reported as $1:2: $2"; echo "$output"; failed=1
  fi
}
accept() {
  put "$1" "$2"
  if ! output=$(sh "$here/layering.sh" "$tree"); then
    echo "wrongly refused: $1: $2"; echo "$output"; failed=1
  fi
}

# direction
refuse src/core/a.cpp '#include "gpt/ops/linear.h"'
refuse src/nn/a.cpp '#include "gpt/models/gpt2.h"'
refuse src/text/a.cpp '#include "gpt/io/hf_config.h"'
refuse src/io/a.cpp '#include "text/bpe.h"'
refuse src/nn/a.cpp '#include "gpt/text/tokenizer.h"'
refuse src/generate/a.cpp '#include "gpt/peft/lora.h"'
refuse src/peft/a.cpp '#include "gpt/generate/sampler.h"'
refuse src/models/a.cpp '#include "gpt/generate/sampler.h"'
refuse src/evaluate/a.cpp '#include "gpt/generate/sampler.h"'
refuse src/generate/a.cpp '#include "gpt/evaluate/score.h"'
refuse src/train/a.cpp '#include <gpt/gpt.h>'
refuse src/nn/a.cpp '#include "kernels/kernels.h"'
refuse examples/a.cpp '#include "kernels/kernels.h"'
refuse include/gpt/ops/a.h '#include "kernels/kernels.h"'
refuse src/core/a.cpp '#include "../ops/a.h"'
refuse src/core/a.cpp '#include "gpt/nowhere/a.h"'
accept src/ops/a.cpp '#include "kernels/kernels.h"'
accept src/models/a.cpp '#include "gpt/text/tokenizer.h"'
accept src/train/a.cpp '#include "gpt/peft/lora.h"'
accept src/train/a.cpp '#include "gpt/evaluate/score.h"'
accept src/serve/a.cpp '#include "gpt/gpt.h"'
accept include/gpt/gpt.h '#include "gpt/generate/generator.h"'
accept src/core/a.cpp '#include "core/memory.h"'
accept src/kernels/a.cpp '#include "gemm.inl"'
# packages
refuse include/gpt/io/a.h '#include <nlohmann/json.hpp>'
refuse include/gpt/core/a.h '#include <utf8proc.h>'
refuse include/gpt/core/a.h '#include <unistd.h>'
accept src/io/a.cpp '#include <nlohmann/json.hpp>'
accept include/gpt/core/a.h '#include <vector>'
# intrinsics and OpenMP
refuse src/ops/a.cpp '#include <immintrin.h>'
refuse include/gpt/ops/a.h '#include <arm_neon.h>'
refuse src/ops/a.cpp '  __m256 x = _mm256_setzero_ps();'
refuse bench/a.cpp '_mm_pause();'
refuse src/ops/a.cpp '#pragma omp parallel for'
refuse src/core/a.cpp '#include <omp.h>'
refuse src/core/a.cpp 'omp_set_num_threads(4);'
accept src/kernels/isa_avx2.cpp '#include <immintrin.h>'
accept src/kernels/isa_avx2.cpp '  __m256 x = _mm256_setzero_ps();'
accept src/core/parallel_openmp.cpp '#pragma omp parallel num_threads(threads)'
# the host
refuse src/io/a.cpp '  std::cerr << "bad";'
refuse src/io/a.cpp '  printf("bad");'
refuse include/gpt/io/a.h 'inline void f() { std::abort(); }'
refuse src/io/a.cpp '  if (bad) exit(1);'
refuse src/io/a.cpp '  std::terminate();'
refuse src/io/a.cpp '  snprintf(b, 9, "%g", x);'
refuse src/io/a.cpp '  x = std::stod(text);'
refuse src/generate/a.cpp '  std::thread t(f);'
accept src/io/a.cpp '  f("abort() printf( std::cerr");  // exit( printf('
accept src/io/a.cpp '  scope.exit(1); my_printf(2); at_exit(3);'
accept examples/a.cpp '  std::cout << 1;'
# arithmetic
refuse src/ops/a.cpp '  y = std::exp(x);'
refuse src/ops/a.cpp '  y = std::tanh (x);'
refuse src/ops/a.cpp '  y = expf(x);'
refuse src/ops/a.cpp '  y = ::log(x);'
refuse src/ops/a.cpp '  using std::pow;'
accept src/ops/a.cpp '  y = math::exp(x) + gpt::math::log(x) + std::sqrt(x) + std::fma(a, b, c);'
accept src/kernels/a.inl '  F32x16 y = exp(x);'
# hash tables
refuse src/text/a.h '  std::unordered_map<std::string, TokenId> ids_;'
refuse src/io/a.cpp '  std::unordered_multiset< const std::string_view> seen;'
accept src/core/a.cpp '  std::unordered_map<std::uint64_t, std::string> names; std::map<std::string, int> ids;'
accept examples/a.cpp '  std::unordered_set<std::string> seen;'
# macros
refuse include/gpt/core/a.h '#define MAX(a, b) a'
accept include/gpt/core/a.h '#define GPT_API'
put include/gpt/core/a.h "$(printf '#define GPT_%s\n' A B C D E)"
if sh "$here/layering.sh" "$tree" > "$tree/output"; then
  echo 'not found: a fifth macro'; failed=1
fi
# comments over several lines
accept src/io/a.cpp "$(printf '/* std::exp(x)\n printf("") */')"
refuse src/io/a.cpp "/* a comment */ std::exit(1);"

[ $failed = 0 ] && echo 'every breach is found'
exit $failed
