// Whatever stands in HELP and in label values, a sample stays one line, and a reader gets it back.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "exporter/render.h"

using tcpvitals::render_text;

namespace {

void demand(bool condition) {
  if (!condition) std::abort();
}

// What a reader makes of the text between the quotes.
std::string unescaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      demand(text[i] != '"' && text[i] != '\n');
      out += text[i];
      continue;
    }
    demand(++i < text.size() && (text[i] == '\\' || text[i] == '"' || text[i] == 'n'));
    out += text[i] == 'n' ? '\n' : text[i];
  }
  return out;
}

std::string rendered(const std::string& bytes) {
  prometheus::ClientMetric metric;
  metric.label = {{"l", bytes}};
  return render_text(
      {prometheus::MetricFamily{"m", bytes, prometheus::MetricType::Gauge, {metric}}});
}

std::string label_of(const std::string& text) {
  const std::string before = "\n# TYPE m gauge\nm{l=\"";
  const std::string after = "\"} 0\n";
  const std::size_t start = text.find(before);
  demand(start != std::string::npos && text.find('\n') == start);
  demand(text.size() >= start + before.size() + after.size() && text.ends_with(after));
  const std::size_t first = start + before.size();
  return unescaped(text.substr(first, text.size() - after.size() - first));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const std::string value = label_of(rendered(bytes));
  // What came out is UTF-8, so it goes through unchanged the second time.
  demand(label_of(rendered(value)) == value);
  return 0;
}
