// x86: written in assembly, so that the instructions are those named here with every compiler and every flag.
#include "bench/peaks/loops.h"

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace gpt::bench::peaks {

#if defined(__x86_64__)
namespace {

#define GPT_BENCH_6(STEP) \
  STEP("0", "6") STEP("1", "7") STEP("2", "8") STEP("3", "9") STEP("4", "10") STEP("5", "11")
#define GPT_BENCH_12(STEP) \
  STEP("0")                \
  STEP("1")                \
  STEP("2") STEP("3") STEP("4") STEP("5") STEP("6") STEP("7") STEP("8") STEP("9") STEP("10") STEP("11")

// V: the register class. Accumulators 0..11 (with temporaries: 0..5 and 6..11), operands 12..14.
#define GPT_BENCH_FMA_YMM(A) "vfmadd213ps %%ymm13, %%ymm12, %%ymm" A "\n"
#define GPT_BENCH_FMA_ZMM(A) "vfmadd213ps %%zmm13, %%zmm12, %%zmm" A "\n"
#define GPT_BENCH_INT8_YMM(A, T)          \
  "vpmaddubsw %%ymm13, %%ymm12, %%ymm" T  \
  "\n"                                    \
  "vpmaddwd %%ymm14, %%ymm" T ", %%ymm" T \
  "\n"                                    \
  "vpaddd %%ymm" T ", %%ymm" A ", %%ymm" A "\n"
#define GPT_BENCH_INT8_ZMM(A, T)          \
  "vpmaddubsw %%zmm13, %%zmm12, %%zmm" T  \
  "\n"                                    \
  "vpmaddwd %%zmm14, %%zmm" T ", %%zmm" T \
  "\n"                                    \
  "vpaddd %%zmm" T ", %%zmm" A ", %%zmm" A "\n"
#define GPT_BENCH_INT8_SUM16_YMM(A, T)   \
  "vpmaddubsw %%ymm13, %%ymm12, %%ymm" T \
  "\n"                                   \
  "vpaddw %%ymm" T ", %%ymm" A ", %%ymm" A "\n"
#define GPT_BENCH_INT8_SUM16_ZMM(A, T)   \
  "vpmaddubsw %%zmm13, %%zmm12, %%zmm" T \
  "\n"                                   \
  "vpaddw %%zmm" T ", %%zmm" A ", %%zmm" A "\n"
#define GPT_BENCH_INT16_YMM(A, T)      \
  "vpmaddwd %%ymm13, %%ymm12, %%ymm" T \
  "\n"                                 \
  "vpaddd %%ymm" T ", %%ymm" A ", %%ymm" A "\n"
#define GPT_BENCH_INT16_ZMM(A, T)      \
  "vpmaddwd %%zmm13, %%zmm12, %%zmm" T \
  "\n"                                 \
  "vpaddd %%zmm" T ", %%zmm" A ", %%zmm" A "\n"
#define GPT_BENCH_VNNI8_ZMM(A) "vpdpbusd %%zmm13, %%zmm12, %%zmm" A "\n"
#define GPT_BENCH_VNNI16_ZMM(A) "vpdpwssd %%zmm13, %%zmm12, %%zmm" A "\n"
#define GPT_BENCH_ZERO_YMM(A) "vxorps %%ymm" A ", %%ymm" A ", %%ymm" A "\n"

#define GPT_BENCH_CLOBBERS                                                                                \
  "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
      "xmm12", "xmm13", "xmm14"

// Zeroes the accumulators, fills the operands from three words, repeats BODY.
#define GPT_BENCH_LOOP(NAME, V, BODY, WORD)                                                \
  void NAME(std::uint64_t iterations) {                                                    \
    static constexpr std::uint32_t word[3] = WORD;                                         \
    asm volatile(GPT_BENCH_12(GPT_BENCH_ZERO_YMM) /* clears the upper half of a zmm too */ \
                 "vbroadcastss (%1), %%" V                                                 \
                 "12\n"                                                                    \
                 "vbroadcastss 4(%1), %%" V                                                \
                 "13\n"                                                                    \
                 "vbroadcastss 8(%1), %%" V                                                \
                 "14\n"                                                                    \
                 ".p2align 5\n"                                                            \
                 "1:\n" BODY                                                               \
                 "dec %0\n"                                                                \
                 "jnz 1b\n"                                                                \
                 "vzeroupper\n"                                                            \
                 : "+r"(iterations)                                                        \
                 : "r"(word), "m"(word)                                                    \
                 : GPT_BENCH_CLOBBERS);                                                    \
  }
#define GPT_BENCH_FLOATS \
  { 0x3f7fbe77, 0x38d1b717, 0 } /* 0.999 and 0.0001: the sums stay near 0.1 */
#define GPT_BENCH_BYTES \
  { 0x03030303, 0x02fe01ff, 0x00010001 } /* u8, s8, ones of 16 bits */
#define GPT_BENCH_WORDS \
  { 0x00030003, 0x0002fffe, 0 }

GPT_BENCH_LOOP(fma_avx2, "ymm", GPT_BENCH_12(GPT_BENCH_FMA_YMM), GPT_BENCH_FLOATS)
GPT_BENCH_LOOP(int8_avx2, "ymm", GPT_BENCH_6(GPT_BENCH_INT8_YMM), GPT_BENCH_BYTES)
GPT_BENCH_LOOP(int8_sum16_avx2, "ymm", GPT_BENCH_6(GPT_BENCH_INT8_SUM16_YMM), GPT_BENCH_BYTES)
GPT_BENCH_LOOP(int16_avx2, "ymm", GPT_BENCH_6(GPT_BENCH_INT16_YMM), GPT_BENCH_WORDS)
GPT_BENCH_LOOP(fma_avx512, "zmm", GPT_BENCH_12(GPT_BENCH_FMA_ZMM), GPT_BENCH_FLOATS)
GPT_BENCH_LOOP(int8_avx512, "zmm", GPT_BENCH_6(GPT_BENCH_INT8_ZMM), GPT_BENCH_BYTES)
GPT_BENCH_LOOP(int8_sum16_avx512, "zmm", GPT_BENCH_6(GPT_BENCH_INT8_SUM16_ZMM), GPT_BENCH_BYTES)
GPT_BENCH_LOOP(int16_avx512, "zmm", GPT_BENCH_6(GPT_BENCH_INT16_ZMM), GPT_BENCH_WORDS)
GPT_BENCH_LOOP(int8_vnni, "zmm", GPT_BENCH_12(GPT_BENCH_VNNI8_ZMM), GPT_BENCH_BYTES)
GPT_BENCH_LOOP(int16_vnni, "zmm", GPT_BENCH_12(GPT_BENCH_VNNI16_ZMM), GPT_BENCH_WORDS)

// Four sums of tiles of 16 rows and 64 bytes.
void int8_amx(std::uint64_t iterations) {
  struct alignas(64) Configuration {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16};
  };
  static constexpr Configuration configuration;
  asm volatile(
      "ldtilecfg %1\n"
      "tilezero %%tmm0\n tilezero %%tmm1\n tilezero %%tmm2\n tilezero %%tmm3\n tilezero %%tmm4\n tilezero "
      "%%tmm5\n"
      ".p2align 5\n"
      "1:\n"
      "tdpbssd %%tmm5, %%tmm4, %%tmm0\n"
      "tdpbssd %%tmm5, %%tmm4, %%tmm1\n"
      "tdpbssd %%tmm5, %%tmm4, %%tmm2\n"
      "tdpbssd %%tmm5, %%tmm4, %%tmm3\n"
      "dec %0\n"
      "jnz 1b\n"
      "tilerelease\n"
      : "+r"(iterations)
      : "m"(configuration)
      : "cc");
}

void read_avx(const std::byte* begin, std::size_t bytes) {
  const std::byte* const end = begin + bytes;
  asm volatile(
      ".p2align 5\n"
      "1:\n"
      "vmovaps (%0), %%ymm0\n"
      "vmovaps 32(%0), %%ymm1\n"
      "vmovaps 64(%0), %%ymm2\n"
      "vmovaps 96(%0), %%ymm3\n"
      "vmovaps 128(%0), %%ymm4\n"
      "vmovaps 160(%0), %%ymm5\n"
      "vmovaps 192(%0), %%ymm6\n"
      "vmovaps 224(%0), %%ymm7\n"
      "add $256, %0\n"
      "cmp %1, %0\n"
      "jb 1b\n"
      "vzeroupper\n"
      : "+r"(begin)
      : "r"(end)
      : "memory", GPT_BENCH_CLOBBERS);
}

constexpr double kYmmFloats = 8, kYmmBytes = 32, kYmmWords = 16;
constexpr Loops kAvx2 = {"avx2",
                         {2 * 12 * kYmmFloats, fma_avx2},
                         {2 * 6 * kYmmBytes, int8_avx2},
                         {2 * 6 * kYmmBytes, int8_sum16_avx2},
                         {2 * 6 * kYmmWords, int16_avx2},
                         {},
                         read_avx};
constexpr Loops kAvx512 = {"avx512",
                           {4 * 12 * kYmmFloats, fma_avx512},
                           {4 * 6 * kYmmBytes, int8_avx512},
                           {4 * 6 * kYmmBytes, int8_sum16_avx512},
                           {4 * 6 * kYmmWords, int16_avx512},
                           {},
                           read_avx};
constexpr Loops kAvx512Vnni = {"avx512",
                               {4 * 12 * kYmmFloats, fma_avx512},
                               {4 * 12 * kYmmBytes, int8_vnni},
                               {4 * 12 * kYmmBytes, int8_vnni},  // which needs no sums of 16 bits
                               {4 * 12 * kYmmWords, int16_vnni},
                               {},
                               read_avx};
constexpr double kTileProducts = 16 * 16 * 64;
constexpr Loops kAmx = {"avx512",          kAvx512Vnni.fma,
                        kAvx512Vnni.int8,  kAvx512Vnni.int8_sum16,
                        kAvx512Vnni.int16, {2 * 4 * kTileProducts, int8_amx},
                        read_avx};

// Linux keeps the tiles from a process that does not ask for them.
bool may_use_tiles() {
#ifdef __linux__
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace

const Loops& best_loops() {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  if (vnni && may_use_tiles()) return kAmx;
  if (vnni) return kAvx512Vnni;
  if (avx512) return kAvx512;
  return avx2 ? kAvx2 : kPortableLoops;
}

#else

const Loops& best_loops() { return kPortableLoops; }

#endif

}  // namespace gpt::bench::peaks
