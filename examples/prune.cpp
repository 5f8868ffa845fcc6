// gpt-prune: writes a GPT-2 checkpoint with fewer weights, heads or layers.
#include <algorithm>
#include <chrono>
#include <exception>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gpt/gpt.h>

#include "output_place.h"
#include "program.h"

namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

struct Request {
  std::string model, output_dir;
  std::optional<double> sparsity;
  std::optional<std::string> pattern, method;
  std::optional<std::int64_t> drop_layers, drop_heads;
  std::vector<std::int64_t> layers;
  std::vector<gpt::HeadId> heads;
  std::optional<std::string> calibration_file, evaluate_file;
  int threads = 0;
  bool json = false;
};

constexpr const char* kFooter = R"(Examples:
  gpt-prune --model gpt2 --output-dir sparse --sparsity 0.5 --method wanda --calibration-file corpus.txt
  gpt-prune --model gpt2 --output-dir sparse --pattern 2:4 --evaluate-file test.txt
  gpt-prune --model gpt2 --output-dir short --drop-layers 3 --calibration-file corpus.txt --evaluate-file test.txt
  gpt-prune --model gpt2 --output-dir narrow --drop-heads 24 --calibration-file corpus.txt --evaluate-file test.txt

Weights that go become zeros: the file keeps its size. Layers and heads that go make the checkpoint smaller, and faster by their part.
Layers go first, then heads, whose numbers are those of the layers that are left, then weights.
gpt-finetune brings much of what was lost back. Embeddings and head stay.)";

std::vector<gpt::HeadId> parse_heads(const std::string& text) {
  std::vector<gpt::HeadId> heads;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size()), colon = text.find(':', begin);
    if (colon >= end)
      throw program::UsageError(
          gpt::concat("--heads: ", program::in_quotes(text), " is no list of LAYER:HEAD, such as 0:3,5:1"));
    heads.push_back(
        {program::parse_number<std::int64_t>("--heads", text.substr(begin, colon - begin), 0),
         program::parse_number<std::int64_t>("--heads", text.substr(colon + 1, end - colon - 1), 0)});
    begin = end + 1;
  }
  return heads;
}

void add_options(program::App& app, Request& r) {
  app.add_text("--model", r.model, "PATH", "Hugging Face directory or GGUF file of a GPT-2 checkpoint")
      .required();
  app.add_text("--output-dir", r.output_dir, "DIR",
               "Directory to write, made if it is not there; must not hold another model")
      .required();
  app.add_number("--sparsity", r.sparsity, "Part of the weights of every output that become zero, 0 to 1");
  app.add_text("--pattern", r.pattern, "N:M", "Or keep N of every M inputs in a row, such as 2:4")
      .sets("[prune] the pattern");
  app.add_text(
      "--method", r.method, "NAME",
      "What a weight matters: magnitude, or wanda, which weighs it by its inputs in a text (magnitude)");
  app.add_number("--drop-layers", r.drop_layers,
                 "Leave out so many layers, those that change least of a text", 1);
  app.add_text_function(
      "--layers",
      [&r](const std::string& text) { r.layers = program::parse_numbers<std::int64_t>("--layers", text, 0); },
      "NUMBERS", "Or leave these out: 3,5 (the first is 0)");
  app.add_number("--drop-heads", r.drop_heads,
                 "Leave out so many heads of the attention, those that the loss of a text depends on least",
                 1);
  app.add_text_function(
      "--heads", [&r](const std::string& text) { r.heads = parse_heads(text); }, "LIST",
      "Or leave these out: 0:3,5:1 are head 3 of layer 0 and head 1 of layer 5");
  app.add_text(
         "--calibration-file", r.calibration_file, "FILE",
         "A text like those the model will see, for wanda, --drop-layers and --drop-heads; may be a pipe")
      .is_input();
  app.add_text("--evaluate-file", r.evaluate_file, "FILE",
               "Report the perplexity of this text before and after")
      .is_input();
  app.add_number("--threads", r.threads, "Threads at most, 0 = one per CPU (0)", 0);
  app.add_flag("--json", r.json, "Print one JSON object instead of lines");
}

/// What is to be done, judged without a look at the files.
struct Plan {
  std::optional<gpt::PruneOptions> weights;
  bool reads_text = false;  // for calibration
};

Plan plan_of(const Request& r) {
  Plan plan;
  if (r.sparsity && r.pattern)
    throw program::UsageError("--sparsity and --pattern are both given: expected one");
  if (r.drop_layers && !r.layers.empty())
    throw program::UsageError("--drop-layers and --layers are both given: expected one");
  if (r.drop_heads && !r.heads.empty())
    throw program::UsageError("--drop-heads and --heads are both given: expected one");
  const bool weights = r.sparsity || r.pattern, layers = r.drop_layers || !r.layers.empty(),
             heads = r.drop_heads || !r.heads.empty();
  if (!weights && !layers && !heads)
    throw program::UsageError(
        "nothing is to be pruned: expected --sparsity, --pattern, --drop-layers, --layers, --drop-heads or "
        "--heads");
  if (r.method && !weights) throw program::UsageError("--method needs --sparsity or --pattern");
  if (weights) {
    plan.weights.emplace();
    const std::string name = r.method.value_or("magnitude");
    const auto method = gpt::prune_method_from_name(name);
    if (!method)
      throw program::UsageError(
          gpt::concat("--method: ", program::in_quotes(name), " is none of magnitude, wanda"));
    plan.weights->method = *method;
    plan.reads_text = *method == gpt::PruneMethod::kWanda;
    if (r.sparsity && !(*r.sparsity >= 0 && *r.sparsity <= 1))
      throw program::UsageError(gpt::concat("--sparsity is ", *r.sparsity, ", expected 0 to 1"));
    plan.weights->sparsity = r.sparsity.value_or(0);
    if (r.pattern) {
      const std::size_t colon = r.pattern->find(':');
      const auto wrong = program::UsageError(gpt::concat("--pattern: ", program::in_quotes(*r.pattern),
                                                         " is not N:M with 1 <= N < M, such as 2:4"));
      if (colon == std::string::npos) throw wrong;
      const auto parts = program::parse_numbers<std::int64_t>(
          "--pattern", r.pattern->substr(0, colon) + "," + r.pattern->substr(colon + 1), 1);
      if (parts.size() != 2 || parts[1] <= parts[0]) throw wrong;
      plan.weights->keep = parts[0];
      plan.weights->of_each = parts[1];
    }
  }
  for (const auto& [option, given] : {std::pair("--method wanda", plan.reads_text),
                                      {"--drop-layers", r.drop_layers.has_value()},
                                      {"--drop-heads", r.drop_heads.has_value()}}) {
    if (given && !r.calibration_file)
      throw program::UsageError(gpt::concat(option, " needs --calibration-file"));
    plan.reads_text = plan.reads_text || given;
  }
  if (r.calibration_file && !plan.reads_text)
    throw program::UsageError("--calibration-file is for --method wanda, --drop-layers and --drop-heads");
  return plan;
}

/// The layers that change least, by number.
std::vector<std::int64_t> least_important(const std::vector<double>& importance, std::int64_t count) {
  if (count >= std::ssize(importance))
    gpt::fail<gpt::ArgumentError>("--drop-layers", "is ", count, ", but the network has ", importance.size(),
                                  " layers, of which one must stay");
  std::vector<std::int64_t> order(importance.size());
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::ranges::stable_sort(order, [&](std::int64_t a, std::int64_t b) {
    return importance[static_cast<std::size_t>(a)] < importance[static_cast<std::size_t>(b)];
  });
  order.resize(static_cast<std::size_t>(count));
  std::ranges::sort(order);
  return order;
}

/// The heads that matter least; every layer keeps one.
std::vector<gpt::HeadId> least_important(std::vector<gpt::HeadImportance> heads, std::int64_t count,
                                         const gpt::Gpt2Config& config) {
  const std::int64_t most = std::ssize(heads) - config.n_layer;
  if (count > most)
    gpt::fail<gpt::ArgumentError>("--drop-heads", "is ", count, ", but the network has ", heads.size(),
                                  " heads, of which ", config.n_layer, " must stay, one in each layer");
  std::ranges::stable_sort(heads, {}, &gpt::HeadImportance::importance);
  std::vector<std::int64_t> left;
  for (std::int64_t layer = 0; layer < config.n_layer; ++layer) left.push_back(config.heads_of(layer));
  std::vector<gpt::HeadId> dropped;
  for (const gpt::HeadImportance& h : heads) {
    std::int64_t& of_layer = left[static_cast<std::size_t>(h.id.layer)];
    if (std::ssize(dropped) == count || of_layer == 1) continue;
    --of_layer;
    dropped.push_back(h.id);
  }
  std::ranges::sort(dropped);
  return dropped;
}

/// What f gives; its errors name the option instead of the function.
template <class F>
auto of_option(std::string_view option, const F& f) {
  const auto rest = [](const std::exception& error) {
    const std::string_view message = error.what();
    return std::string(message.substr(message.find("] ") + 2));
  };
  try {
    return f();
  } catch (const gpt::ArgumentError& error) {
    gpt::fail<gpt::ArgumentError>(option, rest(error));
  } catch (const gpt::UnsupportedError& error) {
    gpt::fail<gpt::UnsupportedError>(option, rest(error));
  }
}

struct Report {
  std::vector<gpt::PrunedMatrix> matrices;
  std::vector<double> importance;          // of the layers that were there
  std::vector<std::int64_t> dropped;       // layers
  std::int64_t layers = 0;                 // that are left
  std::vector<gpt::HeadImportance> heads;  // of the layers that are left
  std::vector<gpt::HeadId> dropped_heads;
  std::optional<double> perplexity_before, perplexity_after;
  double seconds = 0;

  double sparsity() const {
    std::int64_t zeros = 0, weights = 0;
    for (const gpt::PrunedMatrix& m : matrices) {
      zeros += m.zeros;
      weights += m.weights;
    }
    return static_cast<double>(zeros) / static_cast<double>(weights);
  }
};

std::string to_json(const Report& r) {
  Json object{{"sparsity", r.sparsity()}, {"n_layer", r.layers}, {"dropped_layers", r.dropped}};
  object["layer_importance"] = r.importance;
  object["dropped_heads"] = Json::array();
  for (const gpt::HeadId& id : r.dropped_heads) object["dropped_heads"].push_back({id.layer, id.head});
  object["head_importance"] = Json::array();
  for (const auto& [id, importance] : r.heads)
    object["head_importance"].push_back({{"layer", id.layer}, {"head", id.head}, {"importance", importance}});
  object["perplexity_before"] = r.perplexity_before ? Json(*r.perplexity_before) : Json();
  object["perplexity_after"] = r.perplexity_after ? Json(*r.perplexity_after) : Json();
  object["matrices"] = Json::array();
  for (const gpt::PrunedMatrix& m : r.matrices)
    object["matrices"].push_back({{"name", m.name}, {"zeros", m.zeros}, {"weights", m.weights}});
  object["seconds"] = r.seconds;
  object["peak_rss_bytes"] = program::peak_rss_bytes();
  return object.dump() + "\n";
}

std::string to_lines(const Report& r) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(4);
  for (std::size_t i = 0; i < r.importance.size(); ++i)
    out << "layer " << i << " changes its input by " << r.importance[i]
        << (std::ranges::binary_search(r.dropped, static_cast<std::int64_t>(i)) ? ", dropped\n" : "\n");
  for (const auto& [id, importance] : r.heads)
    if (std::ranges::binary_search(r.dropped_heads, id))
      out << "head " << id.head << " of layer " << id.layer << " matters " << importance << ", dropped\n";
  out << program::counted(r.layers, "layer") << "; " << std::setprecision(2) << 100 * r.sparsity()
      << " % of the weights in their matrices are zero\n";
  if (r.perplexity_after)
    out << std::setprecision(4) << "perplexity " << *r.perplexity_before << " before, " << *r.perplexity_after
        << " after\n";
  return out.str();
}

int prune(const Request& request) {
  Plan plan = plan_of(request);
  const gpt::DirectoryLock lock(request.output_dir);
  program::require_no_other_model("--output-dir", request.output_dir, request.model);
  gpt::set_num_threads(request.threads);
  const program::Interrupt interrupt;
  std::string text, evaluated;
  if (request.calibration_file) text = program::read_all(*request.calibration_file);
  if (request.evaluate_file) evaluated = program::read_all(*request.evaluate_file);
  const auto start = Clock::now();
  program::refuse_classifier(request.model);
  gpt::Model model =
      gpt::Model::load(request.model, {.on_warning = program::warn, .stop = interrupt.token()});
  const auto ids_of = [&](const std::string& file, const std::string& content) {
    auto ids = model.tokenizer().encode(content);
    if (ids.size() < 2)
      gpt::fail<gpt::ArgumentError>(program::input_name(file), "has ",
                                    program::counted(std::ssize(ids), "token"), ", expected 2 or more");
    return ids;
  };
  std::vector<gpt::TokenId> calibration, test;
  if (request.calibration_file) calibration = ids_of(*request.calibration_file, text);
  if (request.evaluate_file) test = ids_of(*request.evaluate_file, evaluated);
  const auto perplexity = [&]() -> std::optional<double> {
    if (test.empty()) return std::nullopt;
    return gpt::perplexity(model.network(), test, {.stop = interrupt.token()}).value();
  };
  Report report;
  report.perplexity_before = perplexity();
  if (request.drop_layers) {
    report.importance = gpt::layer_importance(model.network(), calibration, interrupt.token());
    report.dropped = least_important(report.importance, *request.drop_layers);
  } else {
    report.dropped = request.layers;
  }
  if (!report.dropped.empty())
    model.network() = of_option(request.drop_layers ? "--drop-layers" : "--layers",
                                [&] { return gpt::without_layers(model.network(), report.dropped); });
  if (request.drop_heads) {
    report.heads = gpt::head_importance(model.network(), calibration, interrupt.token());
    report.dropped_heads = least_important(report.heads, *request.drop_heads, model.config());
  } else {
    report.dropped_heads = request.heads;
  }
  if (!report.dropped_heads.empty())
    model.network() = of_option(request.drop_heads ? "--drop-heads" : "--heads",
                                [&] { return gpt::without_heads(model.network(), report.dropped_heads); });
  if (plan.weights) {
    plan.weights->calibration = calibration;
    plan.weights->stop = interrupt.token();
    report.matrices = gpt::prune(model.network(), *plan.weights);
  } else {
    report.matrices = gpt::count_zeros(model.network());
  }
  report.layers = model.config().n_layer;
  report.perplexity_after = perplexity();
  model.save(request.output_dir, {.stop = interrupt.token()});
  report.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (request.json)
    program::Output().write(to_json(report));
  else
    std::cerr << to_lines(report);
  return program::kDone;
}

}  // namespace

int main(int argc, char** argv) {
  Request request;
  program::App app("gpt-prune", "Writes a GPT-2 checkpoint with fewer weights, heads or layers.", kFooter);
  add_options(app, request);
  return program::run(app, argc, argv, [&request] { return prune(request); });
}
