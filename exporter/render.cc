#include "exporter/render.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>

#include "base/utf8.h"

namespace tcpvitals {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr std::size_t kMaxNumber = 32;  // the longest double is 24 characters, the longest u64 20
constexpr std::size_t kMaxEscaped = 3;  // a byte becomes at most U+FFFD
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

char* put(char* p, std::string_view text) {
  std::memcpy(p, text.data(), text.size());
  return p + text.size();
}

constexpr std::array<bool, 256> kPlain = [] {
  std::array<bool, 256> plain{};
  for (std::size_t c = 0; c < 0x80; ++c) plain[c] = c != '\\' && c != '"' && c != '\n';
  return plain;
}();

char* put_escaped(char* p, std::string_view text, bool escape_quotes) {
  while (!text.empty()) {
    std::size_t n = 0;
    while (n < text.size() && kPlain[static_cast<unsigned char>(text[n])]) ++n;
    p = put(p, text.substr(0, n));
    text.remove_prefix(n);
    if (text.empty()) return p;
    const char c = text.front();
    const std::size_t length = utf8_length(text);
    if (c == '\n') {
      p = put(p, "\\n");
    } else if (c == '\\' || (c == '"' && escape_quotes)) {
      *p++ = '\\';
      *p++ = c;
    } else {
      p = put(p, length == 0 ? kReplacement : text.substr(0, length));
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return p;
}

char* put_number(char* p, std::uint64_t value) {
  return std::to_chars(p, p + kMaxNumber, value).ptr;
}

char* put_number(char* p, double value) {
  constexpr double kExact = 9007199254740992;  // 2^53
  if (std::isnan(value)) return put(p, "NaN");
  if (std::isinf(value)) return put(p, value > 0 ? "+Inf" : "-Inf");
  if (std::abs(value) <= kExact) {
    const auto whole = static_cast<std::int64_t>(value);
    if (static_cast<double>(whole) == value) return std::to_chars(p, p + kMaxNumber, whole).ptr;
  }
  return fmt::format_to(p, "{}", value);
}

// The text so far. Room is made once per line, so that a piece of a line is one unchecked copy.
class Text {
 public:
  explicit Text(std::size_t size_hint) { bytes_.resize(std::max<std::size_t>(size_hint, 4096)); }

  char* room(std::size_t n) {
    if (bytes_.size() - used_ < n) bytes_.resize(std::max(bytes_.size() * 2, used_ + n));
    return bytes_.data() + used_;
  }
  void written_to(const char* end) { used_ = static_cast<std::size_t>(end - bytes_.data()); }

  std::string take() && {
    bytes_.resize(used_);
    return std::move(bytes_);
  }

 private:
  std::string bytes_;
  std::size_t used_ = 0;
};

class FamilyWriter {
 public:
  FamilyWriter(Text& text, const MetricFamily& family) : text_(text), family_(family) {}

  void write() {
    write_header();
    for (const ClientMetric& metric : family_.metric) write_sample(metric);
  }

 private:
  void write_header() {
    char* p = text_.room(2 * family_.name.size() + kMaxEscaped * family_.help.size() + 64);
    p = put(put(put(p, "# HELP "), family_.name), " ");
    p = put_escaped(p, family_.help, false);
    p = put(put(put(p, "\n# TYPE "), family_.name), type_line());
    text_.written_to(p);
  }

  std::string_view type_line() const {
    switch (family_.type) {
      case MetricType::Counter:
        return " counter\n";
      case MetricType::Gauge:
        return " gauge\n";
      case MetricType::Summary:
        return " summary\n";
      case MetricType::Histogram:
        return " histogram\n";
      case MetricType::Untyped:
        break;
    }
    return " untyped\n";
  }

  void write_sample(const ClientMetric& metric) {
    render_labels(metric);
    switch (family_.type) {
      case MetricType::Counter:
        return write_line("", metric.counter.value);
      case MetricType::Gauge:
        return write_line("", metric.gauge.value);
      case MetricType::Untyped:
        return write_line("", metric.untyped.value);
      case MetricType::Summary:
        return write_summary(metric.summary);
      case MetricType::Histogram:
        return write_histogram(metric.histogram);
    }
  }

  void write_summary(const ClientMetric::Summary& summary) {
    for (const auto& q : summary.quantile) write_line("", q.value, "quantile", q.quantile);
    write_line("_sum", summary.sample_sum);
    write_line("_count", summary.sample_count);
  }

  void write_histogram(const ClientMetric::Histogram& histogram) {
    constexpr double kInf = std::numeric_limits<double>::infinity();
    for (const auto& b : histogram.bucket) {
      write_line("_bucket", b.cumulative_count, "le", b.upper_bound);
    }
    if (histogram.bucket.empty() || histogram.bucket.back().upper_bound != kInf) {
      write_line("_bucket", histogram.sample_count, "le", kInf);
    }
    write_line("_sum", histogram.sample_sum);
    write_line("_count", histogram.sample_count);
  }

  // The sample's own labels, `a="b",c="d"`: once per sample, however many lines it has.
  void render_labels(const ClientMetric& metric) {
    std::size_t size = 0;
    for (const auto& l : metric.label) size += l.name.size() + kMaxEscaped * l.value.size() + 4;
    if (labels_.size() < size) labels_.resize(size);
    char* p = labels_.data();
    for (const auto& l : metric.label) {
      if (p != labels_.data()) *p++ = ',';
      p = put(put(p, l.name), "=\"");
      p = put_escaped(p, l.value, true);
      *p++ = '"';
    }
    labels_used_ = static_cast<std::size_t>(p - labels_.data());
  }

  template <typename Number>
  void write_line(std::string_view suffix, Number value, std::string_view bound_label = {},
                  double bound = 0) {
    const std::string_view labels(labels_.data(), labels_used_);
    char* p = text_.room(family_.name.size() + labels.size() + 2 * kMaxNumber + 32);
    p = put(put(p, family_.name), suffix);
    if (!labels.empty() || !bound_label.empty()) {
      *p++ = '{';
      p = put(p, labels);
      if (!bound_label.empty()) {
        if (!labels.empty()) *p++ = ',';
        p = put_number(put(put(p, bound_label), "=\""), bound);
        *p++ = '"';
      }
      *p++ = '}';
    }
    *p++ = ' ';
    p = put_number(p, value);
    *p++ = '\n';
    text_.written_to(p);
  }

  Text& text_;
  const MetricFamily& family_;
  std::string labels_;
  std::size_t labels_used_ = 0;
};

}  // namespace

std::string render_text(const Families& families, std::size_t size_hint) {
  Text text(size_hint);
  for (const MetricFamily& family : families) FamilyWriter(text, family).write();
  return std::move(text).take();
}

}  // namespace tcpvitals
