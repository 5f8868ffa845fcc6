// What stands at a path, with the system's reason where it does not say.
#pragma once

#include <filesystem>
#include <string_view>

namespace gpt {

/// Whether something of that name is there. Of a link, the link itself: one that leads nowhere is there, and opening it says
/// what is wrong with it. Throws IoError naming the path when the system refuses to say.
bool is_there(const std::filesystem::path& path);

/// Throws IoError naming the path unless it is a directory: missing, something else (`expected` says what should be there),
/// or out of reach.
void require_directory(const std::filesystem::path& path, std::string_view expected);

}  // namespace gpt
