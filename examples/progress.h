// How far a training run is, for people: a bar on a terminal, lines elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <gpt/train/trainer.h>

namespace program {

/// "1:02:03"
std::string duration_text(double seconds);

/// "step 120/1000  loss 3.2145  lr 4.40e-05  1234 tok/s  0:12:34 left"
std::string progress_text(const gpt::TrainingLog& log, std::optional<double> seconds_left);

/// The same after a bar as wide as `columns` of a terminal leave room for, of at most 30; cut where they end.
std::string progress_bar(const gpt::TrainingLog& log, std::optional<double> seconds_left, int columns,
                         bool unicode);

/// Writes to standard error.
class Progress {
 public:
  Progress();
  ~Progress();  // ends the line of the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void on_step(const gpt::TrainingLog& log);
  void on_log(const gpt::TrainingLog& log) const;
  void on_evaluate(const gpt::EvaluationLog& log);

  /// These, for Trainer::fit, which this object must outlive.
  gpt::TrainingCallbacks callbacks();

 private:
  using Clock = std::chrono::steady_clock;
  std::optional<double> seconds_left(const gpt::TrainingLog& log) const;

  bool terminal_, unicode_;
  bool bar_is_there_ = false;
  std::int64_t first_ = -1;  // step that was done first, and when
  Clock::time_point start_, drawn_;
};

}  // namespace program
