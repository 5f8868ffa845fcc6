// One layer of an attention cache with memory of its own, and what it holds as real numbers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
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
  /// In pages of so many tokens; 0: in one.
  AttentionCache(std::int64_t n_head, std::int64_t head_dim, std::int64_t tokens, DType dtype = DType::f32,
                 std::int64_t page_tokens = 0)
      : padded_(ops::padded_head_dim(head_dim)) {
    layer_.dtype = dtype;
    layer_.page_tokens = page_tokens > 0 ? page_tokens : ops::whole_groups(tokens);
    layer_.page_count = (tokens + layer_.page_tokens - 1) / layer_.page_tokens;
    const std::int64_t rows = n_head * layer_.page_tokens;
    layer_.values = rows * padded_ * static_cast<std::int64_t>(size_of(dtype));
    layer_.key_scales = 2 * layer_.values;
    layer_.value_scales = layer_.key_scales + rows * static_cast<std::int64_t>(sizeof(float));
    const std::int64_t scales = dtype == DType::i8 ? 2 * (layer_.value_scales - layer_.key_scales) : 0;
    for (std::int64_t i = 0; i < layer_.page_count; ++i) {
      pages_.push_back(Tensor::empty({layer_.key_scales + scales}, DType::u8));
      data_.push_back(pages_.back().view().raw());
      std::fill_n(data_.back(), pages_.back().nbytes(),
                  dtype == DType::i8 ? std::byte{0x55} : std::byte{0xff});
      if (dtype == DType::i8)
        std::fill_n(at<float>(data_.back(), layer_.key_scales), 2 * rows,
                    std::numeric_limits<float>::quiet_NaN());
    }
  }

  ops::KvLayer layer() const {
    ops::KvLayer layer = layer_;
    layer.pages = data_.data();
    return layer;
  }
  ops::AttentionSpan span(std::int64_t row, std::int64_t rows, std::int64_t past) const {
    return {row, rows, past, layer()};
  }
  /// Filled with zeros, so that padding has known bits too.
  void clear() {
    for (std::size_t i = 0; i < data_.size(); ++i) std::fill_n(data_[i], pages_[i].nbytes(), std::byte{0});
  }
  /// Everything it holds, padding included.
  std::span<const Tensor> pages() const { return pages_; }

  double key(std::int64_t head, std::int64_t token, std::int64_t d) const {
    const std::int64_t within = token % layer_.page_tokens,
                       group = head * layer_.page_tokens / 16 + within / 16;
    return element(token, layer_.keys, (group * padded_ + d) * 16 + within % 16) * scale(0, head, token);
  }
  double value(std::int64_t head, std::int64_t token, std::int64_t d) const {
    return element(token, layer_.values, row(head, token) * padded_ + d) * scale(1, head, token);
  }
  /// Of the keys (0) or values (1); 1 unless int8.
  double scale(int which, std::int64_t head, std::int64_t token) const {
    if (layer_.dtype != DType::i8) return 1;
    const std::int64_t offset = which == 0 ? layer_.key_scales : layer_.value_scales;
    return static_cast<double>(at<float>(page_of(token), offset)[row(head, token)]);
  }

 private:
  template <class T>
  static T* at(std::byte* page, std::int64_t offset) {
    return reinterpret_cast<T*>(page + offset);
  }
  std::byte* page_of(std::int64_t token) const {
    return data_[static_cast<std::size_t>(token / layer_.page_tokens)];
  }
  std::int64_t row(std::int64_t head, std::int64_t token) const {
    return head * layer_.page_tokens + token % layer_.page_tokens;
  }
  double element(std::int64_t token, std::int64_t offset, std::int64_t i) const {
    std::byte* const page = page_of(token);
    switch (layer_.dtype) {
      case DType::f16: return static_cast<double>(static_cast<float>(at<Float16>(page, offset)[i]));
      case DType::bf16: return static_cast<double>(static_cast<float>(at<BFloat16>(page, offset)[i]));
      case DType::i8: return at<std::int8_t>(page, offset)[i];
      default: return static_cast<double>(at<float>(page, offset)[i]);
    }
  }

  std::int64_t padded_;
  ops::KvLayer layer_;
  std::vector<Tensor> pages_;
  std::vector<std::byte*> data_;
};

}  // namespace gpt::test
