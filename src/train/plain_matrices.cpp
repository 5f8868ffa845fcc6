#include "train/plain_matrices.h"

#include <string>

#include "gpt/core/error.h"

namespace gpt {

void make_plain(Gpt2& network, std::string_view where,
                const std::function<bool(std::string_view name)>& learns) {
  network.visit_matrices([&](const std::string& name, ops::Weight& weight) {
    if (weight.layout == ops::WeightLayout::kPanels) {
      if (learns && !learns(name)) return;  // it is only read
      fail<UnsupportedError>(where, "matrix ", name, " is ", weight.quantized() ? "quantized" : "packed",
                             ", and cannot be trained: load the original checkpoint, unpacked");
    }
    if (weight.layout == weight.file_layout) return;
    weight.values = ops::unpack(weight, weight.file_layout);
    weight.layout = weight.file_layout;
  });
}

}  // namespace gpt
