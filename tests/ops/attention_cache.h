// One layer of an attention cache with memory of its own, and what it holds as real numbers.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "gpt/core/tensor.h"
#include "gpt/ops/attention.h"

namespace gpt::test {

inline constexpr DType kCacheTypes[] = {DType::f32, DType::f16, DType::bf16, DType::i8};

/// Filled with NaN (int8: scales of NaN) before anything is put into it.
class AttentionCache {
 public:
  AttentionCache(std::int64_t n_head, std::int64_t head_dim, std::int64_t tokens, DType dtype = DType::f32)
      : padded_(ops::padded_head_dim(head_dim)),
        capacity_(ops::whole_groups(tokens)),
        keys_(Tensor::empty({n_head, capacity_ / 16, padded_, 16}, dtype)),
        values_(Tensor::empty({n_head, capacity_, padded_}, dtype)),
        scales_(Tensor::empty({2, n_head, capacity_})) {
    for (Tensor* t : {&keys_, &values_}) {
      const auto bytes = std::span(t->view().raw(), t->nbytes());
      std::fill(bytes.begin(), bytes.end(), dtype == DType::i8 ? std::byte{0x55} : std::byte{0xff});
    }
    std::fill_n(scales_.data<float>(), scales_.numel(), std::numeric_limits<float>::quiet_NaN());
  }

  ops::KvLayer layer() {
    float* const scales = keys_.dtype() == DType::i8 ? scales_.data<float>() : nullptr;
    return {keys_.dtype(),        capacity_, keys_.view().raw(),
            values_.view().raw(), scales,    scales == nullptr ? nullptr : scales + scales_.numel() / 2};
  }
  ops::AttentionSpan span(std::int64_t row, std::int64_t rows, std::int64_t past) {
    return {row, rows, past, layer()};
  }

  double key(std::int64_t head, std::int64_t token, std::int64_t d) const {
    const std::int64_t group = head * capacity_ / 16 + token / 16;
    return element(keys_, (group * padded_ + d) * 16 + token % 16) * scale(0, head, token);
  }
  double value(std::int64_t head, std::int64_t token, std::int64_t d) const {
    return element(values_, (head * capacity_ + token) * padded_ + d) * scale(1, head, token);
  }
  /// Of the keys (0) or values (1); 1 unless int8.
  double scale(int which, std::int64_t head, std::int64_t token) const {
    if (keys_.dtype() != DType::i8) return 1;
    return static_cast<double>(scales_.data<float>()[which * scales_.numel() / 2 + head * capacity_ + token]);
  }

 private:
  static double element(const Tensor& t, std::int64_t i) {
    switch (t.dtype()) {
      case DType::f16: return static_cast<double>(static_cast<float>(t.data<Float16>()[i]));
      case DType::bf16: return static_cast<double>(static_cast<float>(t.data<BFloat16>()[i]));
      case DType::i8: return t.data<std::int8_t>()[i];
      default: return static_cast<double>(t.data<float>()[i]);
    }
  }

  std::int64_t padded_, capacity_;
  Tensor keys_, values_, scales_;
};

}  // namespace gpt::test
