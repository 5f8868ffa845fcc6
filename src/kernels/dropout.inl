// Which elements dropout keeps: a pure function of seed, stream and index (core/rng.h), 16 elements at a time.

namespace gpt::kernels {
namespace {

/// Philox4x32-10 of counters first .. first + 3 of a stream: core/rng.h has the definition, which must not be compiled here.
inline void random_bits(const DropoutKey& key, std::uint64_t first, std::uint32_t (&bits)[kLanes]) noexcept {
  std::uint32_t c0[4], c1[4], c2[4], c3[4];
  for (unsigned j = 0; j < 4; ++j) {
    const std::uint64_t index = first + j;
    c0[j] = static_cast<std::uint32_t>(index);
    c1[j] = static_cast<std::uint32_t>(index >> 32);
    c2[j] = static_cast<std::uint32_t>(key.stream);
    c3[j] = static_cast<std::uint32_t>(key.stream >> 32);
  }
  auto k0 = static_cast<std::uint32_t>(key.seed), k1 = static_cast<std::uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
    for (unsigned j = 0; j < 4; ++j) {
      const std::uint64_t a = std::uint64_t{0xD2511F53u} * c0[j], b = std::uint64_t{0xCD9E8D57u} * c2[j];
      c0[j] = static_cast<std::uint32_t>(b >> 32) ^ c1[j] ^ k0;
      c1[j] = static_cast<std::uint32_t>(b);
      c2[j] = static_cast<std::uint32_t>(a >> 32) ^ c3[j] ^ k1;
      c3[j] = static_cast<std::uint32_t>(a);
    }
  for (unsigned j = 0; j < 4; ++j) {
    bits[4 * j] = c0[j];
    bits[4 * j + 1] = c1[j];
    bits[4 * j + 2] = c2[j];
    bits[4 * j + 3] = c3[j];
  }
}

/// The factors of elements 16 group .. 16 group + 15: 0, or `scale` for those that stay.
inline F32x16 dropout_factors(const DropoutKey& key, std::uint64_t group) noexcept {
  std::uint32_t bits[kLanes];
  random_bits(key, 4 * group, bits);
  alignas(64) float factors[kLanes];
  for (int i = 0; i < kLanes; ++i) factors[i] = bits[i] < key.threshold ? 0.0f : key.scale;
  return load(factors);
}

/// y = residual + x times the factors; begin is a multiple of 16. x may be y.
void dropout_range(const DropoutKey& key, const float* x, const float* residual, float* y, std::int64_t begin,
                   std::int64_t end) noexcept {
  for (std::int64_t i = begin; i < end; i += kLanes) {
    const int lanes = lanes_left(i, end);
    F32x16 kept = load_first(x + i, lanes) * dropout_factors(key, static_cast<std::uint64_t>(i / kLanes));
    if (residual != nullptr) kept = load_first(residual + i, lanes) + kept;
    store_first(y + i, kept, lanes);
  }
}

/// The factors of keys 16 group .. of one query's probabilities, in a sequence of `length` tokens.
inline F32x16 attention_dropout(const DropoutKey& key, std::int64_t length, std::int64_t head,
                                std::int64_t position, std::int64_t group) noexcept {
  const std::int64_t groups = (length + kLanes - 1) / kLanes;
  return dropout_factors(key, static_cast<std::uint64_t>((head * length + position) * groups + group));
}

/// Weights of keys first .. of one query, first a multiple of 16.
inline void drop_weights(const DropoutKey& key, std::int64_t length, std::int64_t head, std::int64_t position,
                         std::int64_t first, int keys, float* weights) noexcept {
  for (int j = 0; j < keys; j += kLanes)
    store(weights + j,
          load(weights + j) * attention_dropout(key, length, head, position, (first + j) / kLanes));
}

}  // namespace
}  // namespace gpt::kernels
