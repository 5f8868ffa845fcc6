#include "models/input_squares.h"

#include <algorithm>

#include "gpt/core/arena.h"
#include "gpt/core/parallel.h"

namespace gpt {

/// Adds the rows of x, one after another: the order of a sum does not depend on how many threads there are.
void InputSquares::add(const ops::Weight& weight, ConstTensorView x) {
  Sums& sums = sums_[&weight];
  const std::int64_t k = x.dim(1), rows = x.dim(0);
  sums.squares.resize(static_cast<std::size_t>(k));
  sums.rows += rows;
  const float* values = x.data<float>();
  double* squares = sums.squares.data();
  constexpr std::int64_t kGrain = 64;
  parallel_for(k, kGrain, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t i = begin; i < end; ++i) {
        const auto v = static_cast<double>(values[r * k + i]);
        squares[i] += v * v;
      }
  });
}

std::vector<float> InputSquares::means(const ops::Weight& weight) const {
  std::vector<float> out;
  if (const auto found = sums_.find(&weight); found != sums_.end())
    for (const double square : found->second.squares)
      out.push_back(static_cast<float>(square / static_cast<double>(found->second.rows)));
  return out;
}

InputSquares InputSquares::over(const Gpt2& network, std::span<const TokenId> text,
                                const std::stop_token& stop,
                                const std::function<void(std::int64_t done)>& on_tokens) {
  InputSquares squares;
  Arena arena;
  const auto length = static_cast<std::size_t>(network.config().n_positions);
  for (std::size_t done = 0; done < text.size();) {
    const std::size_t count = std::min(length, text.size() - done);
    arena.reset();
    const Chunk chunk{text.subspan(done, count)};
    const ForwardOutput out =
        network.forward({&chunk, 1}, arena,
                        {.logits = LogitsRows::kNone,
                         .final_hidden = true,
                         .stop = stop,
                         .on_product = [&](const ops::Weight& w, ConstTensorView x) { squares.add(w, x); }});
    squares.add(network.head(), out.final_hidden);  // without a product with all of the vocabulary
    done += count;
    if (on_tokens) on_tokens(static_cast<std::int64_t>(done));
  }
  return squares;
}

}  // namespace gpt
