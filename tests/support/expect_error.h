// Checks of error messages: the type alone does not show that the message helps anyone.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>

namespace gpt::test {

/// A reference to what a check calls. The checks themselves are compiled once, not again for every lambda.
class Call {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, Call>) Call(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object) { (*static_cast<std::remove_reference_t<F>*>(object))(); }) {}
  void operator()() const { call_(object_); }

 private:
  void* object_;
  void (*call_)(void*);
};

/// The message of the exception of exactly the type `expected` that `call` throws; a test failure (and "") when it throws
/// none or another.
std::string message_of(const std::type_info& expected, Call call);

template <class E>
std::string message_of(Call call) {
  return message_of(typeid(E), call);
}

/// Expects that `call` throws exactly `expected`, with a message that contains all of `parts`.
void expect_error(const std::type_info& expected, Call call, std::initializer_list<std::string_view> parts);

template <class E>
void expect_error(Call call, std::initializer_list<std::string_view> parts) {
  expect_error(typeid(E), call, parts);
}

}  // namespace gpt::test
