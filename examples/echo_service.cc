// An echo service whose metrics a stock prometheus::Exposer serves.
//
//   echo_service 127.0.0.1:10078 127.0.0.1:10079     until SIGINT or SIGTERM
#include <prometheus/exposer.h>
#include <signal.h>
#include <tcpvitals/collectors/exposed.h>
#include <tcpvitals/server/server.h>
#include <tcpvitals/server/server_collector.h>

#include <iostream>
#include <memory>

using namespace tcpvitals;

int fail(const std::string& why) {
  std::cerr << "echo_service: " << why << "\n";
  return 2;
}

int main(int argc, char** argv) {
  if (argc != 3) return fail("an address and one for metrics are needed");
  const auto endpoint = parse_endpoint(argv[1]);
  if (!endpoint) return fail(endpoint.error().message);

  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGINT);
  sigaddset(&stop_signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &stop_signals, nullptr);  // before there are other threads

  ServerOptions options;
  options.listeners[0].endpoint = *endpoint;
  options.listeners[0].deadlines.idle = std::chrono::minutes(10);
  auto server = Server::start(options);
  if (!server) return fail(server.error().message);

  ServerCollector collector(**server);
  const auto exposed = std::make_shared<ExposedCollectors>(std::vector<Collector*>{&collector});
  prometheus::Exposer exposer(argv[2]);
  exposer.RegisterCollectable(exposed);

  int signal = 0;
  sigwait(&stop_signals, &signal);
  return (*server)->drain(Clock::now() + std::chrono::seconds(5)) ? 0 : 1;
}
