#include "collectors/host/proc_text.h"

#include <doctest/doctest.h>

using namespace tcpvitals;

namespace {

using Words = std::vector<std::string_view>;

std::string first_error(std::string_view text) {
  ParseErrors errors;
  split_lines(text, errors);
  return errors.first;
}

}  // namespace

TEST_CASE("lines keep their number, and a blank line costs only itself") {
  ParseErrors errors;
  const auto lines = split_lines("a b\n\n \t\nc\n", errors);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].number == 1);
  CHECK(lines[0].words == Words{"a", "b"});
  CHECK(lines[1].number == 4);
  CHECK(lines[1].words == Words{"c"});
  CHECK(errors.count == 2);
  CHECK(errors.first == "line 2: blank");
}

TEST_CASE("a text that is empty or stops in the middle of a line was cut off") {
  CHECK(first_error("a\nb\n").empty());
  CHECK(first_error("") == "empty");
  ParseErrors errors;
  const auto lines = split_lines("a\nb", errors);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].words == Words{"a"});
  CHECK(errors.count == 1);
  CHECK(errors.first == "line 2: cut off before its end");
}

TEST_CASE("words stand between blanks and tabs") {
  CHECK(split_words(" a\t b  c ") == Words{"a", "b", "c"});
  CHECK(split_words(" \t").empty());
}

TEST_CASE("a count is a whole word of digits that fits 64 bits") {
  CHECK(*parse_count("0") == 0);
  CHECK(*parse_count("18446744073709551615") == 18446744073709551615.0);
  CHECK(*parse_count("00000a2f", 16) == 0xa2f);
  for (const char* bad : {"", "-1", "+1", "1x", "x", " 1", "1.5", "0x1f"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_count(bad).ok());
  }
  CHECK(parse_count("-4").error().message == "\"-4\" is not a count");
  CHECK(parse_count("18446744073709551616").error().message ==
        "\"18446744073709551616\" does not fit 64 bits");
}

TEST_CASE("a signed number may be below zero") {
  CHECK(*parse_signed("-1") == -1);
  CHECK(*parse_signed("12") == 12);
  CHECK(*parse_signed("-9223372036854775808") == -9223372036854775808.0);
  CHECK(parse_signed("x").error().message == "\"x\" is not a number");
  CHECK(parse_signed("9223372036854775808").error().message ==
        "\"9223372036854775808\" does not fit 64 bits");
}

TEST_CASE("of many errors the first is kept in words, under the name of its file, and all count") {
  ParseErrors file;
  file.add("line 1: blank");
  file.add("line 2: blank");
  ParseErrors all;
  all.add(ParseErrors(), "net/snmp");
  CHECK(all.count == 0);
  CHECK(all.first.empty());
  all.add(file, "net/netstat");
  all.add("net/snmp6: Permission denied");
  CHECK(all.count == 3);
  CHECK(all.first == "net/netstat: line 1: blank");
}
