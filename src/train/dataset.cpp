#include "gpt/train/dataset.h"

#include <algorithm>

#include "gpt/core/error.h"
#include "gpt/models/language_model_loss.h"

namespace gpt {

DatasetCounts count(const Dataset& data, std::stop_token stop) {
  constexpr std::int64_t kOften = 256;  // samples between two looks at the stop
  DatasetCounts counts;
  for (; counts.samples < data.size(); ++counts.samples) {
    if (counts.samples % kOften == 0 && stop.stop_requested())
      fail<CancelledError>("data set", "counted ", counts.samples, " of ", data.size(), " samples");
    const Sample sample = data.at(counts.samples);
    const auto ids = static_cast<std::int64_t>(sample.ids.size());
    counts.tokens += ids - 1;
    counts.learned += count_labels({sample.ids, sample.labels});
    counts.longest = std::max(counts.longest, ids);
  }
  return counts;
}

}  // namespace gpt
