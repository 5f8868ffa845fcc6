#include "support/json.h"

namespace gpt::test {

Json parse_json(std::string_view text) { return Json::parse(text); }

std::string dump_json(const Json& value) { return value.dump(-1, ' ', true); }

}  // namespace gpt::test
