#include "training_report.h"

#include <algorithm>
#include <iomanip>
#include <locale>
#include <sstream>
#include <utility>

#include <gpt/core/atomic_file.h>
#include <gpt/core/error.h>
#include <gpt/generate/generator.h>

#include "program.h"
#include "progress.h"

namespace program {
namespace {

using gpt::TokenId;
using Table = gpt::TrainingReport::Table;

std::string fixed(double value, int digits) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out << std::fixed << std::setprecision(digits) << value;
  return out.str();
}

/// What a sample asks, or how it begins.
std::vector<TokenId> prompt_of(const gpt::Sample& sample) {
  constexpr std::ptrdiff_t kBeginning = 16;
  const auto learned = std::find_if(sample.labels.begin() + 1, sample.labels.end(),
                                    [](TokenId label) { return label != gpt::kIgnoredLabel; });
  auto tokens = learned - sample.labels.begin();
  if (tokens <= 1) tokens = std::min(kBeginning, std::ssize(sample.ids) / 2 + 1);
  return {sample.ids.begin(), sample.ids.begin() + tokens};
}

/// What the model makes of the prompts. Where it cannot, a warning, and nothing: that is no reason to lose a run.
std::vector<std::string> write_samples(const gpt::Model& model, const SampleTask& task,
                                       std::stop_token stop) {
  std::vector<std::string> texts;
  if (task.prompts.empty()) return texts;
  try {
    for (const gpt::GenerateResult& result :
         gpt::Generator(model).generate(task.prompts, {.max_new_tokens = task.new_tokens,
                                                      .do_sample = true,
                                                      .temperature = 0.8,
                                                      .top_k = 50,
                                                      .num_return_sequences = 1,
                                                      .num_beams = 1,
                                                      .seed = task.seed,
                                                      .stop = stop}))
      texts.push_back(result.text);
  } catch (const gpt::Error& error) {
    warn(gpt::concat("no samples: ", error.what()));
  }
  return texts;
}

/// What to read first.
std::vector<gpt::TrainingReport::Fact> highlights_of(const gpt::TrainingHistory& history, double seconds) {
  std::vector<gpt::TrainingReport::Fact> facts;
  if (!history.training.empty()) facts.push_back({"Training loss", fixed(history.training.back().loss, 4)});
  const auto best = std::find_if(history.evaluations.rbegin(), history.evaluations.rend(),
                                 [](const gpt::EvaluationLog& log) { return log.best; });
  if (best != history.evaluations.rend()) {
    facts.push_back({"Evaluation loss", fixed(best->eval_loss, 4)});
    facts.push_back({"Perplexity", fixed(best->perplexity, 2)});
  }
  if (!history.training.empty()) {
    double speed = 0;
    for (const gpt::TrainingLog& log : history.training) speed += log.tokens_per_s;
    facts.push_back({"Updates", gpt::concat(history.training.back().step)});
    facts.push_back({"Tokens per second", fixed(speed / static_cast<double>(history.training.size()), 0)});
  }
  facts.push_back({"Time", duration_text(seconds)});
  return facts;
}

}  // namespace

SampleTask make_sample_task(const gpt::Model& model, const std::vector<std::string>& texts,
                            const gpt::Dataset& data, std::int64_t new_tokens, std::uint64_t seed) {
  constexpr std::int64_t kPrompts = 3;
  const std::int64_t context = model.config().n_positions;
  SampleTask task{{}, std::min(new_tokens, context), seed};
  if (task.new_tokens == 0) return task;
  for (const std::string& text : texts) task.prompts.push_back(model.tokenizer().encode_prompt(text));
  const std::int64_t beginnings = texts.empty() ? std::min(kPrompts, data.size()) : 0;
  for (std::int64_t i = 0; i < beginnings; ++i)
    task.prompts.push_back(prompt_of(data.at(data.size() * i / beginnings)));
  for (auto& prompt : task.prompts)  // the last new token is not fed
    if (const std::int64_t excess = std::ssize(prompt) + task.new_tokens - context - 1; excess > 0)
      prompt.erase(prompt.begin(), prompt.begin() + excess);
  return task;
}

Table data_table(std::string title, std::string_view file, const gpt::DatasetCounts& counts,
                 std::int64_t all_learned, const std::optional<gpt::JsonlCounts>& lines) {
  Table table{std::move(title), {}};
  const auto add = [&](const char* name, std::string value) {
    table.facts.push_back({name, std::move(value)});
  };
  add("File", std::string(file));
  add("Samples", gpt::concat(counts.samples));
  add("Tokens", gpt::concat(counts.tokens));
  add("Learned tokens", gpt::concat(counts.learned));
  add("Share of all learned tokens", fixed(100 * static_cast<double>(counts.learned) /
                                               static_cast<double>(std::max<std::int64_t>(1, all_learned)),
                                           1) +
                                         " %");
  add("Longest sample", gpt::concat(counts.longest));
  if (lines) {
    add("Lines of the file", gpt::concat(lines->lines));
    add("Lines that are no samples, left out", gpt::concat(lines->bad));
    add("Samples left out as too long", gpt::concat(lines->dropped));
    add("Samples cut", gpt::concat(lines->truncated));
  }
  return table;
}

ReportFile::ReportFile(std::filesystem::path path, gpt::TrainingReport page, const gpt::Model& model,
                       SampleTask task, std::stop_token stop)
    : path_(std::move(path)),
      page_(std::move(page)),
      model_(model),
      task_(std::move(task)),
      stop_(std::move(stop)) {
  const std::vector<std::string> texts = write_samples(model_, task_, stop_);
  for (std::size_t i = 0; i < texts.size(); ++i)
    page_.samples.push_back({model_.tokenizer().decode(task_.prompts[i]), texts[i]});
  start_ = std::chrono::steady_clock::now();
}

void ReportFile::write(gpt::TrainingHistory history, std::string how_it_ended, bool trained) {
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start_;
  page_.status = std::move(how_it_ended);
  page_.highlights = highlights_of(history, time.count());
  page_.history = std::move(history);
  if (trained && !page_.samples.empty()) {
    const std::vector<std::string> texts = write_samples(model_, task_, stop_);
    for (std::size_t i = 0; i < texts.size(); ++i) page_.samples[i].after = texts[i];
  }
  gpt::write_file_atomically(path_, to_html(page_));
}

}  // namespace program
