#include "agent/config/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <optional>
#include <sstream>
#include <utility>

#include "base/utf8.h"

namespace tcpvitals {
namespace {

Error error_at(int line, int column, std::string_view what) {
  return {fmt::format("{}:{}: {}", line, column, what)};
}

Error error_at(const YAML::Mark& mark, std::string_view what) {
  return error_at(mark.line + 1, mark.column + 1, what);
}

// The library would read on over bytes that are not UTF-8, and end at 0x04.
std::optional<Error> first_bad_byte(std::string_view text) {
  int line = 1;
  std::size_t start = 0;    // of the line
  bool indentation = true;  // only spaces so far
  for (std::size_t i = 0; i < text.size();) {
    const auto complain = [&](std::string_view what) {
      return error_at(line, static_cast<int>(i - start) + 1, what);
    };
    const auto c = static_cast<unsigned char>(text[i]);
    const std::size_t length = utf8_length(text.substr(i));
    if (length == 0) return complain(fmt::format("byte 0x{:02x} is not UTF-8", c));
    if (c == '\t' && indentation) return complain("a tab: expected spaces as indentation");
    if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f) {
      return complain(fmt::format("control character 0x{:02x}: expected text", c));
    }
    i += length;
    indentation = c == '\n' || (indentation && c == ' ');
    if (c != '\n') continue;
    ++line;
    start = i;
  }
  return std::nullopt;
}

}  // namespace

// After the first error it ignores what comes.
class YamlBuilder final : public YAML::EventHandler {
 public:
  // What the library complains of; in a list or map that is still open, also where that begins.
  Error syntax_error(const YAML::Exception& e) {
    if (error_) return std::move(*error_);
    std::string what = "not YAML: " + e.msg;
    if (!open_.empty() && open_.back()->line <= e.mark.line) {
      what += fmt::format("; the {} begins in line {}",
                          open_.back()->kind == YamlNode::Kind::kMap ? "map" : "list",
                          open_.back()->line);
    }
    return error_at(e.mark, what);
  }

  Result<YamlDocument> take() {
    if (error_) return std::move(*error_);
    if (document_.nodes_.empty()) document_.nodes_.emplace_back();
    return std::move(document_);
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (!document_.nodes_.empty()) refuse(mark, "a second document: expected only one");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(YamlNode::Kind::kNull, mark, "", anchor);
  }
  // The library has seen its anchor, in this document and in front of it.
  void OnAlias(const YAML::Mark& /*mark*/, YAML::anchor_t anchor) override {
    if (!error_) open_.back()->items.push_back(anchors_[anchor]);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode* node = add(YamlNode::Kind::kScalar, mark, tag, anchor);
    if (node != nullptr) node->text = value;
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    begin(YamlNode::Kind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    begin(YamlNode::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { end(); }

 private:
  void refuse(const YAML::Mark& mark, std::string_view what) {
    if (!error_) error_ = error_at(mark, what);
  }

  // Null after an error. The library's tags for what has none: "", "?" plain, "!" quoted.
  YamlNode* add(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
                YAML::anchor_t anchor) {
    if (!tag.empty() && tag != "?" && tag != "!") refuse(mark, "a tag: expected a plain value");
    if (open_.size() == kMaxYamlDepth) refuse(mark, "nested too deeply");
    if (error_) return nullptr;
    YamlNode* node = &document_.nodes_.emplace_back();
    node->kind = kind;
    node->line = mark.line + 1;
    node->column = mark.column + 1;
    if (!open_.empty()) {
      YamlNode& parent = *open_.back();
      // Of nothing the library has the place of what comes after it, perhaps in a later line.
      if (kind == YamlNode::Kind::kNull) {
        const bool has_key = parent.kind == YamlNode::Kind::kMap && parent.items.size() % 2 == 1;
        const YamlNode& place = has_key ? *parent.items.back() : parent;
        node->line = place.line;
        node->column = place.column;
      }
      parent.items.push_back(node);
    }
    if (anchor != YAML::NullAnchor) {
      if (anchors_.size() <= anchor) anchors_.resize(anchor + 1);
      anchors_[anchor] = node;
    }
    return node;
  }

  void begin(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
             YAML::anchor_t anchor) {
    YamlNode* node = add(kind, mark, tag, anchor);
    if (node != nullptr) open_.push_back(node);
  }
  void end() {
    if (!error_) open_.pop_back();
  }

  YamlDocument document_;
  std::vector<YamlNode*> open_;     // lists and maps that have not ended, the innermost last
  std::vector<YamlNode*> anchors_;  // by the library's number, which counts from 1
  std::optional<Error> error_;
};

Result<YamlDocument> parse_yaml(std::string_view text) {
  if (text.size() > kMaxYamlBytes) {
    return error_at(1, 1, fmt::format("expected a file of at most {} bytes", kMaxYamlBytes));
  }
  if (auto bad = first_bad_byte(text)) return std::move(*bad);
  YamlBuilder builder;
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    // Not until it ends: of some garbage the library makes documents without end.
    if (parser.HandleNextDocument(builder)) parser.HandleNextDocument(builder);
  } catch (const YAML::Exception& e) {
    return builder.syntax_error(e);
  }
  return builder.take();
}

}  // namespace tcpvitals
