// The page of a run: what it says, that it is well-formed whatever it is about, and that its curves are where the numbers are.
#include "gpt/train/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <regex>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/text/utf8.h"
#include "text/markup.h"
#include "train/chart.h"

namespace gpt::test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Every tag closed in turn, nothing but the five entities: what an XML parser asks of it.
void expect_well_formed(const std::string& page) {
  std::vector<std::string> open;
  const std::regex tag(R"(<(/?)([a-z0-9]+)(( [a-z-]+(:[a-z]+)?="[^"<>]*")*)(/?)>)", std::regex::icase);
  const std::string body = page.starts_with("<!DOCTYPE html>\n") ? page.substr(16) : page;
  std::string between;
  for (auto it = std::sregex_iterator(body.begin(), body.end(), tag); it != std::sregex_iterator(); ++it) {
    between += it->prefix().str();
    if ((*it)[1].length() > 0) {
      ASSERT_FALSE(open.empty());
      ASSERT_EQ(open.back(), (*it)[2].str());
      open.pop_back();
    } else if ((*it)[6].length() == 0) {
      open.push_back((*it)[2].str());
    }
  }
  EXPECT_THAT(open, testing::IsEmpty());
  EXPECT_EQ(between.find_first_of("<>"), between.npos) << between.substr(between.find_first_of("<>"), 80);
  EXPECT_FALSE(std::regex_search(body, std::regex("&(?!(amp|lt|gt|quot);)")));
  EXPECT_TRUE(is_valid_utf8(page));
  for (const char c : page) EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 || c == '\n') << int{c};
}

std::vector<std::pair<double, double>> line_of(const std::string& figure, const std::string& style) {
  std::smatch path;
  std::vector<std::pair<double, double>> points;
  if (!std::regex_search(figure, path, std::regex("class=\"line " + style + "\" d=\"([^\"]*)\"")))
    return points;
  const std::string way = path[1];
  const std::regex point("[ML]([0-9.]+) ([0-9.]+)");
  for (auto it = std::sregex_iterator(way.begin(), way.end(), point); it != std::sregex_iterator(); ++it)
    points.emplace_back(std::stod((*it)[1]), std::stod((*it)[2]));
  return points;
}

TrainingReport nasty_report() {
  const std::string nasty = "<script>\"'&amp; \xff\x01\x7f\xc3\r\n</pre>";
  TrainingReport report{.title = nasty, .status = nasty, .highlights = {{nasty, nasty}}};
  for (int step = 1; step <= 500; ++step)
    report.history.training.push_back({.step = step,
                                       .loss = step == 7 ? kNaN : 5.0 / step,
                                       .grad_norm = 1e-300 * step,
                                       .learning_rate = 0,
                                       .tokens_per_s = 1e308});
  report.history.evaluations = {
      {.step = 250, .epoch = 1, .eval_loss = 800, .perplexity = HUGE_VAL, .best = true},
      {.step = 500, .epoch = 2, .eval_loss = kNaN, .perplexity = kNaN}};
  report.samples = {{nasty, nasty, nasty}, {nasty}};
  report.tables = {{nasty, {{nasty, nasty}}}};
  return report;
}

TEST(TrainingReport, IsWellFormedWhateverItIsAbout) {
  expect_well_formed(to_html(nasty_report()));
  expect_well_formed(to_html({.title = ""}));
}

TEST(TrainingReport, StandsAlone) {
  const std::string page = to_html(nasty_report());
  for (const char* outside :
       {"<script", "http:", "https:", "src=", "href", "url(", "@import", "<link", "<iframe"})
    EXPECT_THAT(page, Not(HasSubstr(outside)));
}

TEST(TrainingReport, ShowsAllThatItIsGiven) {
  TrainingReport report{
      .title = "gpt2 & corpus", .status = "finished", .highlights = {{"Perplexity", "24.5"}}};
  report.history.training = {{.step = 1, .loss = 3}, {.step = 2, .loss = 2}};
  report.history.evaluations = {{.step = 2, .epoch = 1, .eval_loss = 2.5, .perplexity = 12.18, .best = true}};
  report.samples = {{"ROMEO:", "\nxyz", "\nWhat?"}};
  report.tables = {{"Data", {{"Samples", "17"}}}};
  const std::string page = to_html(report);
  EXPECT_THAT(page, AllOf(HasSubstr("<h1>gpt2 &amp; corpus</h1>"), HasSubstr("finished"),
                          HasSubstr("<dt>Perplexity</dt>\n<dd>24.5</dd>"),
                          HasSubstr("<td>2.5000</td><td>12.18</td>"), HasSubstr("<pre>\nROMEO:</pre>"),
                          HasSubstr("<pre>\n\nxyz</pre>"), HasSubstr("<dt>Samples</dt><dd>17</dd>")));
  EXPECT_THAT(page, AllOf(HasSubstr("Loss, nats"), HasSubstr("Learning rate"), HasSubstr("Gradient norm"),
                          HasSubstr("Tokens per second")));
  report.samples = {{"ROMEO:", "xyz"}};
  EXPECT_THAT(to_html(report), Not(HasSubstr("After training")));
  EXPECT_THAT(to_html({.title = "nothing"}), Not(HasSubstr("<section>")));
}

TEST(TrainingReport, NamesEveryArgument) {
  TrainingArguments arguments;
  arguments.learning_rate = 2e-5;
  arguments.max_tokens_per_batch = 4096;
  std::string all;
  for (const auto& [name, value] : table_of(arguments).facts) all += concat(name, "=", value, "\n");
  EXPECT_THAT(all, AllOf(HasSubstr("learning_rate=2e-5\n"), HasSubstr("lr_scheduler_type=linear\n"),
                         HasSubstr("max_tokens_per_batch=4096\n"), HasSubstr("save_total_limit=none\n"),
                         HasSubstr("load_best_model_at_end=false\n"), HasSubstr("adam_epsilon=1e-8\n")));
  all.clear();
  for (const auto& [name, value] : table_of(Gpt2Config{}).facts) all += concat(name, "=", value, "\n");
  EXPECT_THAT(all, AllOf(HasSubstr("n_embd=768\n"), HasSubstr("activation_function=gelu_new\n"),
                         HasSubstr("eos_token_id=50256\n"), HasSubstr("resid_pdrop=0.1\n")));
}

TEST(Chart, DrawsItsPointsToScale) {
  const std::string figure = to_figure(
      {.title = "t", .series = {{"a", "train", {{0, 2}, {50, 3}, {100, 4}}}}, .width = 500, .height = 200});
  expect_well_formed(figure);
  const auto points = line_of(figure, "train");
  ASSERT_EQ(points.size(), 3u);
  EXPECT_NEAR(points[1].first, (points[0].first + points[2].first) / 2, 0.11);  // a tenth is drawn
  EXPECT_NEAR(points[1].second, (points[0].second + points[2].second) / 2, 0.11);
  EXPECT_GT(points[0].second, points[2].second);  // upwards
  // The last stands above where the axis says 100.
  std::smatch tick;
  ASSERT_TRUE(std::regex_search(figure, tick, std::regex("<text x=\"([0-9.]+)\"[^>]*>100</text>")));
  EXPECT_NEAR(points[2].first, std::stod(tick[1]), 0.11);
}

TEST(Chart, LeavesAGapWhereThereIsNoNumber) {
  const std::string figure =
      to_figure({.title = "t", .series = {{"a", "train", {{1, 2}, {2, 3}, {3, kNaN}, {4, 2}}}}});
  EXPECT_TRUE(std::regex_search(figure, std::regex("d=\"M[0-9. ]+L[0-9. ]+M[0-9. ]+\""))) << figure;
  EXPECT_EQ(to_figure({.title = "t", .series = {{"a", "train", {{1, kNaN}}}, {"b", "eval", {}}}}), "");
}

TEST(Chart, KeepsTheOutlineOfManyPoints) {
  ChartSeries series{"a", "train", {}};
  for (int step = 0; step < 100000; ++step)
    series.points.push_back({step, step == 54321 ? 9.0 : step % 2 * 1.0});
  const std::string exact = to_figure({.title = "t", .series = {series}});
  const auto points = line_of(exact, "train");
  EXPECT_LT(points.size(), 1000u);
  EXPECT_LT(exact.size(), 60000u);
  const auto top =
      std::min_element(points.begin(), points.end(), [](auto& a, auto& b) { return a.second < b.second; });
  // Nine tenths of the height for the one that stands out, at its place.
  EXPECT_NEAR((top->first - points.front().first) / (points.back().first - points.front().first), 0.54321,
              0.01);
  const std::string noisy = to_figure({.title = "t", .series = {series}, .noisy = true});
  const auto means = line_of(noisy, "train"), pale = line_of(noisy, "train pale");
  EXPECT_LE(means.size(), 101u);
  EXPECT_EQ(pale.size(), points.size());
  for (std::size_t i = 0; i < 50; ++i) EXPECT_NEAR(means[i].second, means[0].second, 0.11);  // all are 1/2
}

TEST(Chart, HasRoundTicksAroundTheValues) {
  const auto texts = [](double low, double high, int count) {
    const Ticks found = ticks(low, high, count);
    std::vector<std::string> all;
    for (const double value : found.values) all.push_back(found.text(value));
    return all;
  };
  EXPECT_THAT(texts(0.3, 6.9, 4), ElementsAreArray({"0", "2", "4", "6", "8"}));
  EXPECT_THAT(texts(2.1, 2.9, 4), ElementsAreArray({"2.0", "2.2", "2.4", "2.6", "2.8", "3.0"}));
  EXPECT_THAT(texts(0, 5e-5, 3), ElementsAreArray({"0", "2e-5", "4e-5", "6e-5"}));
  EXPECT_THAT(texts(0, 12345, 3), ElementsAreArray({"0", "5\u202F000", "10\u202F000", "15\u202F000"}));
  EXPECT_THAT(texts(-1, 1, 2), ElementsAreArray({"-1", "0", "1"}));
  EXPECT_THAT(texts(0, 4e6, 2), ElementsAreArray({"0", "2e6", "4e6"}));
  for (const auto& [low, high] : {std::pair(3.0, 3.0),
                                  {0.0, 0.0},
                                  {-1e308, 1e308},
                                  {1e-310, 1e-310},
                                  {0.0, 5e-324},
                                  {1e15, 1e15 + 0.125}}) {
    const Ticks found = ticks(low, high, 4);
    EXPECT_LE(found.values.front(), low);
    EXPECT_GE(found.values.back(), high);
    EXPECT_GE(found.values.size(), 2u);
    EXPECT_LE(found.values.size(), 12u);
  }
}

TEST(Markup, EscapesWhatIsNoText) {
  EXPECT_EQ(escape_markup("a<b>&\"c\"\n\t"), "a&lt;b&gt;&amp;&quot;c&quot;\n\t");
  EXPECT_EQ(escape_markup("\xff\xc3"), "\uFFFD\uFFFD");
  EXPECT_EQ(escape_markup(std::string_view("\0\r\x1b\x7f", 4)), "\u2400\u240D\u241B\u2421");
  EXPECT_EQ(escape_markup("d\u00E9j\u00E0 \U0001F600"), "d\u00E9j\u00E0 \U0001F600");
}

TEST(Markup, WritesNumbersShortly) {
  EXPECT_EQ(significant(0.012345, 3), "0.0123");
  EXPECT_EQ(significant(5e-5, 3), "5e-5");
  EXPECT_EQ(significant(-1.25e-10, 3), "-1.25e-10");
  EXPECT_EQ(significant(123456, 3), "123456");
  EXPECT_EQ(significant(1.5e7, 3), "1.5e7");
  EXPECT_EQ(significant(0, 3), "0");
  EXPECT_EQ(fixed(1.005, 1), "1.0");
  EXPECT_EQ(grouped(1234567), "1\u202F234\u202F567");
  EXPECT_EQ(grouped(-123), "-123");
  EXPECT_EQ(grouped(-1234), "-1\u202F234");
}

}  // namespace
}  // namespace gpt::test
