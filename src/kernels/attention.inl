// Causal attention of one sequence by online softmax. The keys of a query are taken in blocks of 64 counted from the
// sequence's token 0; within a block:
//   s_j  = scale * (chain of fused multiply-adds over d of q_d k_jd)
//   m'   = max(m, max_j s_j),  p_j = e^(s_j - m'),  c = e^(m - m')
//   l    = l c + sum of p_j: four vectors of 16 added in order, then the fixed tree
//   o_d  = o_d c, then a chain of fused multiply-adds over j of p_j v_jd
// and at the end y = o / l. Keys behind the query are left out.

namespace gpt::kernels {
namespace {

inline constexpr std::int64_t kKeyBlock = 64;

struct BlockOfKeys {
  const float* keys;    // of the block's first group
  const float* values;  // of the block's first key
  int count;            // keys to use, 1 .. 64
};

/// One step of the recurrence; o is y's stretch of head_dim floats.
inline void attend(const AttentionArgs& a, const BlockOfKeys& block, const float* q, float* o, float& m,
                   float& l) noexcept {
  const std::int64_t padded = a.padded_head_dim;
  const std::int64_t group_stride = a.n_head * padded * kLanes;
  const int groups = (block.count + kLanes - 1) / kLanes;
  const F32x16 minus_infinity = broadcast(-__builtin_inff());
  F32x16 scores[kKeyBlock / kLanes];
  F32x16 largest = minus_infinity;
  for (int g = 0; g < groups; ++g) {
    const float* keys = block.keys + g * group_stride;
    F32x16 s = broadcast(0.0f);
    for (std::int64_t d = 0; d < a.head_dim; ++d) s = fma(broadcast(q[d]), load(keys + d * kLanes), s);
    const int lanes = lanes_left(g * kLanes, block.count);
    scores[g] = first_lanes(s * broadcast(a.scale), lanes, minus_infinity);
    largest = max(largest, scores[g]);
  }
  const float block_max = max_lanes(largest);
  const float new_max = m > block_max ? m : block_max;
  alignas(64) float weights[kKeyBlock];
  F32x16 sum = broadcast(0.0f);
  for (int g = 0; g < groups; ++g) {
    const F32x16 p = exp(scores[g] - broadcast(new_max));
    sum = sum + first_lanes(p, lanes_left(g * kLanes, block.count), broadcast(0.0f));
    store(weights + g * kLanes, p);
  }
  alignas(64) float correction[kLanes];
  store(correction, exp(broadcast(m - new_max)));
  l = l * correction[0] + sum_lanes(sum);
  m = new_max;
  const std::int64_t value_stride = a.n_head * padded;
  for (std::int64_t d = 0; d < a.head_dim; d += kLanes) {
    const int lanes = lanes_left(d, a.head_dim);
    F32x16 acc = load_first(o + d, lanes) * broadcast(correction[0]);
    for (int j = 0; j < block.count; ++j)
      acc = fma(broadcast(weights[j]), load(block.values + j * value_stride + d), acc);
    store_first(o + d, acc, lanes);
  }
}

void attention_tasks(const AttentionArgs& a, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t padded = a.padded_head_dim;
  for (std::int64_t task = begin; task < end; ++task) {
    const std::int64_t head = task / a.rows;
    const std::int64_t row = task % a.rows;
    const std::int64_t keys = a.past + row + 1;
    const float* q = a.query + row * a.query_stride + head * a.head_dim;
    float* y = a.y + row * a.y_stride + head * a.head_dim;
    for (std::int64_t d = 0; d < a.head_dim; ++d) y[d] = 0.0f;
    float m = -__builtin_inff();
    float l = 0.0f;
    for (std::int64_t first = 0; first < keys; first += kKeyBlock) {
      const BlockOfKeys block{a.keys + (first / kLanes * a.n_head + head) * padded * kLanes,
                              a.values + (first * a.n_head + head) * padded,
                              static_cast<int>(keys - first < kKeyBlock ? keys - first : kKeyBlock)};
      attend(a, block, q, y, m, l);
    }
    for (std::int64_t d = 0; d < a.head_dim; ++d) y[d] = y[d] / l;
  }
}

}  // namespace
}  // namespace gpt::kernels
