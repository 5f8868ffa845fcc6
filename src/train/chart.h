// Curves over the updates of a run, as SVG.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gpt {

struct ChartPoint {
  std::int64_t step = 0;
  double value = 0;  // one that is not finite leaves a gap
};

struct ChartSeries {
  std::string_view name;           // "training"
  std::string_view style;          // its class in the style sheet: .line.train, .dot.train, .key.train
  std::vector<ChartPoint> points;  // by rising step
  bool dots = false;               // marks the points, unless they are very many
};

struct Chart {
  std::string_view title;
  std::vector<ChartSeries> series;
  bool from_zero = false;  // the axis of values begins at 0
  bool noisy = false;      // of many points the means are the line
  int width = 300, height = 190;
};

/// A <figure> with caption, key and drawing; empty when there is nothing to draw. Colours come from the page's style sheet. Of
/// many points what is smallest and largest in each column is drawn; where they are noisy, pale behind the line of their means. Every column tells its values to whoever points at it.
std::string to_figure(const Chart& chart);

/// About `count` round numbers from at most `low` to at least `high`, which must be finite: multiples of 1, 2 or 5 times a power
/// of ten. The axis goes from the first to the last.
struct Ticks {
  std::vector<double> values;
  /// The number as the axis says it, with as many digits as tell it from its neighbours.
  std::string text(double value) const;

  double step = 1;
};
Ticks ticks(double low, double high, int count);

}  // namespace gpt
