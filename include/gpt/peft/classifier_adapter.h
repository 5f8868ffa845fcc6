// The adapter of a classifier, whose head is stored whole beside it.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "gpt/models/classifier.h"

namespace gpt {

/// Attaches what PEFT saved for a sequence classifier (task_type SEQ_CLS), by any method that load_adapter knows, to its network, and takes
/// the head from it: base_model.model.score.weight, or base_model.score.weight beside virtual tokens, whose rows are the classifier's
/// labels in their order. Classifier::save writes such a directory. Throws as load_adapter; FormatError, ShapeError for a head that is missing or of another shape; the classifier then is as it
/// was.
void attach_adapter(Classifier& classifier, const std::filesystem::path& directory,
                    const std::function<void(std::string_view)>& on_warning = {});

}  // namespace gpt
