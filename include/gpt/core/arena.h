// Memory for the intermediate results of a forward pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "gpt/core/tensor.h"

namespace gpt {

/// A bump allocator: take() hands out memory, reset() takes all of it back and keeps it for the next pass, so
/// that a steady state allocates nothing. Not thread-safe; one arena belongs to one running computation.
class Arena {
 public:
  Arena() = default;
  Arena(Arena&& other) noexcept { swap(other); }
  Arena& operator=(Arena&& other) noexcept {
    Arena(std::move(other)).swap(*this);
    return *this;
  }

  /// An uninitialized tensor, aligned to 64 bytes, valid until reset(), the end of a Scope around it, or the
  /// arena's. Throws
  /// MemoryError.
  TensorView take(const Shape& shape, DType dtype = DType::f32);

  /// n uninitialized objects of a type that needs no constructor.
  template <class T>
  requires std::is_trivially_copyable_v<T> std::span<T> take_span(std::size_t n) {
    const Shape bytes{static_cast<std::int64_t>(n), static_cast<std::int64_t>(sizeof(T))};
    return {reinterpret_cast<T*>(take(bytes, DType::u8).raw()), n};
  }

  /// Invalidates everything taken. After a pass that needed several blocks they are replaced by one large
  /// enough.
  void reset();

  /// What is taken while it lives is given back at its end.
  class Scope {
   public:
    explicit Scope(Arena& arena) noexcept
        : arena_(arena), block_(arena.block_), used_(arena.used_), taken_(arena.taken_) {}
    ~Scope() {
      arena_.block_ = block_;
      arena_.used_ = used_;
      arena_.taken_ = taken_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    std::size_t block_;
    std::size_t used_;
    std::size_t taken_;
  };

  /// Bytes held, used or not.
  std::size_t capacity() const noexcept;
  /// The most bytes that were taken at once, so far.
  std::size_t peak() const noexcept { return peak_; }

 private:
  void swap(Arena& other) noexcept {
    std::swap(blocks_, other.blocks_);
    std::swap(block_, other.block_);
    std::swap(used_, other.used_);
    std::swap(taken_, other.taken_);
    std::swap(peak_, other.peak_);
  }

  struct Block {
    std::shared_ptr<std::byte> memory;
    std::size_t size = 0;
  };
  std::vector<Block> blocks_;
  std::size_t block_ = 0;  // index of the one being filled; those behind it are free
  std::size_t used_ = 0;   // bytes taken from it
  std::size_t taken_ = 0;  // from all
  std::size_t peak_ = 0;
};

}  // namespace gpt
