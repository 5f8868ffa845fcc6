// Dense row-major tensors: Tensor keeps its elements alive, the views only point at them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "gpt/core/dtype.h"
#include "gpt/core/shape.h"

namespace gpt {

namespace detail {
[[noreturn]] void throw_dtype_mismatch(DType held, DType asked);
}

/// Element type, shape and address, without ownership: whoever holds the elements must outlive the view. Byte is std::byte
/// or const std::byte.
template <class Byte>
class BasicTensorView {
 public:
  template <class T>
  using Like = std::conditional_t<std::is_const_v<Byte>, const T, T>;

  BasicTensorView() = default;  // empty: shape [0], no data
  /// Views shape.numel() elements at `data`, which must be aligned to size_of(dtype); neither is checked. May be null where
  /// the shape has no elements.
  BasicTensorView(Like<void>* data, DType dtype, const Shape& shape) noexcept
      : data_(static_cast<Byte*>(data)), dtype_(dtype), shape_(shape) {}
  /// The same, with the element type of T.
  template <class T>
  requires(!std::is_void_v<T> && (std::is_const_v<Byte> || !std::is_const_v<T>))
      BasicTensorView(T* data, const Shape& shape)
  noexcept : BasicTensorView(data, dtype_of<std::remove_const_t<T>>, shape) {}
  /// A mutable view converts to a read-only one.
  template <class Other>
  requires(std::is_const_v<Byte> && !std::is_const_v<Other>)
      BasicTensorView(const BasicTensorView<Other>& other)
  noexcept : BasicTensorView(other.raw(), other.dtype(), other.shape()) {}

  DType dtype() const noexcept { return dtype_; }
  const Shape& shape() const noexcept { return shape_; }
  /// The extent of an axis from 0 to rank - 1, which is not checked.
  std::int64_t dim(int axis) const noexcept { return shape_[axis]; }
  std::int64_t numel() const noexcept { return shape_.numel(); }
  std::size_t nbytes() const noexcept { return static_cast<std::size_t>(numel()) * size_of(dtype_); }
  bool empty() const noexcept { return numel() == 0; }

  /// The elements' bytes; null for a view without any.
  Byte* raw() const noexcept { return data_; }
  /// The elements as T. Throws ShapeError when the tensor holds another type; so does span.
  template <class T>
  Like<T>* data() const {
    if (dtype_of<T> != dtype_) detail::throw_dtype_mismatch(dtype_, dtype_of<T>);
    return reinterpret_cast<Like<T>*>(data_);
  }
  template <class T>
  std::span<Like<T>> span() const {
    return {data<T>(), static_cast<std::size_t>(numel())};
  }

 private:
  Byte* data_ = nullptr;
  DType dtype_ = DType::f32;
  Shape shape_{0};
};

using TensorView = BasicTensorView<std::byte>;
using ConstTensorView = BasicTensorView<const std::byte>;

/// A tensor that owns, or shares, its elements. Copying shares them, clone() copies them: what is written through one copy
/// is seen through all others, and needs a lock where they are in several threads. Elements may lie in
/// a memory-mapped file; writing to such a tensor changes private pages, never the file.
class Tensor {
 public:
  Tensor() = default;  // shape [0], no data
  Tensor(const Tensor&) = default;
  Tensor& operator=(const Tensor&) = default;
  Tensor(Tensor&& other) noexcept  // leaves other empty
      : owner_(std::move(other.owner_)), view_(std::exchange(other.view_, {})) {}
  Tensor& operator=(Tensor&& other) noexcept {
    owner_ = std::move(other.owner_);
    view_ = std::exchange(other.view_, {});
    return *this;
  }

  /// Uninitialized elements, or zeros, aligned to 64 bytes. Throw MemoryError naming the size.
  static Tensor empty(const Shape& shape, DType dtype = DType::f32);
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32);
  /// shape.numel() elements at `data`, which `owner` keeps alive (empty: the caller does, for as long as any copy lives).
  /// Throws ArgumentError when `data` is not aligned to the element size.
  static Tensor borrow(std::shared_ptr<const void> owner, void* data, const Shape& shape, DType dtype);

  DType dtype() const noexcept { return view_.dtype(); }
  const Shape& shape() const noexcept { return view_.shape(); }
  /// The extent of an axis from 0 to rank - 1, which is not checked.
  std::int64_t dim(int axis) const noexcept { return view_.dim(axis); }
  std::int64_t numel() const noexcept { return view_.numel(); }
  std::size_t nbytes() const noexcept { return view_.nbytes(); }
  bool empty() const noexcept { return view_.empty(); }

  /// Views do not keep the elements alive.
  TensorView view() noexcept { return view_; }
  ConstTensorView view() const noexcept { return view_; }
  operator TensorView() noexcept { return view_; }
  operator ConstTensorView() const noexcept { return view_; }

  /// The elements as T. These four throw ShapeError when the tensor holds another type.
  template <class T>
  T* data() {
    return view_.data<T>();
  }
  template <class T>
  const T* data() const {
    return view_.data<T>();
  }
  template <class T>
  std::span<T> span() {
    return view_.span<T>();
  }
  template <class T>
  std::span<const T> span() const {
    return view().span<T>();
  }

  /// A copy of the elements, in memory of its own. Throws MemoryError.
  Tensor clone() const;
  /// A copy in another weight type (f32, f16, bf16; rounds to nearest even), or this tensor, sharing its elements, when it has
  /// it already. Throws UnsupportedError when either type is no weight type, MemoryError.
  Tensor to(DType dtype) const;

 private:
  std::shared_ptr<const void> owner_;
  TensorView view_;
};

}  // namespace gpt
