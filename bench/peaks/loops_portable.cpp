// Any CPU: vectors of 16 bytes, as GCC and clang know them everywhere. Compiled with -ffp-contract=fast, so that a
// multiply and an add become one instruction where the CPU has it.
#include <cstring>

#include "bench/peaks/loops.h"

namespace gpt::bench::peaks {
namespace {

using Floats = float __attribute__((vector_size(16)));
using Bytes = signed char __attribute__((vector_size(16)));
using Words = short __attribute__((vector_size(16)));

// The compiler must think that v changed, or it would take the work out of the loop.
template <class Vector>
void touch(Vector& v) {
#if defined(__x86_64__) || defined(__i386__)
  asm volatile("" : "+x"(v));
#elif defined(__aarch64__)
  asm volatile("" : "+w"(v));
#else
  asm volatile("" : "+m"(v));
#endif
}

template <class Vector>
void multiply_add(std::uint64_t iterations) {
  Vector a{}, b{}, c{}, d{}, e{}, f{}, g{}, h{}, x{}, y{};
  for (; iterations > 0; --iterations) {
    touch(x);
    a = a * x + y;
    b = b * x + y;
    c = c * x + y;
    d = d * x + y;
    e = e * x + y;
    f = f * x + y;
    g = g * x + y;
    h = h * x + y;
  }
  a += b, c += d, e += f, g += h;
  a += c, e += g;
  a += e;
  touch(a);
}

void read(const std::byte* begin, std::size_t bytes) {
  Words a{}, b{}, c{}, d{};
  for (const std::byte* const end = begin + bytes; begin < end; begin += 64) {
    Words v[4];
    std::memcpy(v, begin, sizeof v);
    a |= v[0], b |= v[1], c |= v[2], d |= v[3];
  }
  a |= b, c |= d;
  a |= c;
  touch(a);
}

}  // namespace

const Loops kPortableLoops = {"portable",
                              {2 * 8 * 4, multiply_add<Floats>},
                              {2 * 8 * 16, multiply_add<Bytes>},
                              {2 * 8 * 16, multiply_add<Bytes>},
                              {2 * 8 * 8, multiply_add<Words>},
                              {},
                              read};

}  // namespace gpt::bench::peaks
