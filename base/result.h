// Result<T>: what the world does to us, as a value. Either a T or an Error; never both, never
// neither.
//
// An Error carries one sentence for a person and a kind for the program. Context is added once per
// boundary, outermost first: `snmp: line 3: 14 names but 13 values`.
#pragma once

#include <cassert>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace tcpvitals {

struct Error {
  enum class Kind {
    kFailed,  // something went wrong: a person should look
    kAbsent,  // this kernel or host does not have the thing: nothing is wrong
  };

  std::string message;
  Kind kind = Kind::kFailed;

  static Error absent(std::string message) { return {std::move(message), Kind::kAbsent}; }

  bool is_absent() const { return kind == Kind::kAbsent; }

  // The same error, seen from one boundary further out.
  Error in(std::string_view context) && {
    message.insert(0, ": ");
    message.insert(0, context);
    return std::move(*this);
  }
};

// `<what>: <text of errno>`, e.g. `open /proc/net/snmp: Permission denied`.
Error errno_error(std::string_view what, int errno_value);

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& operator*() {
    assert(ok());
    return *std::get_if<0>(&state_);
  }
  const T& operator*() const {
    assert(ok());
    return *std::get_if<0>(&state_);
  }
  T* operator->() { return &**this; }
  const T* operator->() const { return &**this; }

  Error& error() {
    assert(!ok());
    return *std::get_if<1>(&state_);
  }
  const Error& error() const {
    assert(!ok());
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : state_(std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  Error& error() {
    assert(!ok());
    return *std::get_if<1>(&state_);
  }
  const Error& error() const {
    assert(!ok());
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<std::monostate, Error> state_;
};

}  // namespace tcpvitals
