// The innermost loops of the peak measurements: as much of one kind of work as the CPU can do.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gpt::bench::peaks {

/// A loop over independent accumulators in registers.
struct ComputeLoop {
  double ops;                             // operations of one iteration, a multiply-add being two
  void (*run)(std::uint64_t iterations);  // at least 1
};

struct Loops {
  const char* isa;         // "avx512", "avx2" or "portable"
  ComputeLoop fma;         // float32 multiply-adds
  ComputeLoop int8;        // products of 8-bit integers, summed in 32 bits
  ComputeLoop int8_sum16;  // the same, summed in 16 bits
  ComputeLoop int16;       // products of 16-bit integers, summed in 32 bits
  ComputeLoop int8_tiles;  // int8 on matrix units; run is null where there are none
  void (*read)(const std::byte* begin, std::size_t bytes);  // 256-byte aligned, a positive multiple of 256
};

/// The fastest this CPU can run.
const Loops& best_loops();

/// What the compiler makes of vectors of 16 bytes, for any CPU.
extern const Loops kPortableLoops;

}  // namespace gpt::bench::peaks
