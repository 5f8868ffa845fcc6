// gpt-convert: GPT-2 checkpoints from one format into another.
#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <gpt/gpt.h>

#include "output_place.h"
#include "program.h"

namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;
namespace fs = std::filesystem;

enum class Format { kHuggingFace, kPyTorch, kGguf, kLlmc };
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kFormats = {
    {{"hf", "Hugging Face"}, {"pytorch", "PyTorch"}, {"gguf", "GGUF"}, {"llmc", "llm.c"}}};
std::string_view name_of(Format format) { return kFormats[static_cast<std::size_t>(format)].first; }
std::string_view title_of(Format format) { return kFormats[static_cast<std::size_t>(format)].second; }

struct Request {
  std::string model, output;
  std::optional<std::string> adapter, to, dtype, tokenizer;
  bool no_tied_head = false;
  int threads = 0;
  bool json = false;
};

constexpr const char* kFooter = R"(Examples:
  gpt-convert --model gpt2 --output gpt2.gguf                   # for llama.cpp
  gpt-convert --model gpt2 --output gpt2-q8_0.gguf --dtype q8_0
  gpt-convert --model gpt2-Q4_K_M.gguf --output gpt2-again
  gpt-convert --model gpt2_124M.bin --tokenizer gpt2 --output gpt2-again
  gpt-convert --model gpt2 --adapter tuned --output merged
  gpt-convert --model old --output new                          # from pytorch_model.bin to model.safetensors

What --model is, it tells by itself: a directory with model.safetensors, or else with pytorch_model.bin (of PyTorch 1.6 or
later; nothing in it is executed), single or in shards; a GGUF file; a checkpoint of llm.c.)";

void add_options(program::App& app, Request& request) {
  app.add_text("--model", request.model, "PATH", "Directory or file to read").required();
  app.add_text("--output", request.output, "PATH",
               "Directory or file to write; a directory must not hold another model")
      .required();
  app.add_text("--adapter", request.adapter, "DIR", "Directory of a PEFT adapter to merge into the model");
  app.add_text("--to", request.to, "NAME",
               "hf, gguf or llmc (gguf for an output called *.gguf, llmc for *.bin, else hf)");
  app.add_text(
      "--dtype", request.dtype, "NAME",
      "float32, float16 or bfloat16; in GGUF also q8_0 or q4_0 (as they are, but for hf, int8 and int4 as "
      "float32; in GGUF, biases, layer norms and positions are always float32; in llm.c, float32 or "
      "bfloat16)");
  app.add_text("--tokenizer", request.tokenizer, "DIR",
               "Directory of the tokenizer, for a model that comes without or has another; its special "
               "tokens become the model's");
  app.add_flag("--no-tied-head", request.no_tied_head,
               "Leave a head that is the token embedding out of GGUF: smaller, but for llama.cpp from March "
               "2025 on");
  app.add_number("--threads", request.threads, "Threads at most, 0 = one per CPU (0)", 0);
  app.add_flag("--json", request.json, "Print one JSON object instead of a line");
}

/// The command line, judged without a look at the files.
struct Plan {
  Format to = Format::kHuggingFace;
  std::optional<gpt::DType> dtype;
  std::optional<gpt::GgufWeights> gguf;
};

Format output_format(const Request& request) {
  if (!request.to) {
    const fs::path extension = fs::path(request.output).extension();
    return extension == ".gguf" ? Format::kGguf : extension == ".bin" ? Format::kLlmc : Format::kHuggingFace;
  }
  for (const Format format : {Format::kHuggingFace, Format::kGguf, Format::kLlmc})
    if (*request.to == name_of(format)) return format;
  throw program::UsageError(
      gpt::concat("--to: ", program::in_quotes(*request.to), " is none of hf, gguf, llmc"));
}

Plan plan_of(const Request& request) {
  Plan plan{output_format(request), {}, {}};
  if (request.no_tied_head && plan.to != Format::kGguf)
    throw program::UsageError("--no-tied-head: only GGUF has a choice");
  if (request.tokenizer && plan.to == Format::kLlmc)
    throw program::UsageError("--tokenizer: a checkpoint of llm.c holds none");
  if (!request.dtype) return plan;
  const auto refuse = [&](std::string_view expected) {
    throw program::UsageError(
        gpt::concat("--dtype: ", program::in_quotes(*request.dtype), " is none of ", expected));
  };
  if (plan.to == Format::kGguf) {
    plan.gguf = gpt::gguf_weights_from_name(*request.dtype);
    if (!plan.gguf) refuse("float32, float16, bfloat16, q8_0, q4_0");
  } else {
    plan.dtype = gpt::dtype_from_name(*request.dtype);
    if (!plan.dtype || !gpt::is_weight_dtype(*plan.dtype)) refuse("float32, float16, bfloat16");
    if (plan.to == Format::kLlmc && *plan.dtype == gpt::DType::f16)
      refuse("float32, bfloat16, which llm.c has");
  }
  return plan;
}

Format input_format(const fs::path& path) {
  if (fs::is_directory(path)) {
    const auto has = [&](const char* name) { return fs::exists(fs::symlink_status(path / name)); };
    const bool pickled = has("pytorch_model.bin") || has("pytorch_model.bin.index.json");
    const bool safe = has("model.safetensors") || has("model.safetensors.index.json");
    return pickled && !safe ? Format::kPyTorch : Format::kHuggingFace;
  }
  std::array<char, 4> start{};
  std::ifstream(path, std::ios::binary).read(start.data(), start.size());
  const std::string_view magic(start.data(), start.size());
  if (magic == "GGUF" || path.extension() == ".gguf") return Format::kGguf;
  if (magic.starts_with("PK") || magic.starts_with('\x80'))
    gpt::fail<gpt::ArgumentError>(path.string(),
                                  "is a file of PyTorch: give the directory it is in, with its config.json");
  constexpr std::string_view kLlmcMagic("\xc6\xd7\x34\x01", 4);  // 20240326
  if (fs::is_regular_file(path) && magic != kLlmcMagic && path.extension() != ".bin")
    gpt::fail<gpt::ArgumentError>(path.string(),
                                  "is neither a GGUF file nor a checkpoint of llm.c; of a Hugging Face "
                                  "checkpoint give the directory");
  return Format::kLlmc;
}

gpt::Model load(Format from, const Request& request, const gpt::LoadOptions& options) {
  switch (from) {
    case Format::kPyTorch: return gpt::Model::load_pytorch(request.model, options);
    case Format::kLlmc: return gpt::load_llmc(request.model, options);
    default: return gpt::Model::load(request.model, options);
  }
}

/// transformers does not read int8 and int4 as libgpt lays them out: they become the floats that they stand for.
bool dequantize(gpt::Model& model) {
  bool any = false;
  model.network().visit_matrices([&any](const std::string&, gpt::ops::Weight& weight) {
    if (!weight.quantized()) return;
    weight = {.in = weight.in,
              .out = weight.out,
              .layout = weight.file_layout,
              .file_layout = weight.file_layout,
              .values = gpt::ops::dequantize(weight, weight.file_layout)};
    any = true;
  });
  return any;
}

/// In the place of the model's own, if it has one, and with the special tokens that texts now begin and end with.
void take_tokenizer(gpt::Model& model, const std::string& directory) {
  model.set_tokenizer(gpt::load_tokenizer(directory, program::warn));
  const std::int64_t tokens = model.tokenizer().vocab_size(), rows = model.config().vocab_size;
  if (tokens > rows)
    program::warn(gpt::concat("[", directory, "] the tokenizer has ", tokens,
                              " tokens, the network only vocab_size = ", rows));
  gpt::align_special_tokens(model, program::warn);
}

/// Of what generation_config.json says, GGUF holds the end of text, beside a tokenizer alone, and llm.c nothing.
void warn_of_lost_settings(const gpt::Model& model, Format to) {
  const bool ends = to == Format::kGguf && model.has_tokenizer();
  if (to == Format::kGguf && !ends && !model.config().eos_token_id.empty())
    program::warn("config.json: eos_token_id has no place in GGUF without a tokenizer and is left out");
  if (to == Format::kHuggingFace || !model.generation_config()) return;
  constexpr std::string_view kWithoutEffect[] = {"_from_model_config", "bos_token_id", "pad_token_id",
                                                 "transformers_version"};
  for (const std::string& key : model.generation_config()->unread_keys())
    if (std::find(std::begin(kWithoutEffect), std::end(kWithoutEffect), key) == std::end(kWithoutEffect) &&
        !(ends && key == "eos_token_id"))
      program::warn(gpt::concat("generation_config.json: ", key, " has no place in ", title_of(to),
                                " and is left out"));
}

/// GGUF and llm.c have no place for rates of dropout: a model that is read from them and trained has GPT-2's.
void warn_of_lost_dropout(const gpt::Gpt2Config& c, Format to) {
  if (to == Format::kHuggingFace) return;
  const gpt::Gpt2Config read;
  std::string lost;
  bool several = false;
  for (const auto& [name, rate] : {std::pair("resid_pdrop", &gpt::Gpt2Config::resid_pdrop),
                                   {"embd_pdrop", &gpt::Gpt2Config::embd_pdrop},
                                   {"attn_pdrop", &gpt::Gpt2Config::attn_pdrop}}) {
    if (c.*rate == read.*rate) continue;
    several = !lost.empty();
    lost += gpt::concat(several ? ", " : "", name, " ", c.*rate);
  }
  if (!lost.empty())
    program::warn(gpt::concat(lost, several ? " have" : " has", " no place in ", title_of(to),
                              ", where dropout is ", read.resid_pdrop));
}

/// llm.c's when none is asked for: what it holds without loss, and no more.
gpt::DType llmc_dtype(const gpt::Model& model) {
  bool bf16 = true;
  model.network().visit_matrices([&bf16](const std::string&, const gpt::ops::Weight& weight) {
    bf16 = bf16 && weight.format() == gpt::ops::WeightFormat::bf16;
  });
  return bf16 ? gpt::DType::bf16 : gpt::DType::f32;
}

void save(const gpt::Model& model, const Plan& plan, const Request& request, std::stop_token stop) {
  if (plan.to == Format::kGguf)
    gpt::save_gguf(model, request.output,
                   {.weights = plan.gguf, .write_tied_head = !request.no_tied_head, .stop = stop});
  else if (plan.to == Format::kLlmc)
    gpt::save_llmc(model, request.output, plan.dtype ? *plan.dtype : llmc_dtype(model), stop);
  else
    model.save(request.output, {.dtype = plan.dtype, .stop = stop});
}

std::uintmax_t bytes_of(Format format, const fs::path& path) {
  if (format != Format::kHuggingFace) return fs::file_size(path);
  return fs::file_size(path / "model.safetensors");
}

std::int64_t parameters_of(const gpt::Model& model) {
  struct Count {
    std::int64_t sum = 0;
    void operator()(const std::string&, const gpt::Tensor&, const gpt::Shape& shape) { sum += shape.numel(); }
    void operator()(const std::string&, const gpt::ops::Weight& w) { sum += w.in * w.out; }
  } count;
  model.network().visit(count);
  return count.sum;
}

int convert(const Request& request) {
  const Plan plan = plan_of(request);
  std::optional<gpt::DirectoryLock> lock;
  if (plan.to == Format::kHuggingFace) {
    lock.emplace(request.output);
    program::require_no_other_model("--output", request.output, request.model);
  } else {
    std::vector<std::string> read{request.adapter.value_or(""), request.tokenizer.value_or("")};
    std::error_code error;
    if (fs::is_directory(request.model, error))
      read.push_back(request.model);  // a file may be converted in place
    program::require_not_read("--output", request.output, read);
  }
  gpt::set_num_threads(request.threads);
  const program::Interrupt interrupt;
  const auto start = Clock::now();
  const Format from = input_format(request.model);
  program::refuse_classifier(request.model);
  gpt::Model model = load(from, request, {.on_warning = program::warn, .stop = interrupt.token()});
  if (request.adapter)
    gpt::merge_adapter(*gpt::load_adapter(model.network(), *request.adapter, program::warn), model.network());
  if (request.tokenizer) take_tokenizer(model, *request.tokenizer);
  if (!model.has_tokenizer() && plan.to != Format::kLlmc)
    program::warn("there is no tokenizer: --tokenizer DIR gives one");
  warn_of_lost_settings(model, plan.to);
  if (plan.to == Format::kHuggingFace && dequantize(model))
    program::warn(gpt::concat("int8 and int4 matrices are written as ",
                              gpt::name_of(plan.dtype.value_or(gpt::DType::f32)),
                              ", which transformers reads"));
  save(model, plan, request, interrupt.token());
  warn_of_lost_dropout(model.config(), plan.to);  // of a file that is there
  const std::chrono::duration<double> seconds = Clock::now() - start;
  const std::uintmax_t bytes = bytes_of(plan.to, request.output);
  if (request.json) {
    const Json object = {
        {"from", name_of(from)}, {"to", name_of(plan.to)},     {"parameters", parameters_of(model)},
        {"bytes", bytes},        {"seconds", seconds.count()}, {"peak_rss_bytes", program::peak_rss_bytes()}};
    program::Output().write(object.dump() + "\n");
  } else {
    std::ostringstream line;
    line << std::fixed << std::setprecision(2) << request.output << ": " << parameters_of(model)
         << " parameters, from " << title_of(from) << " to " << title_of(plan.to) << ", " << bytes
         << " bytes, in " << seconds.count() << " s\n";
    std::cerr << line.str();
  }
  return program::kDone;
}

}  // namespace

int main(int argc, char** argv) {
  Request request;
  program::App app("gpt-convert", "Converts GPT-2 checkpoints between Hugging Face, GGUF and llm.c.",
                   kFooter);
  add_options(app, request);
  return program::run(app, argc, argv, [&request] { return convert(request); });
}
