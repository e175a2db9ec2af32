#include "exporter/render.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>

using namespace tcpvitals;
using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

namespace {

MetricFamily gauge(double value, std::vector<ClientMetric::Label> labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.gauge.value = value;
  return {"m", "h", MetricType::Gauge, {metric}};
}

std::string rendered_value(double value) {
  const std::string text = render_text({gauge(value)});
  const auto start = text.rfind(' ') + 1;
  return text.substr(start, text.size() - start - 1);
}

std::string rendered_label(const std::string& value) {
  const std::string text = render_text({gauge(0, {{"l", value}})});
  const auto start = text.find("l=\"") + 3;
  return text.substr(start, text.rfind("\"} 0\n") - start);
}

}  // namespace

TEST_CASE("numbers are spelled as Prometheus reads them, integers without an exponent up to 2^53") {
  const struct {
    double value;
    const char* text;
  } kTable[] = {
      {0, "0"},
      {-0.0, "0"},
      {1, "1"},
      {-17, "-17"},
      {100000, "100000"},
      {1e15, "1000000000000000"},
      {9007199254740991, "9007199254740991"},
      {9007199254740992, "9007199254740992"},
      {0.1, "0.1"},
      {0.0001, "0.0001"},
      {0.00005, "5e-05"},
      {2.5, "2.5"},
      {1.0 / 3, "0.3333333333333333"},
      {1e300, "1e+300"},
      {std::numeric_limits<double>::denorm_min(), "5e-324"},
      {std::numeric_limits<double>::quiet_NaN(), "NaN"},
      {std::numeric_limits<double>::infinity(), "+Inf"},
      {-std::numeric_limits<double>::infinity(), "-Inf"},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.value);
    CHECK(rendered_value(row.value) == row.text);
  }
}

TEST_CASE("every double reads back as the same double") {
  const unsigned seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 20000; ++i) {
    const double value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    CAPTURE(value);
    REQUIRE(std::strtod(rendered_value(value).c_str(), nullptr) == value);
  }
}

TEST_CASE("label values escape backslash, quote and newline, and nothing else") {
  CHECK(rendered_label(R"(C:\dir "x")"
                       "\nnext\ttab") == R"(C:\\dir \"x\"\nnext)"
                                         "\ttab");
  CHECK(rendered_label("") == "");
  CHECK(rendered_label("Grüße, 日本, 🦆") == "Grüße, 日本, 🦆");
}

TEST_CASE("bytes that are not UTF-8 become U+FFFD, one for one") {
  const struct {
    std::string bytes;
    const char* text;
  } kTable[] = {
      {"a\xFFz", "a\uFFFDz"},
      {"\xC3", "\uFFFD"},                                // cut off
      {"\xE2\x82", "\uFFFD\uFFFD"},                      // cut off
      {"\xE2\x82\"", "\uFFFD\uFFFD\\\""},                // the quote survives, escaped
      {"\xC0\xAF", "\uFFFD\uFFFD"},                      // overlong
      {"\xE0\x80\xAF", "\uFFFD\uFFFD\uFFFD"},            // overlong
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},            // surrogate
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},  // above U+10FFFF
      {"\xF4\x8F\xBF\xBF", "\U0010FFFF"},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.text);
    CHECK(rendered_label(row.bytes) == row.text);
  }
}

TEST_CASE("HELP escapes backslash and newline but not quotes") {
  MetricFamily family = gauge(1);
  family.help = "a \"b\" \\ c\nd";
  CHECK(render_text({family}) == "# HELP m a \"b\" \\\\ c\\nd\n# TYPE m gauge\nm 1\n");
}

TEST_CASE("every type has its lines") {
  ClientMetric m;
  m.label = {{"port", "443"}, {"peer", "public"}};
  m.counter.value = 1;
  m.gauge.value = 2;
  m.untyped.value = 3;
  m.summary = {5, 1.5, {{0.5, 0.25}}};
  m.histogram = {7, 0.75, {{3, 0.001}, {6, 2}, {7, std::numeric_limits<double>::infinity()}}};
  const auto lines = [&](MetricType type) {
    const std::string text = render_text({MetricFamily{"x", "h", type, {m}}});
    return text.substr(text.find("# TYPE"));
  };
  CHECK(lines(MetricType::Counter) == "# TYPE x counter\nx{port=\"443\",peer=\"public\"} 1\n");
  CHECK(lines(MetricType::Gauge) == "# TYPE x gauge\nx{port=\"443\",peer=\"public\"} 2\n");
  CHECK(lines(MetricType::Untyped) == "# TYPE x untyped\nx{port=\"443\",peer=\"public\"} 3\n");
  CHECK(lines(MetricType::Summary) ==
        "# TYPE x summary\n"
        "x{port=\"443\",peer=\"public\",quantile=\"0.5\"} 0.25\n"
        "x_sum{port=\"443\",peer=\"public\"} 1.5\n"
        "x_count{port=\"443\",peer=\"public\"} 5\n");
  CHECK(lines(MetricType::Histogram) ==
        "# TYPE x histogram\n"
        "x_bucket{port=\"443\",peer=\"public\",le=\"0.001\"} 3\n"
        "x_bucket{port=\"443\",peer=\"public\",le=\"2\"} 6\n"
        "x_bucket{port=\"443\",peer=\"public\",le=\"+Inf\"} 7\n"
        "x_sum{port=\"443\",peer=\"public\"} 0.75\n"
        "x_count{port=\"443\",peer=\"public\"} 7\n");
}

TEST_CASE("a histogram without a last bucket gets the one the format demands") {
  ClientMetric m;
  m.histogram = {4, 9, {{3, 0.5}}};
  CHECK(render_text({MetricFamily{"x", "h", MetricType::Histogram, {m}}}) ==
        "# HELP x h\n# TYPE x histogram\n"
        "x_bucket{le=\"0.5\"} 3\nx_bucket{le=\"+Inf\"} 4\nx_sum 9\nx_count 4\n");
}

TEST_CASE("the size hint changes the cost, never the bytes") {
  const Families families(50, gauge(1, {{"l", std::string(5000, '\\')}}));
  const std::string text = render_text(families);
  CHECK(text.size() > 50 * 10000);
  for (const std::size_t hint : {std::size_t{1}, text.size(), 2 * text.size()}) {
    CHECK(render_text(families, hint) == text);
  }
}
