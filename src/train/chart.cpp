#include "train/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "gpt/core/error.h"
#include "text/markup.h"

namespace gpt {
namespace {

// Around the field in which the lines are, in the drawing's units.
constexpr double kLeft = 44, kRight = 52, kTop = 10, kBottom = 24;
constexpr std::int64_t kMostColumns = 150;  // that tell their values
constexpr double kLineHeight = 13;

struct Range {
  void take(double value) noexcept {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const noexcept { return low > high; }

  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
};

std::string place(double x) { return significant(std::round(x * 10) / 10, 5); }

/// Four digits, where there is room.
std::string end_text(double value) {
  const double size = std::abs(value);
  if (size < 1e-3 || size >= 1e6) return significant(value, 2);
  return fixed(value, size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3);
}

class Drawing {
 public:
  explicit Drawing(const Chart& chart) : chart_(chart) {
    for (const ChartSeries& series : chart.series)
      for (const ChartPoint& point : series.points)
        if (std::isfinite(point.value)) {
          steps_.take(static_cast<double>(point.step));
          values_.take(point.value);
        }
    steps_.take(0);
  }

  std::string operator()() {
    if (values_.empty()) return {};
    if (chart_.from_zero) values_.take(0);
    ticks_ = ticks(values_.low, values_.high, chart_.height / 45);
    values_ = {ticks_.values.front(), ticks_.values.back()};
    if (steps_.low == steps_.high) steps_.high += 1;
    svg_ = concat("<svg viewBox=\"0 0 ", chart_.width, " ", chart_.height, "\" role=\"img\" aria-label=\"",
                  escape_markup(chart_.title), "\">\n");
    axes();
    for (const ChartSeries& series : chart_.series) line(series);
    ends();
    columns();
    return concat("<figure>\n<figcaption>", escape_markup(chart_.title), key(), "</figcaption>\n", svg_,
                  "</svg>\n</figure>\n");
  }

 private:
  double right() const noexcept { return chart_.width - kRight; }
  double bottom() const noexcept { return chart_.height - kBottom; }
  double x(double step) const noexcept {
    return kLeft + (step - steps_.low) / (steps_.high - steps_.low) * (right() - kLeft);
  }
  double y(double value) const noexcept {
    return bottom() - (value - values_.low) / (values_.high - values_.low) * (bottom() - kTop);
  }

  void text(double at_x, double at_y, std::string_view style, std::string_view what) {
    svg_ += concat("<text x=\"", place(at_x), "\" y=\"", place(at_y), "\" class=\"", style, "\">", what,
                   "</text>\n");
  }

  void axes() {
    for (const double value : ticks_.values) {
      svg_ += concat("<path class=\"grid\" d=\"M", place(kLeft), " ", place(y(value)), "H", place(right()),
                     "\"/>\n");
      text(kLeft - 6, y(value) + 3.5, "tick y", ticks_.text(value));
    }
    // Steps are whole, and the axis ends where the run does.
    const Ticks steps = ticks(steps_.low, steps_.high, chart_.width / 90);
    for (const double step : steps.values)
      if (step >= steps_.low && step <= steps_.high && step == std::floor(step))
        text(x(step), bottom() + 16, "tick x", grouped(static_cast<std::int64_t>(step)));
    text(chart_.width - 4, bottom() + 16, "tick y", "step");
  }

  /// Of the points in one column of the drawing, those that make its outline.
  std::vector<ChartPoint> thinned(const std::vector<ChartPoint>& points) const {
    const auto most = static_cast<std::size_t>(right() - kLeft);
    if (points.size() <= most) return points;
    std::vector<ChartPoint> kept;
    const auto less = [](const ChartPoint& a, const ChartPoint& b) { return a.value < b.value; };
    for (auto begin = points.begin(); begin != points.end();) {
      const double column = std::floor(x(static_cast<double>(begin->step)));
      const auto end = std::find_if(begin, points.end(), [&](const ChartPoint& p) {
        return !std::isfinite(p.value) || std::floor(x(static_cast<double>(p.step))) != column;
      });
      if (begin == end) {  // not finite: the gap stays
        kept.push_back(*begin++);
        continue;
      }
      auto [low, high] = std::minmax_element(begin, end, less);
      if (high < low) std::swap(low, high);
      kept.push_back(*low);
      if (high != low) kept.push_back(*high);
      begin = end;
    }
    return kept;
  }

  /// The mean of every hundredth of the steps, in its middle.
  std::vector<ChartPoint> means(const std::vector<ChartPoint>& points) const {
    constexpr double kParts = 100;
    std::vector<ChartPoint> found;
    for (auto begin = points.begin(); begin != points.end();) {
      const auto part = [&](const ChartPoint& p) {
        return std::floor(static_cast<double>(p.step) / steps_.high * (kParts - 1e-9));
      };
      const auto end =
          std::find_if(begin, points.end(), [&](const ChartPoint& p) { return part(p) != part(*begin); });
      double sum = 0;
      for (auto point = begin; point != end; ++point) sum += point->value;
      found.push_back(
          {begin->step + ((end - 1)->step - begin->step) / 2, sum / static_cast<double>(end - begin)});
      begin = end;
    }
    return found;
  }

  /// The line; of many points their means, and pale behind them the points themselves.
  void line(const ChartSeries& series) {
    constexpr std::size_t kMany = 300;
    std::vector<ChartPoint> points = series.points;
    if (chart_.noisy && points.size() > kMany) {
      path(concat(series.style, " pale"), thinned(points));
      points = means(points);
      has_means_ = true;
    }
    path(series.style, thinned(points));
    constexpr std::size_t kMostDots = 100;
    if (series.dots && points.size() <= kMostDots)
      for (const ChartPoint& point : points) dot(series, point, 2.5);
    const auto last = std::find_if(points.rbegin(), points.rend(),
                                   [](const ChartPoint& p) { return std::isfinite(p.value); });
    if (last == points.rend()) return;
    dot(series, *last, 3);
    ends_.emplace_back(y(last->value), end_text(last->value));
  }

  void path(std::string_view style, const std::vector<ChartPoint>& points) {
    std::string way;
    bool pen_is_down = false;
    for (const ChartPoint& point : points) {
      const bool finite = std::isfinite(point.value);
      if (finite)
        way += concat(pen_is_down ? "L" : "M", place(x(static_cast<double>(point.step))), " ",
                      place(y(point.value)));
      pen_is_down = finite;
    }
    svg_ += concat("<path class=\"line ", style, "\" d=\"", way, "\"/>\n");
  }

  void dot(const ChartSeries& series, const ChartPoint& point, double radius) {
    if (!std::isfinite(point.value)) return;
    svg_ +=
        concat("<circle class=\"dot ", series.style, "\" cx=\"", place(x(static_cast<double>(point.step))),
               "\" cy=\"", place(y(point.value)), "\" r=\"", place(radius), "\"/>\n");
  }

  /// The last value of every line beside its end, none above another.
  void ends() {
    std::sort(ends_.begin(), ends_.end());
    double above = -kLineHeight;
    for (const auto& [end, value] : ends_) {
      above = std::max(end, above + kLineHeight);
      text(right() + 8, above + 3.5, "end", value);
    }
  }

  /// What a column of the drawing says when it is pointed at.
  void columns() {
    const double span = steps_.high - steps_.low;
    const double width = (right() - kLeft) / static_cast<double>(kMostColumns);
    std::map<std::int64_t, std::string> told;
    std::map<std::int64_t, std::int64_t> step_of;
    for (const ChartSeries& series : chart_.series) {
      std::int64_t before = -1;
      for (const ChartPoint& point : series.points) {
        const auto column = static_cast<std::int64_t>((static_cast<double>(point.step) - steps_.low) / span *
                                                      static_cast<double>(kMostColumns - 1));
        if (!std::isfinite(point.value) || column == before) continue;  // one of each series is enough
        before = column;
        step_of.try_emplace(column, point.step);
        told[column] += concat("\n", series.name, " ", significant(point.value, 5));
        if (step_of[column] != point.step) told[column] += concat(" (step ", grouped(point.step), ")");
      }
    }
    for (const auto& [column, values] : told)
      svg_ +=
          concat("<rect class=\"column\" x=\"", place(x(static_cast<double>(step_of[column])) - width / 2),
                 "\" y=\"", place(kTop), "\" width=\"", place(width), "\" height=\"", place(bottom() - kTop),
                 "\"><title>step ", grouped(step_of[column]), escape_markup(values), "</title></rect>\n");
  }

  /// Which line is which, when there are several.
  std::string key() const {
    std::string keys;
    for (const ChartSeries& series : chart_.series)
      if (chart_.series.size() > 1 && !series.points.empty())
        keys += concat("<span class=\"key ", series.style, "\">", escape_markup(series.name), "</span>");
    if (has_means_ && !keys.empty())
      keys += "<span class=\"key\">mean of each hundredth, pale: every record</span>";
    return keys;
  }

  const Chart& chart_;
  Range steps_, values_;
  Ticks ticks_;
  std::vector<std::pair<double, std::string>> ends_;  // where lines end, and with what
  bool has_means_ = false;
  std::string svg_;
};

}  // namespace

std::string to_figure(const Chart& chart) { return Drawing(chart)(); }

Ticks ticks(double low, double high, int count) {
  const double largest = std::max(std::abs(low), std::abs(high));
  if (largest < 1e-290 || !(high / 2 - low / 2 > 1e-9 * largest)) {  // a flat line, in the middle
    const double around = largest < 1e-290 ? 1 : largest * 0.1;
    low -= around;
    high += around;
  }
  const double rough = high / count - low / count;  // whose difference may be more than a double holds
  double power = 1;
  while (power > rough) power /= 10;
  while (power * 10 <= rough) power *= 10;
  Ticks found;
  for (const double factor : {1.0, 2.0, 5.0, 10.0})
    if ((found.step = factor * power) >= rough) break;
  const double first = std::floor(low / found.step), last = std::ceil(high / found.step);
  for (double i = first; i <= last; ++i) found.values.push_back(i * found.step);
  return found;
}

std::string Ticks::text(double value) const {
  if (value == 0) return "0";
  const double largest = std::max(std::abs(values.front()), std::abs(values.back()));
  int decimals = 0, digits = 1;
  for (double unit = step; unit < 1 - 1e-9 && decimals < 5; unit *= 10) ++decimals;
  for (double unit = step; unit * 10 <= largest * (1 + 1e-9); unit *= 10) ++digits;
  if (largest < 1e-3 || largest >= 1e6) return significant(value, digits);
  return decimals > 0 ? fixed(value, decimals) : grouped(static_cast<std::int64_t>(std::round(value)));
}

}  // namespace gpt
