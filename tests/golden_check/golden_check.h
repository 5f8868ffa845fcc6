// golden_check: judges the library by folders of expected values (goldens/README.md).
#pragma once

#include <filesystem>
#include <iosfwd>
#include <vector>

#include "folders.h"

namespace gpt::golden {

/// Checks the folders, and all recognised folders below them, in the order of their names; prints the lines
/// of Report to `out` and explanations to `err`. Returns the exit status: 0 all is well, 1 something failed,
/// 2 something could not be read, or a path has no recognised folder in it.
int check_paths(const std::vector<std::filesystem::path>& paths, const Settings& settings, std::ostream& out,
                std::ostream& err);

}  // namespace gpt::golden
