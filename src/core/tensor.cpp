#include "gpt/core/tensor.h"

#include <cstring>
#include <limits>
#include <utility>

#include "core/memory.h"
#include "gpt/core/error.h"

namespace gpt {

namespace detail {
void throw_dtype_mismatch(DType held, DType asked) {
  fail<ShapeError>("tensor", "holds ", name_of(held), " elements, accessed as ", name_of(asked));
}
}  // namespace detail

namespace {

std::size_t checked_bytes(const Shape& shape, DType dtype) {
  const auto n = static_cast<std::size_t>(shape.numel());
  if (n > std::numeric_limits<std::size_t>::max() / 2 / size_of(dtype))
    fail<MemoryError>("tensor", "shape ", shape.to_string(), " of ", name_of(dtype),
                      " does not fit into memory");
  return n * size_of(dtype);
}

// The value of element i of a weight tensor, exact.
template <class Byte>
float load(const BasicTensorView<Byte>& t, std::int64_t i) {
  switch (t.dtype()) {
    case DType::f32: return t.template data<float>()[i];
    case DType::f16: return static_cast<float>(t.template data<Float16>()[i]);
    default: return static_cast<float>(t.template data<BFloat16>()[i]);
  }
}

template <class To>
Tensor convert(ConstTensorView from) {
  Tensor out = Tensor::empty(from.shape(), dtype_of<To>);
  To* p = out.data<To>();
  for (std::int64_t i = 0; i < from.numel(); ++i) p[i] = To(load(from, i));
  return out;
}

}  // namespace

Tensor Tensor::borrow(std::shared_ptr<const void> owner, void* data, const Shape& shape, DType dtype) {
  if (reinterpret_cast<std::uintptr_t>(data) % size_of(dtype) != 0)
    fail<ArgumentError>("tensor", "borrowed elements are not aligned to ", size_of(dtype), " bytes");
  Tensor t;
  t.owner_ = std::move(owner);
  t.view_ = TensorView(data, dtype, shape);
  return t;
}

Tensor Tensor::empty(const Shape& shape, DType dtype) {
  auto memory = allocate_bytes(checked_bytes(shape, dtype), "tensor");
  std::byte* data = memory.get();
  return borrow(std::move(memory), data, shape, dtype);
}

Tensor Tensor::zeros(const Shape& shape, DType dtype) {
  auto memory = allocate_zeroed(checked_bytes(shape, dtype), "tensor");
  std::byte* data = memory.get();
  return borrow(std::move(memory), data, shape, dtype);
}

Tensor Tensor::clone() const {
  Tensor out = empty(shape(), dtype());
  if (nbytes() > 0) std::memcpy(out.view_.raw(), view_.raw(), nbytes());
  return out;
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == this->dtype()) return *this;
  if (!is_weight_dtype(dtype) || !is_weight_dtype(this->dtype()))
    fail<UnsupportedError>("tensor", "cannot convert ", name_of(this->dtype()), " to ", name_of(dtype));
  switch (dtype) {
    case DType::f32: return convert<float>(view());
    case DType::f16: return convert<Float16>(view());
    default: return convert<BFloat16>(view());
  }
}

}  // namespace gpt
