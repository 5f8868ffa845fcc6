// The directory of an adapter: adapter_config.json and adapter_model.safetensors.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/io/hf_config.h"
#include "gpt/io/safetensors.h"
#include "gpt/nn/adapter.h"

namespace gpt::peft {

inline constexpr std::string_view kConfigFile = "adapter_config.json";
inline constexpr std::string_view kWeightsFile = "adapter_model.safetensors";

using OnWarning = std::function<void(std::string_view message)>;

/// What a configuration says that it is of. Throws FormatError.
std::string peft_type_of(const HfConfig& config);

/// Modules that a directory may hold whole (modules_to_save), because the caller reads them.
using SavedModules = std::span<const std::string_view>;

/// Reads adapter_config.json, and checks that it is of this method, if one is given. Throws IoError, FormatError,
/// UnsupportedError naming another peft_type, or a module of modules_to_save that is none of `modules`.
HfConfig read_config(const std::filesystem::path& directory, SavedModules modules = {});
HfConfig read_config(const std::filesystem::path& directory, std::string_view peft_type);

/// The keys that every method has: those that must be at their defaults are, those that mean nothing here pass. Throws
/// UnsupportedError naming a key of `unsupported` that is anything but null, false, 0, "none" or empty.
void check_config(const HfConfig& config, std::span<const std::string_view> unsupported,
                  const OnWarning& on_warning);

/// An object of the configuration that gives each of some modules, by name, a number; none when it is empty or null. Throws
/// FormatError for anything else, UnsupportedError for a name that is an expression.
std::optional<HfConfig> pattern_of(const HfConfig& config, std::string_view key);

/// The list of names, or the one name, of a key, or what it is without. Throws FormatError.
std::vector<std::string> names_in(const HfConfig& config, std::string_view key,
                                  std::vector<std::string> otherwise);

/// f(), which makes an adapter of a configuration: a value that no adapter can have is a FormatError of the file.
template <class F>
decltype(auto) from_file(const HfConfig& config, const F& f) {
  return with_memory_errors(config.source(), [&] {
    try {
      return f();
    } catch (const ArgumentError& error) {
      fail<FormatError>(config.source(), "is of no adapter: ", error.what());
    }
  });
}

/// A new configuration with what all methods write.
HfConfig new_config(std::string_view peft_type, std::string_view base_model_name_or_path);

/// Reads all tensors of an adapter. Throws IoError, FormatError naming a tensor that is missing, has no float type, or belongs
/// to nothing, nor to one of `modules`; ShapeError. `adapter` then is as it was.
void read_tensors(const std::filesystem::path& directory, nn::Adapter& adapter, SavedModules modules = {});

/// Writes both files, both or none of them. Throws as Model::save.
void save_adapter(const std::filesystem::path& directory, const HfConfig& config, const nn::Adapter& adapter,
                  std::optional<DType> dtype);

}  // namespace gpt::peft
