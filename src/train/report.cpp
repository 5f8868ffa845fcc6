#include "gpt/train/report.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "core/memory.h"
#include "gpt/core/error.h"
#include "text/markup.h"
#include "train/chart.h"
#include "train/report_style.h"

namespace gpt {
namespace {

using Fact = TrainingReport::Fact;

/// <tag class="style">what</tag>, where `what` is markup.
std::string element(std::string_view tag, std::string_view style, std::string_view what) {
  return concat("<", tag, style.empty() ? "" : " class=\"", style, style.empty() ? ">" : "\">", what, "</",
                tag, ">\n");
}

std::string section(std::string_view title, const std::string& what) {
  return what.empty() ? std::string() : concat("<section>\n", element("h2", "", title), what, "</section>\n");
}

std::string highlights(const std::vector<Fact>& facts) {
  std::string all;
  for (const Fact& fact : facts)
    all += element(
        "div", "",
        concat(element("dt", "", escape_markup(fact.name)), element("dd", "", escape_markup(fact.value))));
  return facts.empty() ? all : element("dl", "card highlights", all);
}

template <class Log>
std::vector<ChartPoint> points(const std::vector<Log>& logs, double Log::*value) {
  std::vector<ChartPoint> all;
  for (const Log& log : logs) all.push_back({log.step, log.*value});
  return all;
}

std::string curves(const TrainingHistory& history) {
  const auto training = [&](double TrainingLog::*value) {
    return ChartSeries{"training", "train", points(history.training, value)};
  };
  const ChartSeries evaluation{"evaluation", "eval", points(history.evaluations, &EvaluationLog::eval_loss),
                               true};
  const std::string all =
      to_figure({.title = "Loss, nats per token",
                 .series = {training(&TrainingLog::loss), evaluation},
                 .noisy = true,
                 .width = 950,
                 .height = 300}) +
      to_figure(
          {.title = "Learning rate", .series = {training(&TrainingLog::learning_rate)}, .from_zero = true}) +
      to_figure({.title = "Gradient norm before clipping",
                 .series = {training(&TrainingLog::grad_norm)},
                 .from_zero = true,
                 .noisy = true}) +
      to_figure({.title = "Tokens per second",
                 .series = {training(&TrainingLog::tokens_per_s)},
                 .from_zero = true,
                 .noisy = true});
  return all.empty() ? all : element("div", "curves", all);
}

std::string evaluations(const std::vector<EvaluationLog>& logs) {
  if (logs.empty()) return {};
  const auto best =
      std::find_if(logs.rbegin(), logs.rend(), [](const EvaluationLog& log) { return log.best; });
  const Metrics::Values& metrics = logs.front().metrics;
  std::string header = metrics.empty() ? "<th>Perplexity</th>" : "";
  for (const auto& [name, value] : metrics) header += concat("<th>", escape_markup(name), "</th>");
  std::string rows = concat("<tr><th>Step</th><th>Epoch</th><th>Loss</th>", header, "</tr>\n");
  const auto judged = [](const EvaluationLog& log) {
    if (log.metrics.empty()) return concat("<td>", significant(log.perplexity, 5), "</td>");
    std::string cells;
    for (const auto& [name, value] : log.metrics) cells += concat("<td>", fixed(value, 4), "</td>");
    return cells;
  };
  for (auto log = logs.begin(); log != logs.end(); ++log)
    rows += element("tr", best != logs.rend() && &*log == &*best ? "best" : "",
                    concat("<td>", grouped(log->step), "</td><td>", fixed(log->epoch, 2), "</td><td>",
                           fixed(log->eval_loss, 4), "</td>", judged(*log)));
  return element("details", "card",
                 concat("<summary>All evaluations</summary>\n", element("table", "", rows)));
}

std::string grids(const std::vector<TrainingReport::Grid>& all) {
  std::string cards;
  for (const TrainingReport::Grid& grid : all) {
    const auto row = [](std::string_view cell, const std::vector<std::string>& texts) {
      std::string cells;
      for (const std::string& text : texts)
        cells += concat("<", cell, ">", escape_markup(text), "</", cell, ">");
      return element("tr", "", cells);
    };
    std::string rows = row("th", grid.header);
    for (const auto& texts : grid.rows) rows += row("td", texts);
    cards += element("div", "card",
                     concat(element("h3", "", escape_markup(grid.title)), element("table", "", rows)));
  }
  return cards.empty() ? cards : element("div", "tables", cards);
}

/// The line feed after <pre> is HTML's own and no part of the text.
std::string preformatted(std::string_view text) { return concat("<pre>\n", escape_markup(text), "</pre>\n"); }

std::string samples(const std::vector<TrainingReport::Sample>& all) {
  std::string cards;
  for (const TrainingReport::Sample& sample : all) {
    std::string texts;
    for (const auto& [title, text] :
         {std::pair("Before training", &sample.before), {"After training", &sample.after}})
      if (*text) texts += element("div", "", concat(element("h3", "", title), preformatted(**text)));
    cards += element(
        "div", "card sample",
        concat(element("div", "prompt", concat(element("h3", "", "Prompt"), preformatted(sample.prompt))),
               element("div", "texts", texts)));
  }
  return cards;
}

std::string tables(const std::vector<TrainingReport::Table>& all) {
  std::string cards;
  for (const TrainingReport::Table& table : all) {
    std::string facts;
    for (const Fact& fact : table.facts)
      facts += concat("<dt>", escape_markup(fact.name), "</dt><dd>", escape_markup(fact.value), "</dd>\n");
    cards += element("div", "card",
                     concat(element("h3", "", escape_markup(table.title)), element("dl", "facts", facts)));
  }
  return cards.empty() ? cards : element("div", "tables", cards);
}

}  // namespace

std::string to_html(const TrainingReport& report) try {
  const std::string title = escape_markup(report.title);
  std::string page = concat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>",
      title, "</title>\n<style>\n", kReportStyle, "</style>\n</head>\n<body>\n<main>\n",
      element("h1", "", title));
  if (!report.status.empty()) page += element("p", "status", escape_markup(report.status));
  page += highlights(report.highlights);
  page += section("Scores", grids(report.scores));
  page += section("Curves", curves(report.history) + evaluations(report.history.evaluations));
  page += section("Samples", samples(report.samples));
  page += section("Details", tables(report.tables));
  page += "</main>\n</body>\n</html>\n";
  return page;
} catch (...) {
  rethrow_with_memory_errors("report");
}

}  // namespace gpt
