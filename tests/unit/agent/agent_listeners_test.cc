#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "agent/config/config.h"
#include "agent/listeners.h"

using namespace tcpvitals;

namespace {

const Endpoint kHttp = *parse_endpoint("127.0.0.1:40000");

Options flags(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "tcpvitals");
  return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

std::vector<ListenerOptions> listeners(std::vector<const char*> arguments,
                                       const std::string& file = "") {
  static RelayTable relays;
  static Door door(kHttp, relays);
  const auto config = parse_config(file, "t.yml");
  REQUIRE(config.ok());
  return make_listeners(flags(std::move(arguments)), config->server, door);
}

// "name address", each.
std::string shown(const std::vector<ListenerOptions>& list) {
  std::string text;
  for (const ListenerOptions& l : list) text += l.name + " " + to_string(l.endpoint) + "; ";
  return text;
}

PassedSocket passed(const char* name, Fd fd) { return {name, std::move(fd)}; }

// Listening on a free port of that address, which it tells.
Fd listening(const char* address, Endpoint& at) {
  Fd fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in name{};
  socklen_t size = sizeof name;
  name.sin_family = AF_INET;
  REQUIRE(::inet_pton(AF_INET, address, &name.sin_addr) == 1);
  REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), size) == 0);
  REQUIRE(::listen(fd.get(), 1) == 0);
  REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &size) == 0);
  at = {*parse_ip_address(address), ntohs(name.sin_port)};
  return fd;
}

}  // namespace

TEST_CASE("without a file there are echo and the web, each as often as its flag stands there") {
  CHECK(shown(listeners({})) == "echo 127.0.0.1:10078; web 127.0.0.1:10077; ");
  CHECK(shown(listeners({"--server.listen-address="})) == "web 127.0.0.1:10077; ");
  CHECK(shown(listeners({"--web.listen-address=[::1]:1", "--web.listen-address", "[0.0.0.0]:2",
                         "--server.listen-address=:3", "--server.listen-address=:4"})) ==
        "echo [::]:3; echo-2 [::]:4; web [::1]:1; web-2 0.0.0.0:2; ");
}

TEST_CASE("listeners of the file stand instead of the default, and beside a flag") {
  const std::string file = "server: {listeners: {sink: {address: ':9', handler: discard}}}";
  CHECK(shown(listeners({}, file)) == "sink [::]:9; web 127.0.0.1:10077; ");
  CHECK(shown(listeners({"--server.listen-address=127.0.0.1:7"}, file)) ==
        "sink [::]:9; echo 127.0.0.1:7; web 127.0.0.1:10077; ");
}

TEST_CASE("a web listener leads to the HTTP server, with what the file says of it") {
  const auto list = listeners({"--server.listen-address="},
                              "server: {web: {max_connections: 9, deny: 10.0.0.0/8}}");
  REQUIRE(list.size() == 1);
  CHECK(list[0].handler == HandlerKind::kOwn);
  CHECK(list[0].make_handler() != nullptr);
  CHECK(list[0].essential);
  CHECK(list[0].backend_is_here);
  CHECK(list[0].max_output_bytes == 1 << 20);
  CHECK(list[0].max_connections == 9);
  CHECK(list[0].per_peer.max_connections == 4);
  CHECK(list[0].deny.size() == 1);
  CHECK(list[0].deadlines.idle == std::chrono::seconds(130));
  CHECK(validate({.listeners = list}).ok());
}

TEST_CASE("the web has connections for slow requests, and one peer half as many as HTTP threads") {
  const auto web = [](const char* flag, const char* file) {
    const auto list = listeners({"--server.listen-address=", flag}, file);
    return std::pair(list[0].max_connections, list[0].per_peer.max_connections);
  };
  CHECK(web("--web.max-requests=40", "") == std::pair(84U, 21U));
  CHECK(web("--web.max-requests=1", "") == std::pair(6U, 2U));
  CHECK(web("--web.max-requests=40", "server: {web: {max_connections: 1000}}") ==
        std::pair(1000U, 21U));
  const auto two = listeners({"--web.listen-address=[::1]:1", "--web.listen-address=:2"});
  CHECK(two[1].max_connections == 84);
  CHECK(two[1].per_peer.max_connections == 10);
  CHECK(web("--web.max-requests=40", "server: {web: {per_peer: {connections: 42}}}") ==
        std::pair(84U, 42U));
  CHECK(web("--web.max-requests=40", "server: {web: {per_peer: {rate: 5}}}") ==
        std::pair(84U, 21U));
}

TEST_CASE("a passed socket is for the listener of its name, else of its address") {
  const auto list = listeners({});
  Endpoint a;
  Endpoint b;
  std::vector<PassedSocket> sockets;
  sockets.push_back(passed("web", listening("127.0.0.1", a)));
  sockets.push_back(passed("tcpvitals.socket", listening("127.0.0.2", b)));
  auto refused = assign(sockets, list);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message ==
        "passed socket \"tcpvitals.socket\" at " + to_string(b) +
            ": expected the name (FileDescriptorName=) or the address of a listener");
  const std::string flag = "--server.listen-address=" + to_string(b);
  CHECK(assign(sockets, listeners({flag.c_str()})).ok());
  CHECK(sockets[0].name == "web");
  CHECK(sockets[1].name == "echo");
}

TEST_CASE("of a predecessor's sockets only those are kept that are still wanted as they are") {
  Endpoint at;
  std::vector<PassedSocket> sockets;
  sockets.push_back(passed("web", listening("127.0.0.1", at)));
  sockets.push_back(passed("gone", listening("127.0.0.1", at)));
  Endpoint echo;
  sockets.push_back(passed("echo", listening("127.0.0.1", echo)));
  const std::string flag = "--server.listen-address=" + to_string(echo);
  keep_wanted(sockets, listeners({flag.c_str(), "--web.listen-address=127.0.0.1:1"}));
  REQUIRE(sockets.size() == 1);
  CHECK(sockets[0].name == "echo");
  sockets[0].name.clear();  // with very many sockets their names are too long to be passed on
  keep_wanted(sockets, listeners({flag.c_str(), "--web.listen-address=127.0.0.1:1"}));
  REQUIRE(sockets.size() == 1);
  CHECK(sockets[0].name == "echo");
  // One that may have any port keeps the one it has.
  keep_wanted(sockets, listeners({"--server.listen-address=127.0.0.1:0"}));
  CHECK(sockets.size() == 1);
}
