#include "exporter/request_head.h"

#include <doctest/doctest.h>

#include <string>

using namespace tcpvitals;
using State = RequestHead::State;

TEST_CASE("a request's head is complete, malformed, or has a body, however it is cut") {
  const struct {
    const char* bytes;
    State state;
  } kTable[] = {
      {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", State::kComplete},
      {"GET /metrics?collect[]=a HTTP/1.0\r\n\r\n", State::kComplete},
      {"HEAD / HTTP/1.1\nHost: x\n\n", State::kComplete},
      {"POST /-/reload HTTP/1.1\r\nContent-Length: 0\r\n\r\n", State::kComplete},
      {"POST /-/reload HTTP/1.1\r\nHost: x\r\n\r\n", State::kComplete},
      {"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", State::kComplete},
      {"GET / HTTP/1.1\r\nHost: x\r\n\r", State::kIncomplete},
      {"GET / HTTP/1.1\r\nHost", State::kIncomplete},
      {"G", State::kIncomplete},
      {"", State::kIncomplete},
      {"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n", State::kHasBody},
      {"GET / HTTP/1.1\r\ncontent-length: 1844674407370955160\r\n\r\n", State::kHasBody},
      {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", State::kHasBody},
      {"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", State::kHasBody},
      {"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", State::kMalformed},
      {"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", State::kMalformed},
      {"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", State::kMalformed},
      {"GET / HTTP/2.0\r\n\r\n", State::kMalformed},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", State::kMalformed},
      {"GET /\r\n\r\n", State::kMalformed},
      {"GET  HTTP/1.1\r\n\r\n", State::kMalformed},
      {"GRT / HTTP/1.1\r\n\r\n", State::kMalformed},
      {"GET / HTTP/1.1\r\nHo(st: x\r\n\r\n", State::kMalformed},
      {"GET / HTTP/1.1\r\nHost: a\x01\r\n\r\n", State::kMalformed},
      {"\x16\x03\x01\x02", State::kMalformed},
      {"SSH-2.0-OpenSSH_9.2\r\n", State::kMalformed},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.bytes);
    RequestHead whole;
    CHECK(whole.take(row.bytes) == row.state);
    RequestHead dripped;
    for (const char* byte = row.bytes; *byte != '\0'; ++byte) dripped.take({byte, 1});
    CHECK(dripped.state() == row.state);
    if (row.state == State::kComplete) {
      CHECK(whole.text() == row.bytes);
      CHECK(dripped.text() == row.bytes);
    }
  }
}

TEST_CASE("what follows a head is not taken, and nothing changes the verdict") {
  const std::string head = "GET / HTTP/1.1\r\n\r\n";
  RequestHead request;
  CHECK(request.take(head + "GET /other HTTP/1.1\r\n\r\n") == State::kComplete);
  CHECK(request.text() == head);
  CHECK(request.take("\x01") == State::kComplete);
  CHECK(request.text() == head);

  RequestHead malformed;
  CHECK(malformed.take("\x01") == State::kMalformed);
  CHECK(malformed.take(head) == State::kMalformed);
}

TEST_CASE("a head may have 8192 bytes") {
  const std::string start = "GET / HTTP/1.1\r\nX: ";
  const std::string end = "\r\n\r\n";
  const std::string fits =
      start + std::string(RequestHead::kMaxBytes - start.size() - end.size(), 'a') + end;
  RequestHead largest;
  CHECK(largest.take(fits) == State::kComplete);
  CHECK(largest.text() == fits);

  for (const std::size_t piece : std::initializer_list<std::size_t>{1, 100, 100'000}) {
    CAPTURE(piece);
    const std::string bytes = start + std::string(100'000, 'a') + end;
    RequestHead larger;
    for (std::size_t i = 0; i < bytes.size(); i += piece) larger.take(bytes.substr(i, piece));
    CHECK(larger.state() == State::kTooLarge);
    CHECK(larger.text().size() == RequestHead::kMaxBytes);
  }
}
