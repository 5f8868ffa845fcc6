#include "support/expect_error.h"

#include <exception>

namespace gpt::test {

std::string message_of(const std::type_info& expected, Call call) {
  try {
    call();
  } catch (const std::exception& error) {
    EXPECT_EQ(typeid(error), expected) << "thrown: " << typeid(error).name() << ": " << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing thrown, expected " << expected.name();
  return "";
}

void expect_error(const std::type_info& expected, Call call, std::initializer_list<std::string_view> parts) {
  const std::string message = message_of(expected, call);
  for (const std::string_view part : parts)
    EXPECT_NE(message.find(part), message.npos) << "no \"" << part << "\" in: " << message;
}

}  // namespace gpt::test
