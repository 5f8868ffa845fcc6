// A training run on disk: <output_dir>/checkpoint-<step>, a Hugging Face model directory, or
// one of an adapter, with two files more:
//   optimizer.safetensors  exp_avg.<name> and exp_avg_sq.<name>, float32, of every learned parameter; with bf16, where the
//                          model's files have bfloat16, also rest.<name>, int16: together they are float32 (ops::split);
//                          with ema_decay or swa_start, ema.<name>, float32: the average;
//                          of an objective's own parameters, parameter.<name>, float32: themselves
//   trainer_state.json     where the run stands, and what it was begun with
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "gpt/io/hf_config.h"
#include "gpt/models/model.h"
#include "gpt/train/adamw.h"
#include "gpt/train/objectives.h"
#include "gpt/train/parameters.h"
#include "train/weight_average.h"

namespace gpt {

/// Where a run stands between two updates. Random numbers are functions of the seed and of this.
struct TrainingState {
  std::int64_t global_step = 0;
  std::int64_t epoch = 0;
  std::int64_t next_batch = 0;  // in the epoch
  std::optional<double> best_eval_loss = {};
  std::optional<double> best_metric = {};
  std::int64_t best_step = 0;
  std::int64_t last_evaluation = 0;  // its step
  std::int64_t evaluations_without_best = 0;
  // Since the last record.
  double loss_sum = 0;
  std::int64_t loss_labels = 0;
};

/// The checkpoints in a directory, by rising step; those that a killed process left unfinished have another name.
std::vector<std::int64_t> checkpoints_in(const std::filesystem::path& output_dir);
std::filesystem::path checkpoint_path(const std::filesystem::path& output_dir, std::int64_t step);

/// Writes a checkpoint that is there as a whole or not at all. `run` is what the run was begun with. Throws as Model::save.
void save_checkpoint(const std::filesystem::path& output_dir, const TrainingState& state, const HfConfig& run,
                     const Model& model, const Objective& objective, const Parameters& parameters,
                     AdamW& optimizer, WeightAverage& average);

/// Brings model and optimizer to the checkpoint. Throws as SafetensorsFile and HfConfig, and ArgumentError naming the first
/// value of `run` that the checkpoint was not made with; model and optimizer then are as they were.
TrainingState load_checkpoint(const std::filesystem::path& checkpoint, const HfConfig& run,
                              const Parameters& parameters, AdamW& optimizer, WeightAverage& average);
/// The parameters and their average alone.
void load_parameters(const std::filesystem::path& checkpoint, const Parameters& parameters,
                     WeightAverage& average);

/// Removes a checkpoint; half of one is never left under its name.
void remove_checkpoint(const std::filesystem::path& output_dir, std::int64_t step);

/// Removes what a killed process left unfinished.
void remove_unfinished(const std::filesystem::path& output_dir);

}  // namespace gpt
