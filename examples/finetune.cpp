// gpt-finetune: trains a GPT-2 checkpoint, or a new network, on a text or on samples of questions and answers.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

#include <gpt/gpt.h>

#include "program.h"

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
  bool skip_bad_lines = false;
  std::optional<float> resid_pdrop, embd_pdrop, attn_pdrop;
  std::string lr_scheduler_type = "linear";
  gpt::TrainingArguments arguments;
  bool resume = false;
  int threads = 0;
  bool json = false;
};

constexpr const char* kFooter = R"(Examples:
  gpt-finetune --model gpt2 --train-file corpus.txt --validation-fraction 0.1 --output-dir tuned
  gpt-finetune --model gpt2 --train-file dialogues.jsonl --output-dir tuned --num-train-epochs 2 --learning-rate 2e-5
  gpt-finetune --config config.json --tokenizer gpt2 --train-file corpus.txt --output-dir new --max-steps 1000

A file named *.jsonl holds samples, one JSON object a line: {"prompt", "completion"}, {"messages"} or {"text"}; any other
file is one text. Options have the names and meaning of transformers' TrainingArguments, and the defaults in brackets. <|endoftext|> in a file is that token.
OUTPUT_DIR gets the tuned checkpoint, metrics.jsonl, and checkpoint-<step> directories, one also when interrupted, from
which --resume goes on to the same bits.)";

/// "a, b or c".
std::string scheduler_names() {
  const auto names = gpt::lr_scheduler_names();
  std::string list(names.front());
  for (const std::string_view name : names.subspan(1))
    list += gpt::concat(name == names.back() ? " or " : ", ", name);
  return list;
}

void add_options(CLI::App& app, Request& r) {
  gpt::TrainingArguments& a = r.arguments;
  const auto text = [&](const char* name, auto& value, const std::string& what, const char* type) {
    return app.add_option(name, value, what)->type_name(type);
  };
  const auto count = [&](const char* name, auto& value, const char* what, std::int64_t least = 0) {
    program::add_number<std::int64_t>(app, name, value, what, least);
  };
  const auto number = [&](const char* name, auto& value, const char* what) {
    program::add_number<double>(app, name, value, what);
  };
  text("--model", r.model, "Directory of a Hugging Face GPT-2 checkpoint", "DIR");
  text("--config", r.config, "config.json of a new network with random weights", "FILE");
  text("--tokenizer", r.tokenizer, "Directory of the tokenizer (that of --model)", "DIR");
  text("--train-file", r.train_file, "What to learn", "FILE")->required();
  text("--validation-file", r.validation_file, "What to evaluate on", "FILE");
  number("--validation-fraction", r.validation_fraction, "Or the last part of the training data, 0 to 1");
  text("--output-dir", r.output_dir, "Where the result goes", "DIR")->required();
  count("--block-size", r.block_size, "Tokens of a sample (what the network takes, at most 1024)", 1);
  app.add_flag("--skip-bad-lines", r.skip_bad_lines, "Leave out lines of a .jsonl file that are no samples")
      ->disable_flag_override();
  number("--learning-rate", a.learning_rate, "At its height (5e-5)");
  text("--lr-scheduler-type", r.lr_scheduler_type, scheduler_names() + " (linear)", "NAME");
  count("--warmup-steps", a.warmup_steps, "Updates in which the rate rises (0)");
  number("--warmup-ratio", a.warmup_ratio, "The same, as a part of all updates (0)");
  number("--min-lr-rate", a.min_lr_rate, "Where cosine_with_min_lr and warmup_stable_decay end (0)");
  count("--num-decay-steps", a.num_decay_steps, "Updates in which warmup_stable_decay falls (0)");
  number("--num-train-epochs", a.num_train_epochs, "How often all is learned (3)");
  program::add_number<std::int64_t>(app, "--max-steps", a.max_steps, "Updates, whatever the epochs (-1)", -1);
  count("--per-device-train-batch-size", a.per_device_train_batch_size, "Samples of a batch (8)", 1);
  count("--per-device-eval-batch-size", a.per_device_eval_batch_size, "Samples of a batch of evaluation (8)",
        1);
  count("--max-tokens-per-batch", a.max_tokens_per_batch,
        "Pack samples into batches of so many tokens instead", 1);
  count("--gradient-accumulation-steps", a.gradient_accumulation_steps, "Batches of an update (1)", 1);
  number("--weight-decay", a.weight_decay, "Of matrices (0)");
  number("--adam-beta1", a.adam_beta1, "(0.9)");
  number("--adam-beta2", a.adam_beta2, "(0.999)");
  number("--adam-epsilon", a.adam_epsilon, "(1e-8)");
  number("--max-grad-norm", a.max_grad_norm, "Gradients are clipped to this norm, 0 = not (1)");
  number("--label-smoothing-factor", a.label_smoothing_factor, "Of the loss, 0 to 1 (0)");
  app.add_flag("--gradient-checkpointing", a.gradient_checkpointing,
               "Compute activations again instead of keeping them: less memory, a third more time");
  program::add_number<std::uint64_t>(app, "--seed", a.seed,
                                     "Of the order of samples, and of new weights (42)");
  program::add_number<float>(app, "--resid-pdrop", r.resid_pdrop, "Dropout rate (the checkpoint's)");
  program::add_number<float>(app, "--embd-pdrop", r.embd_pdrop, "Dropout rate (the checkpoint's)");
  program::add_number<float>(app, "--attn-pdrop", r.attn_pdrop, "Dropout rate (the checkpoint's)");
  count("--logging-steps", a.logging_steps, "Updates between two records (10)", 1);
  count("--eval-steps", a.eval_steps, "Updates between two evaluations, 0 = once an epoch (0)");
  count("--save-steps", a.save_steps, "Updates between two checkpoints, 0 = only at the end (500)");
  count("--save-total-limit", a.save_total_limit,
        "Checkpoints that stay, the last and the best among them (all)", 1);
  app.add_flag("--load-best-model-at-end", a.load_best_model_at_end,
               "Keep the weights of the smallest evaluation loss")
      ->disable_flag_override();
  count("--early-stopping-patience", a.early_stopping_patience,
        "Stop after so many evaluations without a smaller loss, 0 = never (0)");
  app.add_flag("--resume", r.resume, "Go on from the last checkpoint in OUTPUT_DIR")->disable_flag_override();
  program::add_number<int>(app, "--threads", r.threads, "Threads at most, 0 = one per CPU (0)", 0);
  app.add_flag("--json", r.json, "Print one JSON object with the result")->disable_flag_override();
}

// What needs no file to be judged.
void check(Request& r) {
  if (r.model.has_value() == r.config.has_value())
    throw program::UsageError(r.model ? "--model and --config are both given: expected one"
                                      : "neither --model nor --config is given: expected one");
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
  if (!validates && (a.load_best_model_at_end || a.early_stopping_patience > 0 || a.eval_steps > 0))
    throw program::UsageError(
        "--load-best-model-at-end, --early-stopping-patience and --eval-steps need --validation-file or "
        "--validation-fraction");
  const auto scheduler = gpt::lr_scheduler_from_name(r.lr_scheduler_type);
  if (!scheduler)
    throw program::UsageError(gpt::concat("--lr-scheduler-type: ", program::in_quotes(r.lr_scheduler_type),
                                          " is unknown, expected ", scheduler_names()));
  r.arguments.lr_scheduler_type = *scheduler;
  r.arguments.output_dir = r.output_dir;
  r.arguments.resume_from_checkpoint = r.resume;
  program::check_usage([&] { r.arguments.validate(); });
}

gpt::Model make_model(const Request& r, std::stop_token stop) {
  std::shared_ptr<const gpt::Tokenizer> tokenizer;
  if (r.tokenizer) tokenizer = gpt::load_tokenizer(*r.tokenizer);
  std::optional<gpt::Model> model;
  if (r.model) {
    model = gpt::Model::load(*r.model, {.on_warning = program::warn, .stop = stop});
    if (tokenizer) model->set_tokenizer(tokenizer);
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
  return std::move(*model);
}

struct Data {
  std::unique_ptr<gpt::Dataset> train, validation;
};

template <class D>
Data split(D all, const std::optional<double>& fraction) {
  if (!fraction) return {std::make_unique<D>(std::move(all)), nullptr};
  auto [train, validation] = all.split(*fraction);
  return {std::make_unique<D>(std::move(train)), std::make_unique<D>(std::move(validation))};
}

Data read_file(const Request& r, const std::string& path, const std::optional<double>& fraction,
               const gpt::Model& model, std::stop_token stop) {
  const std::int64_t block =
      r.block_size > 0 ? r.block_size : std::min<std::int64_t>(1024, model.config().n_positions);
  if (block > model.config().n_positions)
    throw gpt::ArgumentError(
        gpt::concat("--block-size: ", block, " is more than n_positions = ", model.config().n_positions));
  if (!path.ends_with(".jsonl"))
    return split(gpt::TextDataset::from_file(path, model.tokenizer(),
                                             {.block_size = block,
                                              .parse_special_tokens = true,
                                              .cache_dir = std::filesystem::path(r.output_dir) / "cache",
                                              .stop = stop}),
                 fraction);
  auto samples = gpt::JsonlDataset::from_file(
      path, model.tokenizer(), {.max_length = block + 1, .skip_bad_lines = r.skip_bad_lines, .stop = stop});
  const gpt::JsonlCounts& counts = samples.counts();
  if (counts.bad > 0)
    program::warn(gpt::concat(path, ": ", counts.bad, " of ", counts.lines,
                              " lines left out; the first: ", counts.first_bad));
  if (counts.truncated > 0)
    program::warn(gpt::concat(path, ": ", counts.truncated, " samples cut to ", block + 1, " tokens"));
  return split(std::move(samples), fraction);
}

Data read_data(const Request& r, const gpt::Model& model, std::stop_token stop) {
  Data data = read_file(r, r.train_file, r.validation_fraction, model, stop);
  if (r.validation_file) data.validation = read_file(r, *r.validation_file, std::nullopt, model, stop).train;
  return data;
}

/// metrics.jsonl, and one line for people.
class Records {
 public:
  explicit Records(const Request& r)
      : terminal_(::isatty(STDERR_FILENO) != 0),
        resumes_(r.resume),
        path_(std::filesystem::path(r.output_dir) / "metrics.jsonl") {}

  void add(const gpt::TrainingLog& log) {
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    const double rate = static_cast<double>(log.tokens) / seconds;
    append({{"step", log.step},
            {"epoch", log.epoch},
            {"loss", log.loss},
            {"grad_norm", log.grad_norm},
            {"learning_rate", log.learning_rate},
            {"tokens_per_s", rate}});
    if (first_ < 0) {
      first_ = log.step;
      first_seconds_ = seconds;
    }
    std::ostringstream line;
    line << std::fixed << "step " << log.step << "/" << log.total_steps << "  loss " << std::setprecision(4)
         << log.loss << "  lr " << std::scientific << std::setprecision(2) << log.learning_rate << std::fixed
         << std::setprecision(0) << "  " << rate << " tok/s";
    if (log.step > first_)
      line << "  "
           << (seconds - first_seconds_) / static_cast<double>(log.step - first_) *
                  static_cast<double>(log.total_steps - log.step)
           << " s left";
    if (terminal_)
      std::cerr << '\r' << line.str() << "\x1b[K" << std::flush;
    else
      std::cerr << line.str() << '\n';
    line_is_open_ = terminal_;
  }
  ~Records() {
    if (line_is_open_) std::cerr << '\n';
  }
  Records(const Records&) = delete;
  Records& operator=(const Records&) = delete;

  void add(const gpt::EvaluationLog& log) {
    line_is_open_ = false;
    append({{"step", log.step},
            {"epoch", log.epoch},
            {"eval_loss", log.eval_loss},
            {"perplexity", log.perplexity}});
    std::cerr << (terminal_ ? "\r\x1b[K" : "") << "step " << log.step << "  eval_loss " << std::fixed
              << std::setprecision(4) << log.eval_loss << "  perplexity " << std::setprecision(3)
              << log.perplexity << (log.best ? "  (best)" : "") << '\n';
  }

 private:
  void append(const Json& record) {
    if (!file_.is_open()) open(record["step"].get<std::int64_t>());
    file_ << record.dump() << std::endl;
    if (!file_) gpt::fail<gpt::IoError>(path_.string(), "cannot be written");
  }

  // Records of a run that is resumed stay, up to the step that comes next.
  void open(std::int64_t step) {
    std::ostringstream kept;
    std::ifstream old(path_);
    for (std::string line; resumes_ && std::getline(old, line);) {
      const Json record = Json::parse(line, nullptr, false);
      if (record.is_object() && record.contains("step") && record["step"] < step) kept << line << '\n';
    }
    gpt::write_file_atomically(path_, kept.str());
    file_.open(path_, std::ios::app);
    if (!file_) gpt::fail<gpt::IoError>(path_.string(), "cannot be written");
  }

  bool terminal_, resumes_;
  bool line_is_open_ = false;
  std::filesystem::path path_;
  std::ofstream file_;
  std::int64_t first_ = -1;  // step that was recorded first, and when
  double first_seconds_ = 0;
  Clock::time_point start_ = Clock::now();
};

int finetune(Request& request) {
  check(request);
  gpt::set_num_threads(request.threads);
  const program::Interrupt interrupt;
  gpt::Model model = make_model(request, interrupt.token());
  gpt::Trainer trainer(model, request.arguments);
  const Data data = read_data(request, model, interrupt.token());
  std::error_code error;
  std::filesystem::create_directories(request.output_dir, error);
  if (error) gpt::fail<gpt::IoError>(request.output_dir, "cannot be made: ", error.message());
  Records records(request);
  const auto start = Clock::now();
  std::filesystem::path saved;
  gpt::TrainingResult result;
  try {
    result = trainer.fit(*data.train, data.validation.get(),
                         {.on_log = [&](const gpt::TrainingLog& log) { records.add(log); },
                          .on_evaluate = [&](const gpt::EvaluationLog& log) { records.add(log); },
                          .on_save = [&](const std::filesystem::path& checkpoint) { saved = checkpoint; }},
                         interrupt.token());
  } catch (const gpt::CancelledError&) {
    if (saved.empty()) {
      std::cerr << "interrupted before an update\n";
      return program::kInterrupted;
    }
    std::cerr << "interrupted: " << saved.string() << " is where --resume goes on\n";
    return program::kInterrupted;
  }
  model.save(request.output_dir);
  if (request.json) {
    Json object{{"global_step", result.global_step}, {"training_loss", result.training_loss}};
    object["best_eval_loss"] = result.best_eval_loss ? Json(*result.best_eval_loss) : Json();
    object["best_step"] = result.best_step;
    object["stopped_early"] = result.stopped_early;
    object["train_s"] = std::chrono::duration<double>(Clock::now() - start).count();
    object["peak_rss_bytes"] = program::peak_rss_bytes();
    program::Output().write(object.dump() + "\n");
  }
  return program::kDone;
}

}  // namespace

int main(int argc, char** argv) {
  Request request;
  request.arguments.logging_steps = 10;
  CLI::App app("Trains a GPT-2 checkpoint, or a new network.", "gpt-finetune");
  app.footer(kFooter);
  add_options(app, request);
  return program::run(app, argc, argv, [&request] { return finetune(request); });
}
