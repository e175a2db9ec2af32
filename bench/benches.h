// The benches, in the order they run. Each prints its own table and the targets it is held to.
#pragma once

namespace tcpvitals::bench {

void bench_render();   // the text renderer and prometheus-cpp's
void bench_events();   // what a DESTROY event costs, and what listening costs the ones who connect
void bench_server();   // the embedded server beside other servers and proxies
void bench_sockets();  // a sample of 100,000 sockets, and everything else that reads them

// Only when they are named: they take root, or gigabytes.
void bench_churn();       // connect and close with the agent, as nobody, and without
void bench_namespaces();  // what the other namespaces of a host cost
void bench_million();     // a million sockets

}  // namespace tcpvitals::bench
