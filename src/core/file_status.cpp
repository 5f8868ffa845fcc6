#include "core/file_status.h"

#include <system_error>

#include "gpt/core/error.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;

fs::file_type checked_type(const fs::path& path, const fs::file_status& status,
                           const std::error_code& error) {
  if (status.type() == fs::file_type::none) fail<IoError>(path.string(), "cannot stat: ", error.message());
  return status.type();
}

}  // namespace

bool is_there(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  return checked_type(path, status, error) != fs::file_type::not_found;
}

void require_directory(const fs::path& path, std::string_view expected) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  const fs::file_type type = checked_type(path, status, error);
  if (type == fs::file_type::not_found) fail<IoError>(path.string(), "no such directory");
  if (type != fs::file_type::directory)
    fail<IoError>(path.string(), "is not a directory, expected ", expected);
}

}  // namespace gpt
