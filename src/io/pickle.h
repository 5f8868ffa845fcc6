// The pickles in what torch.save writes of a state dict. Nothing is executed: of Python's objects only those that a dict of
// tensors consists of are known, and they become plain data.
// Format: Lib/pickletools.py of CPython, protocols 2 to 5; torch/_utils.py, _rebuild_tensor_v2.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gpt {

/// A tensor as its pickle describes it: a view into a storage.
struct PickledTensor {
  std::string storage_type;                    // "FloatStorage"
  std::string storage;                         // its key: the member data/<key> of the archive
  std::uint64_t storage_size = 0, offset = 0;  // in elements
  std::vector<std::int64_t> shape, stride;
};

/// The tensors of a pickled dict, in its order. Throws UnsupportedError naming a global other than collections.OrderedDict,
/// torch._utils._rebuild_tensor_v2, _rebuild_parameter and torch's storage types, and an unknown opcode; FormatError naming
/// `source` for all that is not a dict of tensors, or ends early, and for a key of more than 1000 bytes or that is there twice.
std::vector<std::pair<std::string, PickledTensor>> read_state_dict(std::string_view pickle,
                                                                   std::string_view source);

}  // namespace gpt
