// Checks of error messages: the type alone does not show that the message helps anyone.
#pragma once

#include <gtest/gtest.h>

#include <exception>
#include <initializer_list>
#include <string>
#include <string_view>
#include <typeinfo>

namespace gpt::test {

/// The message of the exception of exactly the type E that `call` throws; a test failure (and "") when it throws none or
/// another.
template <class E, class Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const std::exception& error) {
    EXPECT_EQ(typeid(error), typeid(E)) << "thrown: " << typeid(error).name() << ": " << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing thrown, expected " << typeid(E).name();
  return "";
}

/// Expects that `call` throws exactly E, with a message that contains all of `parts`.
template <class E, class Call>
void expect_error(Call&& call, std::initializer_list<std::string_view> parts) {
  const std::string message = message_of<E>(call);
  for (const std::string_view part : parts)
    EXPECT_NE(message.find(part), message.npos) << "no \"" << part << "\" in: " << message;
}

}  // namespace gpt::test
