// The repository checks itself. Each rule reads the whole tree and names what breaks it; each is
// shown to fail on a small tree that breaks it.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Tree = std::map<std::string, std::string>;  // path from the root, with '/' -> content
using Complaints = std::vector<std::string>;

// A folder may include from itself and from those before it.
const std::vector<std::string> kLayers{"base", "collectors", "server", "exporter", "agent"};

// Likewise within a layer: a room may include from its own and from those before it. Files beside
// the rooms stand beneath all of them, but for what lists them, or above.
enum class Rest { kBeneath, kAbove };
struct Rooms {
  std::string layer;
  std::vector<std::string> order;
  Rest rest;
  std::set<std::string> lists;  // files that may include from every room, and no room from them
};
const std::vector<Rooms> kRooms{
    {"collectors",
     {"host", "sock_diag", "namespaces", "attribution", "connections"},
     Rest::kBeneath,
     {"collectors/all.h", "collectors/all.cc"}},
    {"server", {"audit"}, Rest::kAbove, {}},
    {"agent", {"config", "process"}, Rest::kAbove, {}},
};

struct Confined {
  std::string header;              // what an #include of the library starts with
  std::vector<std::string> homes;  // what the path of a file that may include it starts with
};
const std::vector<Confined> kConfined{
    {"libmnl/", {"collectors/sock_diag/netlink.cc", "collectors/namespaces/namespace_ids.cc"}},
    {"civetweb.h", {"exporter/http.cc"}},
    {"http_parser.h", {"exporter/request_head.cc"}},
    {"CLI/", {"agent/options.cc"}},
    {"spdlog/", {"base/log.cc"}},
    {"openssl/", {"server/tls.cc"}},
    {"yaml-cpp/", {"agent/config/yaml.cc"}},
    {"nlohmann/", {"base/log.cc", "agent/config/config_field.cc", "exporter/api"}},
};
const std::set<std::string> kMayCatch{"agent/main.cc", "agent/config/yaml.cc",
                                      "exporter/scrape.cc"};
constexpr std::size_t kMaxBaseHeaders = 8;

std::string folder(const std::string& path) {
  const auto slash = path.find('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::size_t layer(const std::string& path) {
  return static_cast<std::size_t>(std::find(kLayers.begin(), kLayers.end(), folder(path)) -
                                  kLayers.begin());
}

bool is_product(const std::string& path) { return layer(path) < kLayers.size(); }

std::vector<std::string> find_all(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::vector<std::string> found;
  for (std::sregex_iterator m(text.begin(), text.end(), regex), end; m != end; ++m) {
    found.push_back((*m)[1]);
  }
  return found;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// Without comments and string literals, so that prose about `throw` is not code.
std::string code_of(const std::string& source) {
  std::string code;
  for (const std::string& line : lines_of(source)) {
    code += std::regex_replace(line, std::regex(R"re("([^"\\]|\\.)*"|//.*)re"), "") + "\n";
  }
  return code;
}

Complaints layers_include_downwards(const Tree& tree) {
  Complaints complaints;
  for (const auto& [path, text] : tree) {
    if (!is_product(path)) continue;
    for (const std::string& header : find_all(text, "#include \"([^\"]+)\"")) {
      if (header == "version.h" && folder(path) == "agent") continue;
      if (layer(header) > layer(path)) complaints.push_back(path + " includes " + header);
    }
  }
  return complaints;
}

// The room of a path in a layer; empty: it lies beside the rooms, or in another layer.
std::string room(const std::string& layer_name, const std::string& path) {
  if (!path.starts_with(layer_name + "/")) return "";
  return folder(path.substr(layer_name.size() + 1));
}

Complaints rooms_include_downwards(const Tree& tree) {
  Complaints complaints;
  for (const Rooms& rooms : kRooms) {
    const auto place_of = [&](const std::string& path) -> std::ptrdiff_t {
      const std::string name = room(rooms.layer, path);
      if (rooms.lists.contains(path) || (name.empty() && rooms.rest == Rest::kAbove)) return 1000;
      if (name.empty()) return -1;
      return std::find(rooms.order.begin(), rooms.order.end(), name) - rooms.order.begin();
    };
    for (const auto& [path, text] : tree) {
      if (folder(path) != rooms.layer) continue;
      if (place_of(path) == std::ssize(rooms.order)) {
        complaints.push_back(path + " is in a room without a place in the order");
      }
      for (const std::string& header : find_all(text, "#include \"([^\"]+)\"")) {
        if (folder(header) == rooms.layer && place_of(header) > place_of(path)) {
          complaints.push_back(path + " includes " + header);
        }
      }
    }
  }
  return complaints;
}

Complaints libraries_stay_home(const Tree& tree) {
  Complaints complaints;
  for (const auto& [path, text] : tree) {
    if (!is_product(path)) continue;
    for (const std::string& header : find_all(text, "#include [<\"]([^>\"]+)[>\"]")) {
      for (const Confined& library : kConfined) {
        const bool at_home =
            std::any_of(library.homes.begin(), library.homes.end(),
                        [&path = path](const auto& home) { return path.starts_with(home); });
        if (header.starts_with(library.header) && !at_home) {
          complaints.push_back(path + " includes " + header);
        }
      }
    }
  }
  return complaints;
}

Complaints errors_are_values(const Tree& tree) {
  Complaints complaints;
  for (const auto& [path, text] : tree) {
    if (!is_product(path)) continue;
    const std::string code = code_of(text);
    if (!find_all(code, R"(\b(throw)\b)").empty()) complaints.push_back(path + " throws");
    if (!kMayCatch.contains(path) && !find_all(code, R"(\b(catch)\s*\()").empty()) {
      complaints.push_back(path + " catches");
    }
  }
  return complaints;
}

Complaints base_stays_small(const Tree& tree) {
  const auto headers =
      static_cast<std::size_t>(std::count_if(tree.begin(), tree.end(), [](const auto& file) {
        return folder(file.first) == "base" && file.first.ends_with(".h");
      }));
  if (headers <= kMaxBaseHeaders) return {};
  return {"base/ has " + std::to_string(headers) + " headers"};
}

bool exists(const Tree& tree, std::string path) {
  if (path.ends_with('/')) path.pop_back();
  const auto at = tree.lower_bound(path);
  if (at != tree.end() && at->first == path) return true;
  const auto below = tree.lower_bound(path + "/");
  return below != tree.end() && below->first.starts_with(path + "/");
}

std::set<std::string> top_folders(const Tree& tree) {
  std::set<std::string> folders;
  for (const auto& [path, text] : tree) {
    if (!folder(path).empty() && !path.starts_with('.')) folders.insert(folder(path));
  }
  return folders;
}

// `base/ip.h` in backquotes, and [links](docs/ARCHITECTURE.md) from the page's own folder.
Complaints pages_name_what_exists(const Tree& tree) {
  Complaints complaints;
  const std::set<std::string> folders = top_folders(tree);
  for (const auto& [page, text] : tree) {
    if (!page.ends_with(".md")) continue;
    for (const std::string& path : find_all(text, "`([A-Za-z0-9_./-]+/[A-Za-z0-9_./-]*)`")) {
      if (folders.contains(folder(path)) && !exists(tree, path)) {
        complaints.push_back(page + " names " + path);
      }
    }
    for (const std::string& link : find_all(text, R"(\]\(([^)#: ]+)(?=[)#]))")) {
      const auto target = (std::filesystem::path(page).parent_path() / link).lexically_normal();
      if (!exists(tree, target.generic_string())) complaints.push_back(page + " links to " + link);
    }
  }
  return complaints;
}

// The first code block after a heading with "map" in it: one unindented `folder/` a line, each with
// what it is; what is indented lies inside.
Complaints map_is_the_tree(const Tree& tree) {
  const auto page = tree.find("docs/ARCHITECTURE.md");
  if (page == tree.end()) return {"docs/ARCHITECTURE.md is missing"};
  Complaints complaints;
  std::set<std::string> mapped;
  std::string parent;
  enum { kBefore, kHeading, kInside, kDone } state = kBefore;
  for (const std::string& line : lines_of(page->second)) {
    if (state == kBefore && std::regex_search(line, std::regex("^#+ .*[Mm]ap\\b"))) {
      state = kHeading;
    } else if (state == kHeading && line.starts_with("```")) {
      state = kInside;
    } else if (state == kInside && line.starts_with("```")) {
      state = kDone;
    } else if (state == kInside) {
      std::smatch m;
      if (!std::regex_search(line, m, std::regex("^( *)([A-Za-z0-9_./-]+)/(?= |$)"))) continue;
      const bool inside = m[1].length() > 0;
      const std::string path = inside ? parent + "/" + m[2].str() : m[2].str();
      if (!inside) mapped.insert(parent = path);
      if (!exists(tree, path)) complaints.push_back("the map has " + path);
    }
  }
  for (const std::string& name : top_folders(tree)) {
    if (!mapped.contains(name)) complaints.push_back("the map lacks " + name);
  }
  return complaints;
}

Complaints no_machine_paths(const Tree& tree) {
  Complaints complaints;
  for (const auto& [path, text] : tree) {
    for (const std::string name : {"work", "home", "root", "Users"}) {
      const std::string top = '/' + name + '/';
      for (auto at = text.find(top); at != std::string::npos; at = text.find(top, at + 1)) {
        const bool absolute = at == 0 || std::string_view(" \t\n\"'`(=:").find(text[at - 1]) !=
                                             std::string_view::npos;
        if (absolute) complaints.push_back(path + " has " + text.substr(at, 20));
      }
    }
  }
  return complaints;
}

// What is in the repository: not what is built, fetched or hidden at the top, but .ci and its like.
Tree read_tree(const std::filesystem::path& root) {
  const std::set<std::string> skipped{".git", "build", "node_modules", ".cache"};
  Tree tree;
  for (auto at = std::filesystem::recursive_directory_iterator(root);
       at != std::filesystem::recursive_directory_iterator(); ++at) {
    if (skipped.contains(at->path().filename().string())) {
      at.disable_recursion_pending();
    } else if (at->is_regular_file()) {
      std::ifstream file(at->path(), std::ios::binary);
      tree[at->path().lexically_relative(root).generic_string()] = {
          std::istreambuf_iterator<char>(file), {}};
    }
  }
  return tree;
}

}  // namespace

TEST_CASE("the tree keeps every rule") {
  const Tree tree = read_tree(TCPVITALS_SOURCE_DIR);
  REQUIRE(tree.contains("tests/tidy/tidy_test.cc"));
  for (const auto rule :
       {layers_include_downwards, rooms_include_downwards, libraries_stay_home, errors_are_values,
        base_stays_small, pages_name_what_exists, map_is_the_tree, no_machine_paths}) {
    for (const std::string& complaint : rule(tree)) FAIL_CHECK(complaint);
  }
}

TEST_CASE("a layer may not include from a higher one") {
  CHECK(layers_include_downwards({{"agent/main.cc", "#include \"base/ip.h\"\n"}}).empty());
  CHECK(layers_include_downwards({{"base/ip.cc", "#include \"agent/wiring.h\"\n"}}).size() == 1);
  CHECK(layers_include_downwards({{"server/loop.h", "#include \"exporter/http.h\"\n"}}).size() ==
        1);
}

TEST_CASE("a room may not include from a later one; files beside the rooms have their place too") {
  const auto complaints = [](const std::string& path, const std::string& header) {
    return rooms_include_downwards({{path, "#include \"" + header + "\"\n"}}).size();
  };
  CHECK(complaints("collectors/connections/a.cc", "collectors/sock_diag/b.h") == 0);
  CHECK(complaints("collectors/host/a.cc", "collectors/metric.h") == 0);
  CHECK(complaints("collectors/host/a.cc", "base/ip.h") == 0);
  CHECK(complaints("collectors/all.cc", "collectors/connections/b.h") == 0);
  CHECK(complaints("collectors/sock_diag/a.cc", "collectors/attribution/b.h") == 1);
  CHECK(complaints("collectors/metric.cc", "collectors/host/b.h") == 1);
  CHECK(complaints("collectors/host/a.cc", "collectors/all.h") == 1);
  CHECK(complaints("collectors/attic/a.cc", "collectors/metric.h") == 1);
  CHECK(complaints("agent/main.cc", "agent/process/b.h") == 0);
  CHECK(complaints("agent/process/a.cc", "agent/config/b.h") == 0);
  CHECK(complaints("agent/config/a.cc", "agent/process/b.h") == 1);
  CHECK(complaints("agent/config/a.cc", "agent/options.h") == 1);
}

TEST_CASE("every confined library is noticed outside its file") {
  for (const Confined& library : kConfined) {
    const std::string text = "#include <" + library.header + ">\n";
    for (const std::string& home : library.homes) {
      const std::string path = home + (home.ends_with(".cc") ? "" : ".cc");
      CHECK(libraries_stay_home({{path, text}}).empty());
    }
    CHECK(libraries_stay_home({{"agent/elsewhere.cc", text}}).size() == 1);
    CHECK(libraries_stay_home({{"base/elsewhere.h", text}}).size() == 1);
  }
}

TEST_CASE("throw and catch are noticed in code, not in prose") {
  CHECK(errors_are_values({{"base/a.cc", "// we never throw\nauto s = \"throw\";\n"}}).empty());
  CHECK(errors_are_values({{"base/a.cc", "if (bad) throw 1;\n"}}).size() == 1);
  CHECK(errors_are_values({{"base/a.cc", "try { f(); } catch (...) {}\n"}}).size() == 1);
  CHECK(errors_are_values({{"agent/main.cc", "try { f(); } catch (...) {}\n"}}).empty());
}

TEST_CASE("a ninth header in base is one too many") {
  Tree tree;
  for (char c = 'a'; c < 'i'; ++c) tree["base/" + std::string(1, c) + ".h"] = "";
  CHECK(base_stays_small(tree).empty());
  tree["base/i.h"] = "";
  CHECK(base_stays_small(tree).size() == 1);
}

TEST_CASE("a page that names a missing file is noticed") {
  const Tree good{{"README.md", "See `base/ip.h`, [it](docs/A.md#top) and [that](https://x/y)"},
                  {"docs/A.md", "[up](../README.md) `./dev` `tcp/80`"},
                  {"base/ip.h", ""}};
  CHECK(pages_name_what_exists(good).empty());
  Tree bad = good;
  bad.erase("base/ip.h");
  bad["base/fd.h"] = "";
  CHECK(pages_name_what_exists(bad).size() == 1);
  bad.erase("docs/A.md");
  CHECK(pages_name_what_exists(bad).size() == 2);
}

TEST_CASE("a map that is not the tree is noticed") {
  const std::string map = "# A\n## The map\n```\nbase/  types\n  deep/  more\ndocs/  pages\n```\n";
  const Tree good{{"docs/ARCHITECTURE.md", map}, {"base/deep/a.h", ""}, {".ci/run", ""}};
  CHECK(map_is_the_tree(good).empty());
  CHECK(map_is_the_tree({}).size() == 1);
  Tree grown = good;
  grown["new/a.h"] = "";
  CHECK(map_is_the_tree(grown) == Complaints{"the map lacks new"});
  Tree moved = good;
  moved.erase("base/deep/a.h");
  moved["base/a.h"] = "";
  CHECK(map_is_the_tree(moved) == Complaints{"the map has base/deep"});
}

TEST_CASE("a path of someone's machine is noticed") {
  CHECK(no_machine_paths({{"a.txt", "/proc/net/snmp and net/home/x"}}).empty());
  CHECK(no_machine_paths({{"a.txt", std::string("cd /ho") + "me/me"}}).size() == 1);
  CHECK(no_machine_paths({{"a.txt", std::string("\"/wo") + "rk/x\""}}).size() == 1);
}
