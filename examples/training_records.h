// What finetune records while it trains.
#pragma once

#include <filesystem>
#include <optional>

#include <gpt/train/metrics.h>
#include <gpt/train/tensorboard.h>
#include <gpt/train/trainer.h>

#include "progress.h"

namespace program {

/// metrics.jsonl, TensorBoard's event file, and standard error.
class TrainingRecords {
 public:
  /// Without `tensorboard_dir` there is no event file.
  TrainingRecords(const std::filesystem::path& metrics,
                  const std::optional<std::filesystem::path>& tensorboard_dir, bool resumes)
      : metrics_(metrics, resumes) {
    if (tensorboard_dir) tensorboard_.emplace(*tensorboard_dir, resumes);
  }

  /// For Trainer::fit; with this object they must outlive it.
  gpt::TrainingCallbacks callbacks() {
    return {.on_log = [this](const gpt::TrainingLog& log) { add(log, &Progress::on_log); },
            .on_step = [this](const gpt::TrainingLog& log) { progress_->on_step(log); },
            .on_evaluate = [this](const gpt::EvaluationLog& log) { add(log, &Progress::on_evaluate); }};
  }

  /// Leaves standard error to others.
  void end_progress() { progress_.reset(); }

  /// All that was recorded, also before the run was resumed.
  gpt::TrainingHistory history() const { return gpt::MetricsFile::read(metrics_.path()); }

 private:
  template <class Log, class Show>
  void add(const Log& log, Show show) {
    metrics_.add(log);
    if (tensorboard_) tensorboard_->add(log);
    ((*progress_).*show)(log);
  }

  gpt::MetricsFile metrics_;
  std::optional<gpt::TensorBoardWriter> tensorboard_;
  std::optional<Progress> progress_{std::in_place};
};

}  // namespace program
