#include "collectors/host/proc_text.h"

#include <doctest/doctest.h>

using namespace tcpvitals;

TEST_CASE("a text that is empty or stops in the middle of a line was cut off") {
  CHECK(split_lines("a\nb\n")->size() == 2);
  CHECK(split_lines("\n")->size() == 1);
  CHECK(split_lines("").error().message == "empty");
  CHECK(split_lines("a\nb").error().message == "line 2: cut off before its end");
}

TEST_CASE("words stand between blanks and tabs") {
  CHECK(split_words(" a\t b  c ") == std::vector<std::string_view>{"a", "b", "c"});
  CHECK(split_words(" \t").empty());
}

TEST_CASE("a number is a whole word of digits that fits 64 bits") {
  CHECK(*parse_number("0") == 0);
  CHECK(*parse_number("18446744073709551615") == 18446744073709551615.0);
  CHECK(*parse_number("00000a2F", 16) == 0xa2f);
  CHECK(parse_number("18446744073709551616").error().message ==
        "\"18446744073709551616\" does not fit 64 bits");
  for (const char* bad : {"", "-1", "+1", "1.5", "1x", "x", " 1", "0x10"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_number(bad).ok());
  }
}
