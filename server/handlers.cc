#include "server/handlers.h"

#include "server/relay.h"

namespace tcpvitals {
namespace {

class Echo final : public Handler {
 public:
  void on_data(Stream stream, std::string_view bytes) override { stream.write(bytes); }
};

class Discard final : public Handler {
 public:
  void on_data(Stream /*stream*/, std::string_view /*bytes*/) override {}
};

}  // namespace

std::unique_ptr<Handler> make_handler(const ListenerOptions& options) {
  switch (options.handler) {
    case HandlerKind::kEcho:
      return std::make_unique<Echo>();
    case HandlerKind::kDiscard:
      return std::make_unique<Discard>();
    case HandlerKind::kRelay:
      return std::make_unique<Relay>(options);
    case HandlerKind::kOwn:
      break;
  }
  return options.make_handler();
}

}  // namespace tcpvitals
