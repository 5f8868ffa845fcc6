// Where a program's result goes: not in the place of what it reads, nor of a model that is there.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace program {

/// What is in the directory, in the order of the alphabet; nothing where it cannot be read. (Where memory ends, std::filesystem's
/// iterators end the program.)
std::vector<std::string> names_in(const std::filesystem::path& directory);

/// The first file of a model or an adapter that the directory holds: weights, configuration or tokenizer. Empty: none.
std::string model_file_in(const std::filesystem::path& directory);

/// Throws ArgumentError naming the option and the output when that is one of the files that are read (other names of one file
/// among them), or a file of the model in one of the directories that are read.
void require_not_read(std::string_view option, const std::filesystem::path& output,
                      std::span<const std::string> read);

/// Throws ArgumentError naming the option and the directory, which is its value, when that holds a file of a model or an adapter,
/// unless it is the one that is read.
void require_no_other_model(std::string_view option, const std::filesystem::path& directory,
                            const std::filesystem::path& read = {});

/// The same for a file of a tokenizer: configuration and weights of a network may be there.
void require_no_tokenizer(std::string_view option, const std::filesystem::path& directory);

}  // namespace program
