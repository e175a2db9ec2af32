#include "exporter/door.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "exporter/reply.h"
#include "exporter/request_head.h"
#include "server/options.h"

namespace tcpvitals {
namespace {

// The most that one read of the worker brings.
constexpr std::size_t kOneRead = 64 << 10;

std::size_t with_room_for_a_read(std::size_t most) { return most - std::min(most, kOneRead); }

}  // namespace

class Door::Gatekeeper final : public Handler {
 public:
  Gatekeeper(Door& door, std::size_t max_output_bytes)
      : door_(door), most_pending_(with_room_for_a_read(max_output_bytes)) {}

  void on_options(const ListenerOptions& options) override {
    most_pending_ = with_room_for_a_read(options.max_output_bytes);
  }
  void on_open(Stream stream) override;
  void on_data(Stream stream, std::string_view bytes) override;
  void on_end(Stream stream) override;
  void on_drained(Stream stream) override;
  void on_drain(Stream stream) override;
  void on_second() override;
  void on_close(Stream stream, CloseCause cause) override;

 private:
  enum class Stage : std::uint8_t {
    kHead,       // of the request: it is awaited
    kAsked,      // the HTTP server was, and has not begun to answer
    kAnswering,  // it has
    kAnswered,   // the answer is whole: its or our own
  };

  // A client's request: the context of its stream, and of the one to the HTTP server. The last of
  // them deletes it.
  struct Visit {
    std::optional<Stream> client;
    std::optional<Stream> http;
    std::optional<Endpoint> told;  // our end towards the HTTP server, as the relay table has it
    RequestHead head;
    Stage stage = Stage::kHead;
    TimePoint deadline;
  };

  static Visit& of(Stream stream) { return *static_cast<Visit*>(stream.context()); }

  void read_head(Visit& visit, std::string_view bytes);
  void ask_http(Visit& visit);
  void answer(Visit& visit, int status, std::string_view text);
  void set_deadline(Visit& visit, std::chrono::seconds wait);
  void on_deadline(Visit& visit);
  void end_of_answer(Visit& visit);
  void close_http(Visit& visit, std::string_view reason);

  Door& door_;
  std::size_t most_pending_;
  std::set<std::pair<TimePoint, Visit*>> deadlines_;
};

std::unique_ptr<Handler> Door::make_handler(std::size_t max_output_bytes) {
  return std::make_unique<Gatekeeper>(*this, max_output_bytes);
}

void Door::Gatekeeper::on_open(Stream stream) {
  stream.set_duplex();
  if (stream.is_outbound()) {
    stream.write(of(stream).head.text());
    return;
  }
  auto* const visit = new Visit{};
  visit->client = stream;
  stream.set_context(visit);
  set_deadline(*visit, door_.limits_.head);
}

void Door::Gatekeeper::on_data(Stream stream, std::string_view bytes) {
  Visit& visit = of(stream);
  if (!stream.is_outbound()) return read_head(visit, bytes);
  if (!visit.client) return;
  visit.stage = Stage::kAnswering;
  visit.client->write(bytes);
  if (visit.client->pending() > most_pending_) stream.pause();
}

// What follows a request is dropped: each connection has one.
void Door::Gatekeeper::read_head(Visit& visit, std::string_view bytes) {
  if (visit.stage != Stage::kHead) return;
  switch (visit.head.take(bytes)) {
    case RequestHead::State::kIncomplete:
      return;
    case RequestHead::State::kComplete:
      return ask_http(visit);
    case RequestHead::State::kMalformed:
      return answer(visit, 400, "not an HTTP/1 request\n");
    case RequestHead::State::kTooLarge:
      return answer(visit, 431, "the head of a request may have 8192 bytes\n");
    case RequestHead::State::kHasBody:
      return answer(visit, 413, "no request here has a body\n");
  }
}

void Door::Gatekeeper::ask_http(Visit& visit) {
  visit.stage = Stage::kAsked;
  visit.client->pause();
  set_deadline(visit, door_.limits_.answer);
  auto http = visit.client->connect(door_.http_, [&](const Endpoint& end) {
    visit.told = end;
    door_.relays_.add(end, {visit.client->peer(), visit.client->tls_subject()});
  });
  if (!http) return close_http(visit, http.error().message);
  http->set_context(&visit);
  visit.http = *http;
}

// Of our own. What the client still sends is read and dropped meanwhile: a reset would take the
// answer away from it.
void Door::Gatekeeper::answer(Visit& visit, int status, std::string_view text) {
  visit.stage = Stage::kAnswered;
  visit.client->write(reply_head(status, kPlainText, text.size()) + std::string(text));
  visit.client->finish();
  visit.client->resume();
  set_deadline(visit, door_.limits_.farewell);
}

void Door::Gatekeeper::on_end(Stream stream) {
  Visit& visit = of(stream);
  if (stream.is_outbound()) return end_of_answer(visit);
  if (visit.stage != Stage::kHead) return;
  if (!visit.head.text().empty()) return answer(visit, 400, "the request ends within its head\n");
  visit.stage = Stage::kAnswered;
  stream.finish();
}

void Door::Gatekeeper::end_of_answer(Visit& visit) {
  visit.http->finish();
  if (!visit.client || visit.stage != Stage::kAnswering) return;
  visit.stage = Stage::kAnswered;
  visit.client->finish();
  visit.client->resume();
}

void Door::Gatekeeper::on_drained(Stream stream) {
  if (stream.is_outbound()) return;
  if (auto& http = of(stream).http) http->resume();
}

// Who has asked gets an answer; the others are told that there will be none.
void Door::Gatekeeper::on_drain(Stream stream) {
  Visit& visit = of(stream);
  if (!stream.is_outbound() && visit.stage == Stage::kHead) {
    answer(visit, 503, "shutting down\n");
  }
}

void Door::Gatekeeper::set_deadline(Visit& visit, std::chrono::seconds wait) {
  deadlines_.erase({visit.deadline, &visit});
  visit.deadline = Clock::now() + wait;
  deadlines_.emplace(visit.deadline, &visit);
}

void Door::Gatekeeper::on_second() {
  const TimePoint now = Clock::now();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    Visit& visit = *deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    on_deadline(visit);
  }
}

void Door::Gatekeeper::on_deadline(Visit& visit) {
  if (visit.stage != Stage::kHead) return visit.client->abort(CloseCause::kLifetime);
  answer(visit, 408, "the head of the request did not come in time\n");
}

void Door::Gatekeeper::on_close(Stream stream, CloseCause cause) {
  if (stream.context() == nullptr) return;
  Visit& visit = of(stream);
  if (stream.is_outbound()) {
    visit.http.reset();
    close_http(visit, kCloseCauses[static_cast<std::size_t>(cause)]);
  } else {
    visit.client.reset();
    deadlines_.erase({visit.deadline, &visit});
    // An answer that is not whole must not look so.
    if (visit.http) {
      stream.abort();
      visit.http->abort();
    }
  }
  if (!visit.client && !visit.http) delete &visit;
}

// `reason`: why there is no more of an answer than came.
void Door::Gatekeeper::close_http(Visit& visit, std::string_view reason) {
  if (visit.told) door_.relays_.remove(*std::exchange(visit.told, std::nullopt));
  if (!visit.client || visit.stage == Stage::kAnswered) return;
  if (door_.failure_line_.admits()) {
    log_warn("the HTTP server did not answer", {{"reason", std::string(reason)}});
  }
  if (visit.stage == Stage::kAsked) return answer(visit, 502, "the HTTP server did not answer\n");
  visit.client->break_off(CloseCause::kBackend);
}

}  // namespace tcpvitals
