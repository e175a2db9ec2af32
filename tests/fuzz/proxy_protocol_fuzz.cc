// Any bytes, read as the beginning of a proxied connection: a verdict is final, a whole header
// stays within its bounds whatever follows it, and what it says is written and read back the same.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "server/proxy_protocol.h"

using namespace tcpvitals;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

bool same(const ProxyHeader& a, const ProxyHeader& b) {
  return a.local == b.local && a.has_addresses == b.has_addresses && a.source == b.source &&
         a.destination == b.destination;
}

void check_round_trip(const ProxyHeader& header) {
  for (const auto version : {ProxyVersion::kV1, ProxyVersion::kV2}) {
    const std::string written = write_proxy_header(version, header.source, header.destination);
    const auto again = parse_proxy_header(std::as_bytes(std::span(written)));
    require(again.ok() && again->has_value() && (*again)->size == written.size() &&
            same(**again, header));
  }
}

// A header that goes on names the same client, or none where none was named.
void check_forwarded(const ProxyHeader& header, std::string_view came) {
  for (const auto version : {ProxyVersion::kV1, ProxyVersion::kV2}) {
    const std::string written = forward_proxy_header(version, came);
    const auto again = parse_proxy_header(std::as_bytes(std::span(written)));
    require(again.ok() && again->has_value() && (*again)->size == written.size() &&
            (*again)->source == header.source && (*again)->destination == header.destination);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto parsed = parse_proxy_header(bytes);
  if (!parsed) {
    require(!parsed.error().message.empty());
    std::vector<std::byte> longer(bytes.begin(), bytes.end());
    longer.push_back(std::byte{0});
    require(!parse_proxy_header(longer).ok());
  } else if (!parsed->has_value()) {
    require(size < kMaxProxyHeader);
  } else {
    const ProxyHeader& header = **parsed;
    require(header.size <= std::min(size, kMaxProxyHeader));
    require(!(header.local && header.has_addresses));
    const auto alone = parse_proxy_header(bytes.first(header.size));
    require(alone.ok() && alone->has_value() && same(**alone, header));
    const auto short_of_one = parse_proxy_header(bytes.first(header.size - 1));
    require(short_of_one.ok() && !short_of_one->has_value());
    if (header.has_addresses) check_round_trip(header);
    check_forwarded(header, {reinterpret_cast<const char*>(data), header.size});
  }
  return 0;
}
