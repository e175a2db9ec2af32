// echo_libevent PORT: the echo server that libevent's own book has: one bufferevent a connection.
// Ends when stdin does.
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <thread>

namespace {

void on_read(bufferevent* stream, void* /*context*/) {
  evbuffer_add_buffer(bufferevent_get_output(stream), bufferevent_get_input(stream));
}

void on_event(bufferevent* stream, short events, void* /*context*/) {
  if ((events & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) != 0) bufferevent_free(stream);
}

void on_accept(evconnlistener* listener, evutil_socket_t fd, sockaddr* /*from*/, int /*size*/,
               void* /*context*/) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  bufferevent* stream =
      bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
  bufferevent_setcb(stream, on_read, nullptr, on_event, nullptr);
  bufferevent_enable(stream, EV_READ | EV_WRITE);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::thread([] {
    char byte;
    while (::read(STDIN_FILENO, &byte, 1) > 0) {
    }
    std::_Exit(0);
  }).detach();
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(argv[1])));
  event_base* base = event_base_new();
  if (evconnlistener_new_bind(base, on_accept, nullptr, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE,
                              4096, reinterpret_cast<sockaddr*>(&address),
                              sizeof address) == nullptr) {
    return 1;
  }
  return event_base_dispatch(base);
}
