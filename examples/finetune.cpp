// gpt-finetune: trains a GPT-2 checkpoint, or a new network, on a text or on samples of questions and answers.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gpt/gpt.h>

#include "adapter_options.h"
#include "objective_options.h"
#include "output_place.h"
#include "program.h"
#include "training_records.h"
#include "training_report.h"

namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

struct Request {
  std::optional<std::string> model, config, tokenizer;
  std::string train_file;
  std::optional<std::string> validation_file;
  std::optional<double> validation_fraction;
  std::string output_dir;
  std::int64_t block_size = 0;  // 0: as long as the network takes, at most 1024
  std::optional<std::string> chat_template;
  bool skip_bad_lines = false;
  std::optional<float> resid_pdrop, embd_pdrop, attn_pdrop;
  std::string lr_scheduler_type = "linear";
  gpt::TrainingArguments arguments;
  program::LoraRequest lora;
  program::ObjectiveRequest objective;
  std::optional<std::string> replay_file;
  std::optional<double> replay_fraction;
  std::string report_to = "all";
  std::optional<std::string> logging_dir;
  std::vector<std::string> sample_prompts;
  std::optional<std::int64_t> sample_tokens, eval_batch_size;  // unset: 64, and as TrainingArguments
  gpt::DType save_dtype = gpt::DType::f32;
  bool resume = false;
  int threads = 0;
  bool json = false;
};

constexpr std::int64_t kSampleTokens = 64;

constexpr const char* kFooter = R"(Examples:
  gpt-finetune --model gpt2 --train-file corpus.txt --validation-fraction 0.1 --output-dir tuned
  gpt-finetune --model gpt2 --train-file dialogues.jsonl --output-dir tuned --num-train-epochs 2 --learning-rate 2e-5
  gpt-finetune --model gpt2 --use-peft --lora-r 16 --train-file corpus.txt --output-dir adapter --learning-rate 3e-4
  gpt-finetune --model tuned --loss-type sigmoid --train-file preferences.jsonl --output-dir preferred
  gpt-finetune --config config.json --tokenizer gpt2 --train-file corpus.txt --output-dir new --max-steps 1000

A file named *.jsonl holds samples, one JSON object a line: {"prompt", "completion"}, {"messages"} or {"text"}; any other
file is one text. Options have the names and meaning of transformers' TrainingArguments, and the defaults in brackets. <|endoftext|> in a file is that token.
OUTPUT_DIR gets the tuned checkpoint (with --use-peft an adapter, which other programs take with --adapter), and checkpoint-<step> directories, one also when interrupted, from which --resume goes on
to the same bits; of the run metrics.jsonl, report.html with curves and samples, and runs/ for TensorBoard; of the data cache/, their tokens, which the next
run maps: neither a text nor samples need fit into memory (pairs for --loss-type do). While a run is at work there, a second one is refused.)";

/// "a, b or c".
std::string scheduler_names() {
  const auto names = gpt::lr_scheduler_names();
  std::string list(names.front());
  for (const std::string_view name : names.subspan(1))
    list += gpt::concat(name == names.back() ? " or " : ", ", name);
  return list;
}

void add_options(program::App& app, Request& r) {
  gpt::TrainingArguments& a = r.arguments;
  const auto count = [&](const char* name, auto& value, const char* what, std::int64_t least = 0) {
    app.add_number(name, value, what, least);
  };
  app.add_text("--model", r.model, "PATH", "Hugging Face directory or GGUF file of a GPT-2 checkpoint");
  app.add_text("--config", r.config, "FILE", "config.json of a new network with random weights");
  app.add_text("--tokenizer", r.tokenizer, "DIR",
               "Directory of the tokenizer (that of --model); its special tokens become the model's");
  app.add_text("--train-file", r.train_file, "FILE", "What to learn").required();
  app.add_text("--validation-file", r.validation_file, "FILE", "What to evaluate on");
  app.add_number("--validation-fraction", r.validation_fraction,
                 "Or the last part of the training data, 0 to 1");
  app.add_text("--output-dir", r.output_dir, "DIR", "Where the result goes").required();
  count("--block-size", r.block_size, "Tokens of a sample (what the network takes, at most 1024)", 1);
  app.add_text("--chat-template", r.chat_template, "NAME",
               "Form of messages: " + program::listed(gpt::ChatTemplate::names()) + " (zephyr)");
  app.add_flag("--skip-bad-lines", r.skip_bad_lines, "Leave out lines of a .jsonl file that are no samples");
  app.add_number("--learning-rate", a.learning_rate, "At its height (5e-5)");
  app.add_text("--lr-scheduler-type", r.lr_scheduler_type, "NAME", scheduler_names() + " (linear)");
  count("--warmup-steps", a.warmup_steps, "Updates in which the rate rises (0)");
  app.add_number("--warmup-ratio", a.warmup_ratio, "The same, as a part of all updates (0)");
  app.add_number("--min-lr-rate", a.min_lr_rate, "Where cosine_with_min_lr and warmup_stable_decay end (0)");
  count("--num-decay-steps", a.num_decay_steps, "Updates in which warmup_stable_decay falls, at the end");
  app.add_number("--num-train-epochs", a.num_train_epochs, "How often all is learned (3)");
  app.add_number("--max-steps", a.max_steps, "Updates, whatever the epochs (-1)", -1);
  count("--per-device-train-batch-size", a.per_device_train_batch_size, "Samples of a batch (8)", 1);
  count("--per-device-eval-batch-size", r.eval_batch_size, "Samples of a batch of evaluation (8)", 1);
  count("--max-tokens-per-batch", a.max_tokens_per_batch,
        "Pack samples into batches of so many tokens instead", 1);
  count("--gradient-accumulation-steps", a.gradient_accumulation_steps, "Batches of an update (1)", 1);
  app.add_number("--weight-decay", a.weight_decay, "Of matrices (0)");
  app.add_number("--adam-beta1", a.adam_beta1, "(0.9)");
  app.add_number("--adam-beta2", a.adam_beta2, "(0.999)");
  app.add_number("--adam-epsilon", a.adam_epsilon, "(1e-8)");
  app.add_number("--max-grad-norm", a.max_grad_norm, "Gradients are clipped to this norm, 0 = not (1)");
  app.add_number("--label-smoothing-factor", a.label_smoothing_factor, "Of the loss, 0 to 1 (0)");
  app.add_number("--ema-decay", a.ema_decay,
                 "Evaluate and keep a moving average of the weights, which keeps so much a step (0)");
  app.add_flag("--gradient-checkpointing", a.gradient_checkpointing,
               "Compute activations again instead of keeping them: less memory, a third more time");
  app.add_flag("--bf16", a.bf16,
               "Keep weights and activations as bfloat16, and learn in float32: less memory");
  program::add_lora_options(app, r.lora);
  program::add_layer_options(app, a);
  program::add_objective_options(app, r.objective);
  app.add_text("--replay-file", r.replay_file, "FILE",
               "What was learned before, of which samples are mixed in");
  app.add_number("--replay-fraction", r.replay_fraction, "Of them for each new sample (0.25)");
  app.add_number("--seed", a.seed, "Of the order of samples, and of new weights (42)");
  app.add_number("--resid-pdrop", r.resid_pdrop, "Dropout rate (the checkpoint's)");
  app.add_number("--embd-pdrop", r.embd_pdrop, "Dropout rate (the checkpoint's)");
  app.add_number("--attn-pdrop", r.attn_pdrop, "Dropout rate (the checkpoint's)");
  count("--logging-steps", a.logging_steps, "Updates between two records (10)", 1);
  count("--eval-steps", a.eval_steps, "Updates between two evaluations, 0 = once an epoch (0)");
  count("--save-steps", a.save_steps, "Updates between two checkpoints, 0 = only at the end (500)");
  count("--save-total-limit", a.save_total_limit,
        "Checkpoints that stay, the last and the best among them (all)", 1);
  app.add_text_function(
      "--save-dtype",
      [&r](const std::string& name) {
        const auto dtype = gpt::dtype_from_name(name);
        if (!dtype || !gpt::is_weight_dtype(*dtype))
          throw program::UsageError("--save-dtype: " + program::in_quotes(name) +
                                    " is none of float32, bfloat16, float16");
        r.save_dtype = *dtype;
      },
      "NAME", "What the weights of the result are rounded to: float32, bfloat16, float16 (float32)");
  app.add_flag("--load-best-model-at-end", a.load_best_model_at_end,
               "Keep the weights of the smallest evaluation loss");
  count("--early-stopping-patience", a.early_stopping_patience,
        "Stop after so many evaluations without a smaller loss, 0 = never (0)");
  app.add_text("--report-to", r.report_to, "NAME",
               "Beside metrics.jsonl: all, tensorboard, html or none (all)");
  app.add_text("--logging-dir", r.logging_dir, "DIR", "Where TensorBoard's files go (OUTPUT_DIR/runs)");
  app.add_texts(
      "--sample-prompt", r.sample_prompts, "TEXT",
      "A text that the report shows continued before and after training; may be repeated (from the data)");
  count("--sample-tokens", r.sample_tokens, "New tokens of such a continuation, 0 = none (64)");
  app.add_flag("--resume", r.resume, "Go on from the last checkpoint in OUTPUT_DIR; without one, begin");
  app.add_number("--threads", r.threads, "Threads at most, 0 = one per CPU (0)", 0);
  app.add_flag("--json", r.json, "Print one JSON object with the result");
}

bool reports_to(const Request& r, std::string_view what) {
  return r.report_to == "all" || r.report_to == what;
}

std::string file_name(const std::filesystem::path& path) {
  const auto whole = std::filesystem::absolute(path).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

/// Samples, one a line; else it is text.
bool holds_samples(const std::string& path) { return path.ends_with(".jsonl"); }

/// Refuses what would be trained as text, braces and all, though its name says that it is none.
void check_name(std::string_view option, const std::string& path) {
  std::string extension = std::filesystem::path(path).extension().string();
  for (char& c : extension)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (!holds_samples(path) && (extension == ".jsonl" || extension == ".json" || extension == ".ndjson"))
    throw program::UsageError(gpt::concat(
        option, ": ", path, " is no text by its name, expected *.jsonl for samples, one JSON object a line"));
}

gpt::ChatTemplate chat_template_of(const Request& r) {
  return r.chat_template ? gpt::ChatTemplate::by_name(*r.chat_template) : gpt::ChatTemplate();
}

// What needs no file to be judged.
void check(Request& r) {
  if (r.model.has_value() == r.config.has_value())
    throw program::UsageError(r.model ? "--model and --config are both given: expected one"
                                      : "neither --model nor --config is given: expected one");
  if (r.config && r.lora.use_peft)
    throw program::UsageError("--use-peft needs --model: what an adapter is for must be kept, too");
  if (r.config && !r.tokenizer) throw program::UsageError("--config needs --tokenizer");
  if (r.validation_file && r.validation_fraction)
    throw program::UsageError("--validation-file and --validation-fraction are both given: expected one");
  if (const auto& f = r.validation_fraction; f && !(*f > 0 && *f < 1))
    throw program::UsageError(gpt::concat("--validation-fraction: ", *f, " is not between 0 and 1"));
  for (const auto& [name, rate] : {std::pair("--resid-pdrop", r.resid_pdrop),
                                   {"--embd-pdrop", r.embd_pdrop},
                                   {"--attn-pdrop", r.attn_pdrop}})
    if (rate && !(*rate >= 0 && *rate < 1))
      throw program::UsageError(gpt::concat(name, " is ", *rate, ", expected 0 or more, and less than 1"));
  const bool validates = r.validation_file || r.validation_fraction;
  const gpt::TrainingArguments& a = r.arguments;
  for (const auto& [option, given] : {std::pair("--load-best-model-at-end", a.load_best_model_at_end),
                                      {"--early-stopping-patience", a.early_stopping_patience > 0},
                                      {"--eval-steps", a.eval_steps > 0},
                                      {"--per-device-eval-batch-size", r.eval_batch_size.has_value()}})
    if (given && !validates)
      throw program::UsageError(gpt::concat(option, " needs --validation-file or --validation-fraction"));
  r.arguments.per_device_eval_batch_size = r.eval_batch_size.value_or(a.per_device_eval_batch_size);
  if (a.max_tokens_per_batch && a.per_device_train_batch_size)
    throw program::UsageError(
        "--max-tokens-per-batch and --per-device-train-batch-size are both given: expected one");
  if (a.warmup_steps > 0 && a.warmup_ratio > 0)
    throw program::UsageError("--warmup-steps and --warmup-ratio are both given: expected one");
  const auto scheduler = gpt::lr_scheduler_from_name(r.lr_scheduler_type);
  if (!scheduler)
    throw program::UsageError(gpt::concat("--lr-scheduler-type: ", program::in_quotes(r.lr_scheduler_type),
                                          " is unknown, expected ", scheduler_names()));
  r.arguments.lr_scheduler_type = *scheduler;
  if (*scheduler == gpt::LrScheduler::kWarmupStableDecay && a.num_decay_steps == 0)
    throw program::UsageError("--lr-scheduler-type warmup_stable_decay needs --num-decay-steps");
  check_name("--train-file", r.train_file);
  if (r.validation_file) check_name("--validation-file", *r.validation_file);
  constexpr std::string_view kReports[] = {"all", "tensorboard", "html", "none"};
  if (std::find(std::begin(kReports), std::end(kReports), r.report_to) == std::end(kReports))
    throw program::UsageError(gpt::concat("--report-to: ", program::in_quotes(r.report_to),
                                          " is unknown, expected all, tensorboard, html or none"));
  if (r.logging_dir && !reports_to(r, "tensorboard"))
    throw program::UsageError(
        gpt::concat("--logging-dir is for TensorBoard, which --report-to ", r.report_to, " leaves out"));
  for (const auto& [option, given] : {std::pair("--sample-prompt", !r.sample_prompts.empty()),
                                      {"--sample-tokens", r.sample_tokens.has_value()}})
    if (given && !reports_to(r, "html"))
      throw program::UsageError(
          gpt::concat(option, " is for the report, which --report-to ", r.report_to, " leaves out"));
  for (const std::string& prompt : r.sample_prompts)
    if (prompt.empty()) throw program::UsageError("--sample-prompt is empty: expected a text");
  r.arguments.output_dir = r.output_dir;
  r.arguments.resume_from_checkpoint = r.resume;
  program::check_objective(r.objective);
  if (r.objective.learns_preferences())
    for (const std::string& file :
         {r.train_file, r.validation_file.value_or(r.train_file), r.replay_file.value_or(r.train_file)})
      if (!holds_samples(file))
        throw program::UsageError(gpt::concat("--loss-type needs files named *.jsonl, found ", file));
  if (r.objective.learns_preferences() && (r.chat_template || r.skip_bad_lines))
    throw program::UsageError("--chat-template and --skip-bad-lines are not for preferences (--loss-type)");
  if (r.replay_file) check_name("--replay-file", *r.replay_file);
  if (r.replay_fraction && !r.replay_file) throw program::UsageError("--replay-fraction needs --replay-file");
  if (const double f = r.replay_fraction.value_or(0.25); !(f > 0 && f <= 100))
    throw program::UsageError(gpt::concat("--replay-fraction is ", f, ", expected more than 0, at most 100"));
  if (r.objective.ewc_file) check_name("--ewc-file", *r.objective.ewc_file);
  r.arguments.lora = program::lora_config(r.lora, r.model.value_or(""));
  program::check_usage([&] { r.arguments.validate(); });
  program::check_usage([&] { chat_template_of(r); });
  const bool has_samples =
      holds_samples(r.train_file) || (r.validation_file && holds_samples(*r.validation_file));
  for (const auto& [option, given] :
       {std::pair("--chat-template", r.chat_template.has_value()), {"--skip-bad-lines", r.skip_bad_lines}})
    if (given && !has_samples)
      throw program::UsageError(gpt::concat(option, " needs a file named *.jsonl, found ", r.train_file));
}

gpt::Model make_model(const Request& r, std::stop_token stop) {
  std::shared_ptr<const gpt::Tokenizer> tokenizer;
  if (r.tokenizer) tokenizer = gpt::load_tokenizer(*r.tokenizer, program::warn);
  std::optional<gpt::Model> model;
  bool other = false;  // than the model's own: the tokenizer, or an id
  if (r.model) {
    model = gpt::Model::load(*r.model, {.on_warning = program::warn, .stop = stop});
    if (tokenizer) {
      other = !model->has_tokenizer() || model->tokenizer().fingerprint() != tokenizer->fingerprint();
      model->set_tokenizer(tokenizer);
    }
  } else {
    gpt::HfConfig file = gpt::HfConfig::load(*r.config);
    gpt::Gpt2 network(gpt::Gpt2Config::from_hf(file, program::warn));
    gpt::initialize(network, r.arguments.seed);
    model.emplace(std::move(network), std::move(file), tokenizer);
  }
  const gpt::Gpt2Config& c = model->config();
  model->network().set_dropout(r.resid_pdrop.value_or(c.resid_pdrop), r.embd_pdrop.value_or(c.embd_pdrop),
                               r.attn_pdrop.value_or(c.attn_pdrop));
  if (model->tokenizer().vocab_size() > c.vocab_size)
    gpt::fail<gpt::ArgumentError>("tokenizer", "has ", model->tokenizer().vocab_size(),
                                  " tokens, expected at most vocab_size = ", c.vocab_size);
  if (!tokenizer) return std::move(*model);  // its own ids stay as their maker set them
  gpt::align_special_tokens(*model, [&other](std::string_view message) {
    program::warn(message);
    other = true;
  });
  if (r.lora.use_peft && other)
    program::warn(gpt::concat("an adapter holds no tokenizer and no ids, and ", *r.model,
                              " keeps its own: gpt-convert --model ", *r.model, " --adapter ", r.output_dir,
                              " --tokenizer ", *r.tokenizer, " --output DIR writes a model with these"));
  return std::move(*model);
}

struct Data {
  std::unique_ptr<gpt::Dataset> train, validation, replay;
  std::optional<gpt::JsonlCounts> train_lines, validation_lines;
};

template <class D>
Data split(D all, const std::optional<double>& fraction) {
  Data data;
  if (fraction) {
    auto [train, validation] = all.split(*fraction);
    data.train = std::make_unique<D>(std::move(train));
    data.validation = std::make_unique<D>(std::move(validation));
  } else {
    data.train = std::make_unique<D>(std::move(all));
  }
  return data;
}

std::int64_t block_size_of(const Request& r, const gpt::Model& model) {
  return r.block_size > 0 ? r.block_size : std::min<std::int64_t>(1024, model.config().n_positions);
}

std::filesystem::path cache_of(const Request& r) { return std::filesystem::path(r.output_dir) / "cache"; }

/// `preferences`: pairs, one a line.
Data read_file(const Request& r, const std::string& path, const std::optional<double>& fraction,
               const gpt::Model& model, std::stop_token stop, bool preferences) {
  const std::int64_t block = block_size_of(r, model);
  if (block > model.config().n_positions)
    throw gpt::ArgumentError(
        gpt::concat("--block-size: ", block, " is more than n_positions = ", model.config().n_positions));
  if (!holds_samples(path))
    return split(
        gpt::TextDataset::from_file(
            path, model.tokenizer(),
            {.block_size = block, .parse_special_tokens = true, .cache_dir = cache_of(r), .stop = stop}),
        fraction);
  if (preferences) {
    auto pairs =
        gpt::PreferenceDataset::from_file(path, model.tokenizer(), {.max_length = block + 1, .stop = stop});
    if (pairs.dropped() > 0)
      program::warn(
          gpt::concat(path, ": ", pairs.dropped(), " pairs left out: longer than ", block + 1, " tokens"));
    return split(std::move(pairs), fraction);
  }
  auto samples = gpt::JsonlDataset::from_file(path, model.tokenizer(),
                                              {.max_length = block + 1,
                                               .chat_template = chat_template_of(r),
                                               .skip_bad_lines = r.skip_bad_lines,
                                               .cache_dir = cache_of(r),
                                               .stop = stop});
  const gpt::JsonlCounts counts = samples.counts();
  if (counts.bad > 0)
    program::warn(gpt::concat(path, ": ", counts.bad, " of ", counts.lines,
                              " lines left out; the first: ", counts.first_bad));
  if (counts.dropped > 0)
    program::warn(gpt::concat(path, ": ", counts.dropped, " of ", counts.lines,
                              " samples left out: longer than ", block + 1, " tokens"));
  if (counts.truncated > 0)
    program::warn(gpt::concat(path, ": ", counts.truncated, " samples cut to ", block + 1, " tokens"));
  Data data = split(std::move(samples), fraction);
  data.train_lines = counts;
  return data;
}

Data read_data(const Request& r, const gpt::Model& model, std::stop_token stop) {
  const bool preferences = r.objective.learns_preferences();
  Data data = read_file(r, r.train_file, r.validation_fraction, model, stop, preferences);
  if (r.validation_file) {
    Data validation = read_file(r, *r.validation_file, std::nullopt, model, stop, preferences);
    data.validation = std::move(validation.train);
    data.validation_lines = std::move(validation.train_lines);
  }
  if (r.replay_file)
    data.replay = std::move(read_file(r, *r.replay_file, std::nullopt, model, stop, preferences).train);
  return data;
}

/// What --ewc-file holds; the parameters that are learned are there then, an adapter's, too.
std::unique_ptr<const gpt::Dataset> read_old(const Request& r, gpt::Model& model,
                                             gpt::TrainingArguments& arguments, std::stop_token stop) {
  if (!r.objective.ewc_file) return nullptr;
  if (arguments.lora) {
    gpt::Gpt2& network = model.network();
    network.attach(std::make_shared<gpt::LoraAdapter>(network, *arguments.lora, arguments.seed));
    arguments.lora.reset();
  }
  return std::move(read_file(r, *r.objective.ewc_file, std::nullopt, model, std::move(stop), false).train);
}

/// What a report says before anything is learned.
gpt::TrainingReport report_of(const Request& r, const gpt::Model& model, const Data& data,
                              std::stop_token stop) {
  const gpt::DatasetCounts train = count(*data.train, stop);
  const gpt::DatasetCounts validation =
      data.validation ? count(*data.validation, stop) : gpt::DatasetCounts();
  const std::int64_t learned = train.learned + validation.learned;
  gpt::TrainingReport page{
      .title = gpt::concat(r.model ? file_name(*r.model) : "A new network", " on ", file_name(r.train_file))};
  page.tables.push_back(program::data_table("Training data", r.train_file, train, learned, data.train_lines));
  if (data.validation)
    page.tables.push_back(program::data_table("Validation data", r.validation_file.value_or(r.train_file),
                                              validation, learned, data.validation_lines));
  std::int64_t parameters = 0;
  model.network().visit(
      [&](const std::string&, const gpt::Tensor&, const gpt::Shape& shape) { parameters += shape.numel(); });
  page.tables.emplace_back(table_of(model.config())).facts.push_back({"parameters", gpt::concat(parameters)});
  auto& arguments = page.tables.emplace_back(table_of(r.arguments)).facts;
  arguments.push_back({"block_size", gpt::concat(block_size_of(r, model))});
  arguments.push_back({"save_dtype", std::string(gpt::name_of(r.save_dtype))});
  arguments.push_back({"threads", gpt::concat(gpt::num_threads())});
  return page;
}

/// The report's file, when one is wanted.
std::optional<program::ReportFile> begin_report(const Request& r, const gpt::Model& model, const Data& data,
                                                std::stop_token stop) {
  if (!reports_to(r, "html")) return std::nullopt;
  return std::make_optional<program::ReportFile>(
      std::filesystem::path(r.output_dir) / "report.html", report_of(r, model, data, stop), model,
      program::make_sample_task(model, r.sample_prompts, data.validation ? *data.validation : *data.train,
                                r.sample_tokens.value_or(kSampleTokens), r.arguments.seed),
      stop);
}

program::TrainingRecords begin_records(const Request& r) {
  const std::filesystem::path output_dir = r.output_dir;
  std::optional<std::filesystem::path> tensorboard;
  if (reports_to(r, "tensorboard")) tensorboard = r.logging_dir.value_or(output_dir / "runs");
  return {output_dir / "metrics.jsonl", tensorboard, r.resume};
}

/// The result would take the place of a model that this run has not made, or its records that of what is learned.
void require_own_directory(const Request& r, const std::vector<std::string>& read) {
  const std::filesystem::path dir = r.output_dir;
  for (const char* name : {"metrics.jsonl", "report.html"})
    program::require_not_read("--output-dir", dir / name, read);
  for (const std::string& name : program::names_in(dir))
    if (name.starts_with("checkpoint-")) return;  // a run; the trainer says whose
  if (const std::string name = program::model_file_in(dir); !name.empty())
    gpt::fail<gpt::ArgumentError>(r.output_dir, "holds ", name,
                                  ", and no run to resume: choose another --output-dir");
}

/// The data's files. One that is missing or no text is to be told before others are read, and their tokens written.
std::vector<std::string> require_files(const Request& r) {
  std::vector<std::string> files{r.train_file};
  for (const auto& file : {r.validation_file, r.replay_file, r.objective.ewc_file})
    if (file) files.push_back(*file);
  for (const std::string& file : files) static_cast<void>(gpt::MappedFile(file).text());
  return files;
}

int finetune(Request& request) {
  check(request);
  const std::vector<std::string> read = require_files(request);
  const gpt::DirectoryLock lock(request.output_dir);  // to the end: all that is there is this run's
  require_own_directory(request, read);
  gpt::remove_temporaries(cache_of(request));
  gpt::set_num_threads(request.threads);
  const program::Interrupt interrupt;
  gpt::Model model = make_model(request, interrupt.token());
  request.arguments.initial_model = gpt::concat(model.network().fingerprint(interrupt.token()));
  gpt::TrainingArguments arguments = request.arguments;
  const std::unique_ptr<const gpt::Dataset> old = read_old(request, model, arguments, interrupt.token());
  const program::MadeObjective made =
      program::make_objective(request.objective, model, arguments, old.get(), interrupt.token());
  gpt::Trainer trainer = made.objective != nullptr ? gpt::Trainer(model, arguments, made.objective)
                                                   : gpt::Trainer(model, arguments);
  trainer.use_lock(lock);
  const Data data = read_data(request, model, interrupt.token());
  std::optional<gpt::ReplayDataset> mixed;
  if (data.replay)
    mixed.emplace(*data.train, *data.replay, request.replay_fraction.value_or(0.25), request.arguments.seed);
  auto report = begin_report(request, model, data, interrupt.token());
  program::TrainingRecords records = begin_records(request);
  const auto end_report = [&](const std::string& how, bool trained) {
    if (report) report->write(records.history(), how, trained);
  };
  const auto start = Clock::now();
  std::filesystem::path saved;
  gpt::TrainingCallbacks callbacks = records.callbacks();
  callbacks.on_save = [&](const std::filesystem::path& checkpoint) { saved = checkpoint; };
  callbacks.on_begin = [&](std::optional<std::int64_t> resumed) {
    if (request.resume && !resumed)
      std::cerr << request.output_dir << " holds no checkpoint: the run begins anew\n";
  };
  gpt::TrainingResult result;
  try {
    result = trainer.fit(mixed ? static_cast<const gpt::Dataset&>(*mixed) : *data.train,
                         data.validation.get(), callbacks, interrupt.token());
  } catch (const gpt::CancelledError&) {
    records.end_progress();
    if (saved.empty()) {
      std::cerr << "interrupted before an update\n";
      return program::kInterrupted;
    }
    std::cerr << "interrupted: " << saved.string() << " is where --resume goes on\n";
    end_report(gpt::concat("Interrupted: ", saved.filename().string(), " is where it can be resumed."),
               false);
    return program::kInterrupted;
  } catch (const gpt::NumericError& failure) {  // whose curves tell more than its message
    records.end_progress();
    try {
      end_report(gpt::concat("Failed: ", failure.what()), false);
    } catch (const gpt::Error& second) {  // but the message counts
      program::warn(second.what());
    }
    throw;
  }
  if (request.resume && saved.empty())
    std::cerr << "nothing was left to do: the run ended after " << result.global_step << " updates\n";
  const double train_s = std::chrono::duration<double>(Clock::now() - start).count();
  records.end_progress();
  model.save(request.output_dir, {.dtype = request.save_dtype});
  end_report(gpt::concat(result.stopped_early ? "Stopped early" : "Finished", " after ", result.global_step,
                         " updates."),
             true);
  if (request.json) {
    Json object{{"global_step", result.global_step}, {"training_loss", result.training_loss}};
    object["best_eval_loss"] = result.best_eval_loss ? Json(*result.best_eval_loss) : Json();
    object["best_step"] = result.best_step;
    object["stopped_early"] = result.stopped_early;
    object["train_s"] = train_s;
    object["peak_rss_bytes"] = program::peak_rss_bytes();
    program::Output().write(object.dump() + "\n");
  }
  return program::kDone;
}

}  // namespace

int main(int argc, char** argv) {
  Request request;
  request.arguments.logging_steps = 10;
  program::App app("gpt-finetune", "Trains a GPT-2 checkpoint, or a new network.", kFooter);
  add_options(app, request);
  return program::run(app, argc, argv, [&request] { return finetune(request); });
}
