// How gpt-classify train teaches one classifier: its network, and what answers together with it.
#pragma once

#include <cstddef>
#include <memory>
#include <stop_token>
#include <vector>

#include <gpt/models/classifier.h>
#include <gpt/train/classification_dataset.h>
#include <gpt/train/labelled_rows.h>
#include <gpt/train/objectives.h>
#include <gpt/train/trainer.h>

#include "classification.h"
#include "classify.h"
#include "judgement.h"

namespace classify {

/// The model with a new head for the labels of the rows, whose texts may be missing, and with the adapter of --method, but for LoRA, which the trainer attaches. Throws FormatError naming the file for labels that no classifier can have.
gpt::Classifier make_classifier(const TrainRequest& request, const std::vector<gpt::LabelledRow>& rows,
                                std::stop_token stop);

/// The loss that the options ask for, of a classifier that learns from these samples.
std::shared_ptr<gpt::Objective> make_objective(const TrainRequest& request, gpt::Classifier& classifier,
                                               const gpt::ClassificationDataset& train);

/// The epochs, where they were not given: by how many updates each has, and how many tokens.
void choose_epochs(TrainRequest& request, const gpt::ClassificationDataset& train);

/// What a classifier learns from, and what judges it meanwhile.
struct Lesson {
  const TrainRequest& request;
  const Data& rows;
  const gpt::ClassificationDataset& train;       // of rows.train, or of a part of them
  const gpt::LabelledRows& validation_rows;      // rows.validation, or rows.train where that is divided
  const gpt::ClassificationDataset& validation;  // of validation_rows, likewise
  std::stop_token stop;
};

struct Taught {
  gpt::TrainingResult result;
  std::size_t rows = 0;  // that were learned from, with those that were made
};

/// Trains the classifier, and before it those whose answers --unlabelled-file asks for; it takes their place. The callbacks are the last
/// one's. Throws as Trainer::fit.
Taught teach(const Lesson& lesson, gpt::Classifier& classifier, const gpt::TrainingCallbacks& callbacks);

/// Makes the adapter that a classifier has learned a part of its network, if there is one.
void merge(gpt::Classifier& classifier);

/// Has a classifier of one class learn the words of the same rows, and weighs both on the validation rows, as the options say. Returns what
/// is said of those.
program::Answers complete(const Lesson& lesson, program::Member& member);

/// Divides the rows into --folds parts, and judges each of them by a classifier that learned from the others, and was merged, as that of the
/// whole command is: its epochs are chosen by its own rows, and validation rows that are none of the part's tell the best and weigh its
/// words. Says on standard error how far it is. What is done of it stays in the run directory, and is not done again where the run goes on.
std::vector<program::Judgement> cross_validate(const TrainRequest& request, const Data& rows,
                                               std::stop_token stop);

}  // namespace classify
