#include "gpt/ops/softmax.h"

#include "core/float_environment.h"
#include "gpt/core/math.h"
#include "gpt/core/parallel.h"
#include "ops/checks.h"

namespace gpt::ops {
namespace {

constexpr std::int64_t kWorkPerExp = 16;  // multiply-adds that cost about as much as an exponential

void require_rows(std::string_view op, std::string_view operand, ConstTensorView x, std::size_t results) {
  require_rank(op, operand, x, 2, "[R, C]");
  require_dtype(op, operand, x, DType::f32);
  if (results != static_cast<std::size_t>(x.dim(0)))
    fail<ShapeError>(op, "room for ", results, " results, expected R = ", x.dim(0));
}

}  // namespace

void softmax(ConstTensorView x, TensorView y) {
  require_rank("softmax", "x", x, 2, "[R, C]");
  require_dtype("softmax", "x", x, DType::f32);
  require_dtype("softmax", "y", y, DType::f32);
  require_shape("softmax", "y", y, x.shape(), "the shape of x");
  const kernels::KernelTable& table = kernels::table();
  const float* in = x.data<float>();
  float* out = y.data<float>();
  parallel_for(
      x.dim(0), grain_for(kWorkPerExp * x.dim(1)),
      [&](std::int64_t begin, std::int64_t end) noexcept { table.softmax(in, out, x.dim(1), begin, end); });
}

void log_sum_exp(ConstTensorView x, std::span<double> out) {
  require_rows("log_sum_exp", "x", x, out.size());
  const kernels::KernelTable& table = kernels::table();
  const float* in = x.data<float>();
  parallel_for(x.dim(0), grain_for(kWorkPerExp * x.dim(1)),
               [&](std::int64_t begin, std::int64_t end) noexcept {
                 for (std::int64_t r = begin; r < end; ++r) {
                   float max = 0;
                   double sum = 0;
                   table.exp_sum(in + r * x.dim(1), x.dim(1), &max, &sum, 0, 1);
                   out[static_cast<std::size_t>(r)] = static_cast<double>(max) + math::log(sum);
                 }
               });
}

void token_log_probs(ConstTensorView logits, std::span<const TokenId> ids, std::span<double> out) {
  require_rows("token_log_probs", "logits", logits, out.size());
  if (ids.size() != out.size())
    fail<ShapeError>("token_log_probs", ids.size(), " token ids for ", out.size(), " rows of logits");
  const std::int64_t v = logits.dim(1);
  for (std::size_t r = 0; r < ids.size(); ++r)
    if (ids[r] < 0 || ids[r] >= v)
      fail<ArgumentError>("token_log_probs", "token id ", ids[r], " at row ", r, " is outside [0, ", v, ")");
  const DefaultFloatEnvironment environment;
  log_sum_exp(logits, out);
  const float* x = logits.data<float>();
  for (std::size_t r = 0; r < ids.size(); ++r)
    out[r] = static_cast<double>(x[static_cast<std::int64_t>(r) * v + ids[r]]) - out[r];
}

}  // namespace gpt::ops
