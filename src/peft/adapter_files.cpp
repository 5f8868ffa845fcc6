#include "peft/adapter_files.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "core/directory.h"
#include "core/file_status.h"
#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/error.h"
#include "peft/modules.h"

namespace gpt::peft {
namespace {

constexpr std::array<std::string_view, 11> kHarmless{
    "peft_type",        "auto_mapping", "base_model_name_or_path", "revision",       "task_type",
    "inference_mode",   "peft_version", "megatron_core",           "layers_pattern", "runtime_config",
    "qalora_group_size"};

/// Whether a value says nothing.
bool is_default(const HfConfig& config, std::string_view key) {
  const std::string value = config.get_json(key).value_or("null");
  constexpr std::array<std::string_view, 7> kNothing{"null", "false", "0", "0.0", "\"none\"", "[]", "{}"};
  return std::ranges::find(kNothing, value) != kNothing.end();
}

}  // namespace

std::string peft_type_of(const HfConfig& config) {
  auto type = config.get_string("peft_type");
  if (!type) fail<FormatError>(config.source(), "has no peft_type");
  return std::move(*type);
}

HfConfig read_config(const std::filesystem::path& directory, SavedModules modules) {
  require_directory(directory, "an adapter's");
  HfConfig config = HfConfig::load(directory / kConfigFile);
  if (is_default(config, "modules_to_save")) return config;
  const auto saved = config.get_string_list("modules_to_save").value_or(std::vector<std::string>());
  for (const std::string& module : saved)
    if (std::ranges::find(modules, module) == modules.end())
      fail<UnsupportedError>(config.source(), "modules_to_save has ", module, ", which is not supported here",
                             module == "score" ? ": it is the adapter of a classifier" : "");
  return config;
}

HfConfig read_config(const std::filesystem::path& directory, std::string_view peft_type) {
  HfConfig config = read_config(directory);
  if (const std::string type = peft_type_of(config); type != peft_type)
    fail<UnsupportedError>(config.source(), "peft_type is ", type, ", expected ", peft_type);
  return config;
}

void check_config(const HfConfig& config, std::span<const std::string_view> unsupported,
                  const OnWarning& on_warning) {
  for (const std::string_view key : unsupported)
    if (!is_default(config, key))
      fail<UnsupportedError>(config.source(), key, " is ", *config.get_json(key), ", which is not supported");
  for (const std::string& key : config.unread_keys()) {
    if (std::ranges::find(kHarmless, key) != kHarmless.end() || is_default(config, key)) continue;
    if (on_warning) on_warning(concat("[", config.source(), "] unknown key ", key, " has no effect"));
  }
}

std::optional<HfConfig> pattern_of(const HfConfig& config, std::string_view key) {
  if (is_default(config, key)) return std::nullopt;
  auto patterns = config.get_object(key);
  if (!patterns) return std::nullopt;
  for (const std::string& name : patterns->keys()) {
    if (name.find_first_of("^$*+?()[]{}|\\") != name.npos)
      fail<UnsupportedError>(config.source(), key, " has the expression ", name,
                             ", expected a module's name or its last parts");
    if (!patterns->get_float(name)) fail<FormatError>(config.source(), key, ": ", name, " is no number");
  }
  return patterns;
}

std::vector<std::string> names_in(const HfConfig& config, std::string_view key,
                                  std::vector<std::string> otherwise) {
  if (config.is_null(key)) return otherwise;
  if (config.is_list(key)) return *config.get_string_list(key);
  return {*config.get_string(key)};
}

HfConfig new_config(std::string_view peft_type, std::string_view base_model_name_or_path) try {
  HfConfig config{std::string(kConfigFile)};
  config.set_string("peft_type", peft_type);
  config.set_string("task_type", "CAUSAL_LM");
  if (base_model_name_or_path.empty())
    config.set_null("base_model_name_or_path");
  else
    config.set_string("base_model_name_or_path", base_model_name_or_path);
  config.set_bool("inference_mode", true);
  return config;
} catch (...) {
  rethrow_with_memory_errors("adapter");
}

void read_tensors(const std::filesystem::path& directory, nn::Adapter& adapter, SavedModules modules) {
  const SafetensorsFile file(directory / kWeightsFile);
  std::vector<std::pair<Tensor*, Tensor>> all;
  std::set<std::string, std::less<>> used;
  adapter.visit([&](const std::string& name, Tensor& tensor, const Shape& shape) {
    const TensorInfo& info = file.info(name);
    if (!info.dtype || !is_weight_dtype(*info.dtype))
      fail<FormatError>(file.source(), "tensor ", name, " is ", info.stored_dtype,
                        ", expected F32, F16 or BF16");
    if (info.shape != shape)
      fail<ShapeError>(file.source(), "tensor ", name, " has shape ", info.shape.to_string(), ", expected ",
                       shape.to_string());
    all.emplace_back(&tensor, file.tensor(name));
    used.insert(name);
  });
  for (const std::string_view module : modules)
    for (const std::string_view prefix : {kPrefix, kPromptPrefix})
      used.insert(concat(prefix, module, ".weight"));
  for (const std::string& name : file.names())
    if (!used.contains(name))
      fail<FormatError>(file.source(), "tensor ", name, " belongs to no part of the adapter that ",
                        kConfigFile, " describes, for a network with ", adapter.shape().n_layer, " layers");
  for (auto& [place, tensor] : all)  // what learns is float32 or bfloat16
    *place = tensor.dtype() == DType::f16 ? tensor.to(DType::f32) : std::move(tensor);
}

void save_adapter(const std::filesystem::path& directory, const HfConfig& config, const nn::Adapter& adapter,
                  std::optional<DType> dtype) {
  with_memory_errors(directory.native(), [&] {
    const DefaultFloatEnvironment environment;
    if (dtype && !is_weight_dtype(*dtype))
      fail<UnsupportedError>("adapter", "weights cannot be ", name_of(*dtype),
                             ", expected float32, float16 or bfloat16");
    std::vector<NamedTensor> tensors;
    // Shown to be read alone.
    const_cast<nn::Adapter&>(adapter).visit([&](const std::string& name, Tensor& tensor, const Shape&) {
      tensors.push_back({name, tensor.view(), dtype});
    });
    OutputDirectory output(directory);
    AtomicFiles files;
    PendingFile& weights = files.add(directory / kWeightsFile);
    files.add(directory / kConfigFile).write(config.dump());
    write_safetensors(weights, tensors, {{"format", "pt"}});
    files.commit();
    output.keep();
  });
}

}  // namespace gpt::peft
