// gpt-quantize: writes a GPT-2 checkpoint with int8 or int4 weights.
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <gpt/gpt.h>

#include "output_place.h"
#include "program.h"

namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

struct Request {
  std::string model;
  std::string output_dir;
  std::string format = "int8";
  std::int64_t group_size = gpt::ops::QuantizationFormat{}.group_size;
  bool asymmetric = false;
  bool weight_only = false;
  bool no_embeddings = false;
  std::vector<std::string> overrides;
  std::optional<std::string> calibration_file;
  int threads = 0;
  bool json = false;
};

constexpr const char* kFooter = R"(Examples:
  gpt-quantize --model gpt2 --output-dir gpt2-int8
  gpt-quantize --model gpt2 --output-dir gpt2-int4 --format int4 --group-size 32 --calibration-file corpus.txt
  gpt-quantize --model gpt2 --output-dir gpt2-mixed --format int4 --override wte.weight=int8

The new checkpoint holds everything the old one has, and loads memory-mapped like it. Embeddings are the token
embedding and the head, which most GPT-2 checkpoints have in common; position embeddings stay as they are unless
--override wpe.weight=FORMAT asks for them.)";

void add_options(program::App& app, Request& request) {
  app.add_text("--model", request.model, "PATH", "Hugging Face directory or GGUF file of a GPT-2 checkpoint")
      .required();
  app.add_text("--output-dir", request.output_dir, "DIR",
               "Directory to write, made if it is not there; must not hold another model")
      .required();
  app.add_text("--format", request.format, "NAME", "int8 or int4 (int8)");
  app.add_number("--group-size", request.group_size,
                 "Weights that share a scale: 32, 64, 128, 256, or 0 = all inputs of an output (64)");
  app.add_flag("--asymmetric", request.asymmetric, "Give the groups of int4 zero points");
  app.add_flag("--weight-only", request.weight_only,
               "Compute with activations in float32 instead of integers");
  app.add_flag("--no-embeddings", request.no_embeddings, "Leave embeddings and head as they are");
  app.add_texts("--override", request.overrides, "MATRIX=FORMAT",
                "Another format for one matrix: int8, int4, or none to leave it; may be repeated");
  app.add_text("--calibration-file", request.calibration_file, "FILE",
               "A text like those the model will see, to weigh errors by; may be a pipe")
      .is_input();
  app.add_number("--threads", request.threads, "Threads at most, 0 = one per CPU (0)", 0);
  app.add_flag("--json", request.json, "Print one JSON object instead of a table");
}

/// `expected` is what the option takes.
gpt::ops::QuantizationFormat format_of(std::string_view option, const std::string& name,
                                       std::string_view expected, const Request& request) {
  gpt::ops::QuantizationFormat f;
  if (name == "int4")
    f.format = gpt::ops::WeightFormat::int4;
  else if (name != "int8")
    throw program::UsageError(
        gpt::concat(option, ": ", program::in_quotes(name), " is no format, expected ", expected));
  f.group_size = request.group_size;
  f.symmetric = !request.asymmetric || name == "int8";
  f.weight_only = request.weight_only;
  return f;
}

// What needs no checkpoint to be judged.
gpt::QuantizeOptions options_of(const Request& request) {
  gpt::QuantizeOptions options;
  options.format = format_of("--format", request.format, "int8 or int4", request);
  if (request.asymmetric && request.format == "int8")
    throw program::UsageError("--asymmetric: int8 is symmetric, only int4 can have zero points");
  options.quantize_embeddings = !request.no_embeddings;
  for (const std::string& text : request.overrides) {
    const std::size_t equals = text.find('=');
    if (equals == text.npos || equals == 0)
      throw program::UsageError(
          gpt::concat("--override: ", program::in_quotes(text), " is not MATRIX=FORMAT"));
    const std::string matrix = text.substr(0, equals), format = text.substr(equals + 1);
    for (const auto& [other, other_format] : options.overrides)
      if (other == matrix) throw program::UsageError(gpt::concat("--override: ", matrix, " is given twice"));
    options.overrides.emplace_back(matrix, std::nullopt);
    if (format != "none")
      options.overrides.back().second = format_of("--override", format, "int8, int4 or none", request);
  }
  program::check_usage([&] { gpt::ops::check(options.format); });
  return options;
}

std::string describe(const gpt::ops::QuantizationFormat& f) {
  return gpt::concat(gpt::ops::name_of(f.format), "/", f.group_size, f.symmetric ? "" : " asymmetric",
                     f.weight_only ? " weight-only" : "");
}

struct Report {
  std::vector<gpt::QuantizedMatrix> matrices;
  std::uintmax_t bytes_before = 0, bytes_after = 0;  // of the weights' files
  std::int64_t calibration_tokens = 0;
  double load_s = 0, quantize_s = 0, save_s = 0;
};

std::string to_json(const Report& report) {
  Json object;
  object["matrices"] = Json::array();
  for (const gpt::QuantizedMatrix& m : report.matrices)
    object["matrices"].push_back({{"name", m.name},
                                  {"format", gpt::ops::name_of(m.format.format)},
                                  {"group_size", m.format.group_size},
                                  {"symmetric", m.format.symmetric},
                                  {"weight_only", m.format.weight_only},
                                  {"bytes_before", m.bytes_before},
                                  {"bytes_after", m.bytes_after},
                                  {"relative_error", m.relative_error}});
  object["bytes_before"] = report.bytes_before;
  object["bytes_after"] = report.bytes_after;
  object["calibration_tokens"] = report.calibration_tokens;
  object["timing"] = {
      {"load_s", report.load_s}, {"quantize_s", report.quantize_s}, {"save_s", report.save_s}};
  object["peak_rss_bytes"] = program::peak_rss_bytes();
  return object.dump() + "\n";
}

std::string to_table(const Report& report) {
  std::ostringstream out;
  out << std::fixed;
  for (const gpt::QuantizedMatrix& m : report.matrices)
    out << std::left << std::setw(28) << m.name << ' ' << std::setw(20) << describe(m.format) << std::right
        << std::setw(10) << m.bytes_after << " of " << std::setw(10) << m.bytes_before
        << " bytes, relative error " << std::setprecision(5) << m.relative_error << '\n';
  out << std::setprecision(2) << "weights: " << report.bytes_after << " of " << report.bytes_before
      << " bytes; loaded in " << report.load_s << " s, quantized in " << report.quantize_s << " s, saved in "
      << report.save_s << " s\n";
  return out.str();
}

std::uintmax_t weight_bytes(const std::filesystem::path& path) {
  if (std::filesystem::is_regular_file(path)) return std::filesystem::file_size(path);  // GGUF
  std::uintmax_t bytes = 0;
  for (const std::filesystem::path& file : gpt::Checkpoint(path).files())
    bytes += std::filesystem::file_size(file);
  return bytes;
}

int quantize(const Request& request) {
  gpt::QuantizeOptions options = options_of(request);
  const gpt::DirectoryLock lock(request.output_dir);
  program::require_no_other_model("--output-dir", request.output_dir, request.model);
  gpt::set_num_threads(request.threads);
  const auto seconds_since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  const program::Interrupt interrupt;
  std::string text;
  if (request.calibration_file) text = program::read_all(*request.calibration_file);
  options.stop = interrupt.token();
  Report report;
  auto start = Clock::now();
  program::refuse_classifier(request.model);
  gpt::Model model =
      gpt::Model::load(request.model, {.on_warning = program::warn, .stop = interrupt.token()});
  report.load_s = seconds_since(start);
  std::vector<gpt::TokenId> calibration;
  if (request.calibration_file) {
    calibration = model.tokenizer().encode(text);
    if (calibration.empty())
      gpt::fail<gpt::ArgumentError>(program::input_name(*request.calibration_file), "has no tokens");
  }
  options.calibration = calibration;
  report.calibration_tokens = static_cast<std::int64_t>(calibration.size());
  if (::isatty(STDERR_FILENO) != 0)
    options.on_progress = [](const gpt::QuantizeProgress& p) {
      std::cerr << '\r' << (p.matrix.empty() ? "tokens read: " : "matrices quantized: ") << p.done << " of "
                << p.total << (p.done == p.total ? "\n" : "");
    };
  start = Clock::now();
  report.matrices = gpt::quantize(model.network(), options);
  if (report.matrices.empty()) gpt::fail<gpt::ArgumentError>(request.model, "has no matrix left to quantize");
  report.quantize_s = seconds_since(start);
  start = Clock::now();
  report.bytes_before = weight_bytes(request.model);
  model.save(request.output_dir, {.stop = interrupt.token()});
  report.bytes_after = weight_bytes(request.output_dir);
  report.save_s = seconds_since(start);
  if (request.json)
    program::Output().write(to_json(report));
  else
    std::cerr << to_table(report);
  return program::kDone;
}

}  // namespace

int main(int argc, char** argv) {
  Request request;
  program::App app("gpt-quantize", "Writes a GPT-2 checkpoint with int8 or int4 weights.", kFooter);
  add_options(app, request);
  return program::run(app, argc, argv, [&request] { return quantize(request); });
}
