// The rows that gpt-classify train learns from: read, split, and made more.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include <gpt/train/labelled_rows.h>

#include "command_line.h"

namespace classify {

struct TrainRequest;

/// The part of the rows that is kept for the validation where none is given.
constexpr double kDefaultValidationFraction = 0.1;

/// Rows that are made, or come from elsewhere.
struct MoreRowsRequest {
  std::int64_t augment_copies = 0;
  std::optional<std::string> synonyms_file;
  std::optional<double> alpha_sr, alpha_ri, alpha_rs, p_rd;
  std::optional<std::string> unlabelled_file;
  std::optional<double> pseudo_label_threshold;
  std::optional<std::int64_t> pseudo_label_rounds;
  std::optional<std::string> replay_file;
  std::optional<double> replay_fraction;

  /// How often a classifier is trained on what the one before is sure of.
  std::int64_t rounds() const noexcept { return unlabelled_file ? pseudo_label_rounds.value_or(1) : 0; }
};

void add_options(program::App& app, MoreRowsRequest& request);

/// Throws UsageError for options out of their ranges, without what they belong to, or beside what they exclude.
void check(const TrainRequest& request);

struct Data {
  gpt::LabelledRows train, validation;
  std::vector<gpt::LabelledRow> augmented;   // train with the copies, where there are any
  std::vector<gpt::LabelledRow> unlabelled;  // texts alone
  gpt::LabelledRows replay;                  // old rows

  /// All rows whose labels a classifier is to know, without their texts: train and replay.
  std::vector<gpt::LabelledRow> labelled() const;
};

/// The numbers of rows that are learned, and of those that are kept for the validation: a share of every class.
struct Parts {
  std::vector<std::int64_t> train, validation;
};
/// Throws FormatError naming their source for fewer than two.
Parts split(std::span<const std::int32_t> classes, double fraction, std::uint64_t seed,
            const std::string& source);

/// Says on standard error what was made.
Data read_data(const TrainRequest& request, const gpt::RowOptions& options);

}  // namespace classify
