#include "server/audit/audit.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "server/audit/audit_collector.h"
#include "tests/support/reading.h"

using namespace tcpvitals;
using namespace std::chrono_literals;

namespace {

using Json = nlohmann::json;

// A directory that is gone again at the end.
class Directory {
 public:
  Directory() { CHECK(::mkdtemp(path_.data()) != nullptr); }
  ~Directory() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name = "audit.jsonl") const { return path_ + "/" + name; }

 private:
  std::string path_ = (std::filesystem::temp_directory_path() / "audit-XXXXXX").string();
};

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Every line is whole, and JSON.
std::vector<Json> parse_lines(const std::string& text) {
  CHECK((text.empty() || text.back() == '\n'));
  std::vector<Json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(Json::parse(line));
  return lines;
}

std::unique_ptr<AuditLog> open_log(const std::string& path, std::size_t buffer = 8U << 20) {
  auto log = AuditLog::open({path, buffer});
  REQUIRE(log.ok());
  return std::move(*log);
}

TimePoint in(Clock::duration duration) { return Clock::now() + duration; }

void write_open(AuditLog& log, std::uint64_t id) {
  log.write(AuditOpen{.id = id, .listener = "echo"});
}

// Which of opens, closes and denies the n-th line of overflow() is.
const char* event_of(std::uint64_t n) {
  constexpr const char* kEvents[] = {"open", "close", "deny"};
  return kEvents[n % 3];
}

// Writes lines until `lost` were lost; how many that took.
std::uint64_t overflow(AuditLog& log, std::uint64_t lost) {
  std::uint64_t n = 0;
  for (; log.statistics().lost < lost; ++n) {
    REQUIRE(n < 100'000);
    if (n % 3 == 0) log.write(AuditOpen{.id = n, .listener = "echo"});
    if (n % 3 == 1) log.write(AuditClose{.id = n, .listener = "echo", .cause = "peer_fin"});
    if (n % 3 == 2) log.write(AuditDeny{.listener = "echo", .why = "access"});
  }
  return n;
}

// All that overflow() wrote is there, or in a gap record that stands where it is missing.
void check_overflow(const std::vector<Json>& lines, std::uint64_t written, std::uint64_t lost) {
  std::uint64_t n = 0;
  std::uint64_t in_gaps = 0;
  for (const Json& line : lines) {
    if (line["event"] != "gap") {
      CHECK(line["event"] == event_of(n));
      if (line.contains("id")) CHECK(line["id"] == n);
      ++n;
      continue;
    }
    std::map<std::string, std::uint64_t> missing;
    const std::uint64_t end = n + line["lost"].get<std::uint64_t>();
    in_gaps += end - n;
    while (n < end) ++missing[event_of(n++)];
    CHECK(line["opens"] == missing["open"]);
    CHECK(line["closes"] == missing["close"]);
    CHECK(line["denies"] == missing["deny"]);
  }
  CHECK(n == written);
  CHECK(in_gaps == lost);
}

// The reading end of a pipe that a log writes to, and that nobody reads until read_all().
class Pipe {
 public:
  explicit Pipe(const std::string& path) {
    CHECK(::mkfifo(path.c_str(), 0600) == 0);
    fd_ = Fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    CHECK(::fcntl(fd_.get(), F_SETPIPE_SZ, 4096) == 4096);
  }
  // Until the log has flushed.
  std::string read_all(AuditLog& log) {
    return testing::read_until(fd_, [&] { return log.flush(in(1ms)); });
  }

 private:
  Fd fd_;
};

// A disk that has room for so much in each file, for as long as this lives: stderr too, should it
// be one.
class SmallDisk {
 public:
  explicit SmallDisk(std::size_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    CHECK(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~SmallDisk() { ::setrlimit(RLIMIT_FSIZE, &before_); }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

 private:
  rlimit before_{};
};

}  // namespace

TEST_CASE("audit lines are in the file in the order they were written, soon and unasked") {
  const Directory directory;
  const auto log = open_log(directory.file());
  for (std::uint64_t id = 1; id <= 1000; ++id) write_open(*log, id);
  for (const TimePoint deadline = in(10s); log->statistics().lines < 1000;) {
    REQUIRE(Clock::now() < deadline);
    std::this_thread::sleep_for(1ms);
  }
  const std::string text = read_file(directory.file());
  const auto lines = parse_lines(text);
  REQUIRE(lines.size() == 1000);
  for (std::size_t i = 0; i < lines.size(); ++i) CHECK(lines[i]["id"] == i + 1);
  const AuditStatistics statistics = log->statistics();
  CHECK(statistics.bytes == text.size());
  CHECK(statistics.lost == 0);
  CHECK(statistics.write_errors == 0);
  CHECK(statistics.queued_bytes == 0);
  struct stat status {};
  REQUIRE(::stat(directory.file().c_str(), &status) == 0);
  CHECK((status.st_mode & 0777 & ~0640U) == 0);
}

TEST_CASE("a flush has everything in the file, and so has the end of the log") {
  const Directory directory;
  auto log = open_log(directory.file());
  CHECK(log->flush(in(10s)));
  for (std::uint64_t id = 1; id <= 100; ++id) {
    write_open(*log, id);
    REQUIRE(log->flush(in(10s)));
    REQUIRE(parse_lines(read_file(directory.file())).size() == id);
  }
  for (std::uint64_t id = 101; id <= 5000; ++id) write_open(*log, id);
  log.reset();
  CHECK(parse_lines(read_file(directory.file())).size() == 5000);
}

TEST_CASE("an audit log goes on at the end of what is there, on a new line") {
  const Directory directory;
  std::ofstream(directory.file()) << "{\"torn\":tru";
  for (int run = 0; run < 2; ++run) write_open(*open_log(directory.file()), 7);
  const std::string text = read_file(directory.file());
  REQUIRE(text.starts_with("{\"torn\":tru\n"));
  CHECK(parse_lines(text.substr(text.find('\n') + 1)).size() == 2);
}

TEST_CASE("an audit log that cannot be opened says why") {
  const Directory directory;
  const auto error = [](const std::string& path, std::size_t buffer = 8U << 20) {
    const auto log = AuditLog::open({path, buffer});
    return log ? std::string() : log.error().message;
  };
  CHECK(error(directory.file("no/where")).ends_with("no/where: No such file or directory"));
  CHECK(error(directory.file("")).ends_with(": Is a directory"));
  CHECK(error(directory.file(), 1000) == "audit buffer: 1000 bytes, fewer than 131072");
  REQUIRE(::mkfifo(directory.file("pipe").c_str(), 0600) == 0);
  CHECK(error(directory.file("pipe")).ends_with("pipe: No such device or address"));
}

TEST_CASE("a pipe nobody reads blocks no one, and what is lost is counted exactly in its place") {
  const Directory directory;
  Pipe pipe(directory.file());
  const auto log = open_log(directory.file(), 128 << 10);
  const std::uint64_t written = overflow(*log, 1000);
  CHECK_FALSE(log->flush(in(20ms)));
  CHECK(log->statistics().queued_bytes <= log->statistics().queue_limit_bytes);
  check_overflow(parse_lines(pipe.read_all(*log)), written, 1000);
  CHECK(log->statistics().lines > written - 1000);
  write_open(*log, 1'000'000);
  const auto after = parse_lines(pipe.read_all(*log));
  REQUIRE(after.size() == 1);
  CHECK(after[0]["id"] == 1'000'000);
}

TEST_CASE("a log whose pipe nobody reads can still be closed") {
  const Directory directory;
  const Pipe pipe(directory.file());
  const auto log = open_log(directory.file(), 128 << 10);
  overflow(*log, 10);
}

TEST_CASE("a full disk keeps audit lines waiting and lets no one wait") {
  const auto log = open_log("/dev/full");
  for (std::uint64_t id = 1; id <= 10; ++id) write_open(*log, id);
  CHECK_FALSE(log->flush(in(300ms)));
  const AuditStatistics statistics = log->statistics();
  CHECK(statistics.lines == 0);
  CHECK(statistics.bytes == 0);
  CHECK(statistics.lost == 0);
  CHECK(statistics.queued_bytes > 0);
  CHECK(statistics.write_errors >= 2);
}

TEST_CASE("a disk that fills holds whole lines only, and has all of them once there is room") {
  const Directory directory;
  const auto log = open_log(directory.file());
  {
    const SmallDisk disk(10'000);
    for (std::uint64_t id = 1; id <= 500; ++id) write_open(*log, id);
    CHECK_FALSE(log->flush(in(300ms)));
    const std::string text = read_file(directory.file());
    CHECK(text.size() <= 10'000);
    CHECK(text.size() > 9'000);
    CHECK(parse_lines(text).size() == log->statistics().lines);
    CHECK(log->statistics().write_errors > 0);
  }
  REQUIRE(log->flush(in(10s)));
  const auto lines = parse_lines(read_file(directory.file()));
  REQUIRE(lines.size() == 500);
  for (std::size_t i = 0; i < lines.size(); ++i) CHECK(lines[i]["id"] == i + 1);
}

TEST_CASE("what a full disk lost is counted exactly in its place") {
  const Directory directory;
  const auto log = open_log(directory.file(), 128 << 10);
  std::uint64_t written = 0;
  {
    const SmallDisk disk(10'000);
    written = overflow(*log, 1000);
  }
  REQUIRE(log->flush(in(10s)));
  check_overflow(parse_lines(read_file(directory.file())), written, 1000);
}

TEST_CASE("a log that ends on a full disk leaves whole lines") {
  const Directory directory;
  {
    const SmallDisk disk(10'000);
    const auto log = open_log(directory.file());
    for (std::uint64_t id = 1; id <= 500; ++id) write_open(*log, id);
  }
  const auto lines = parse_lines(read_file(directory.file()));
  CHECK(lines.size() > 50);
  CHECK(lines.size() < 500);
}

namespace {

void rotate(AuditLog& log, const Directory& directory) {
  auto file = AuditFile::open(directory.file());
  REQUIRE(file.ok());
  log.go_on_in(std::move(*file));
}

}  // namespace

TEST_CASE("several threads and a rotation lose no audit line and repeat none") {
  constexpr std::uint64_t kThreads = 4;
  constexpr std::uint64_t kLines = 8'000;
  const Directory directory;
  const auto log = open_log(directory.file(), 64U << 20);
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&log = *log, t] {
      for (std::uint64_t i = 0; i < kLines; ++i) write_open(log, t * kLines + i);
    });
  }
  constexpr int kRotations = 20;
  for (int i = 0; i < kRotations; ++i) {
    std::filesystem::rename(directory.file(), directory.file(std::to_string(i)));
    rotate(*log, directory);
    std::this_thread::sleep_for(1ms);
  }
  for (std::thread& thread : threads) thread.join();
  REQUIRE(log->flush(in(30s)));

  std::string text;
  for (int i = 0; i < kRotations; ++i) text += read_file(directory.file(std::to_string(i)));
  const auto lines = parse_lines(text + read_file(directory.file()));
  REQUIRE(lines.size() == kThreads * kLines);
  std::vector<std::uint64_t> next(kThreads, 0);
  for (const Json& line : lines) {
    const std::uint64_t id = line["id"];
    if (id % kLines != next[id / kLines]++) FAIL("line " << id << " is out of order");
  }
}

TEST_CASE("a file that is opened anew while another process writes to it has no line too many") {
  const Directory directory;
  auto busy = AuditFile::open(directory.file());
  REQUIRE(busy.ok());
  constexpr int kBatches = 200;
  constexpr int kLines = 200;
  std::string batch;
  for (int i = 0; i < kLines; ++i) batch += "{\"text\":\"" + std::string(300, 'x') + "\"}\n";
  std::atomic<bool> done{false};
  std::thread writes([&] {
    for (int i = 0; i < kBatches; ++i) busy->append(batch);
    done = true;
  });
  while (!done) CHECK(AuditFile::open(directory.file()).ok());
  writes.join();
  CHECK(parse_lines(read_file(directory.file())).size() == kBatches * kLines);
}

TEST_CASE("after a rotation without anything to write, the log is in the new file") {
  const Directory directory;
  const auto log = open_log(directory.file());
  write_open(*log, 1);
  REQUIRE(log->flush(in(10s)));
  std::filesystem::rename(directory.file(), directory.file("old"));
  rotate(*log, directory);
  write_open(*log, 2);
  REQUIRE(log->flush(in(10s)));
  CHECK(parse_lines(read_file(directory.file("old"))).size() == 1);
  CHECK(parse_lines(read_file(directory.file())).at(0)["id"] == 2);
}

TEST_CASE("a new file takes over what the full disk of the old one kept waiting") {
  const Directory directory;
  std::filesystem::create_symlink("/dev/full", directory.file());
  const auto log = open_log(directory.file());
  for (std::uint64_t id = 1; id <= 10; ++id) write_open(*log, id);
  CHECK_FALSE(log->flush(in(50ms)));
  std::filesystem::remove(directory.file());
  rotate(*log, directory);
  REQUIRE(log->flush(in(10s)));
  CHECK(parse_lines(read_file(directory.file())).size() == 10);
}

TEST_CASE("a log that is opened anew by its path goes on there, or where it is if that fails") {
  const Directory directory;
  std::filesystem::create_directory(directory.file("sub"));
  const auto log = open_log(directory.file("sub/log"));
  write_open(*log, 1);
  REQUIRE(log->flush(in(10s)));
  std::filesystem::rename(directory.file("sub"), directory.file("moved"));
  CHECK(log->reopen().error().message.ends_with("sub/log: No such file or directory"));
  write_open(*log, 2);
  REQUIRE(log->flush(in(10s)));
  CHECK(parse_lines(read_file(directory.file("moved/log"))).size() == 2);
  std::filesystem::create_directory(directory.file("sub"));
  REQUIRE(log->reopen().ok());
  write_open(*log, 3);
  REQUIRE(log->flush(in(10s)));
  CHECK(parse_lines(read_file(directory.file("sub/log"))).size() == 1);
}

TEST_CASE("somebody who has locked the audit log for ever stops neither its lines nor its end") {
  const Directory directory;
  auto log = open_log(directory.file());
  write_open(*log, 1);
  REQUIRE(log->flush(in(10s)));
  const Fd reader(::open(directory.file().c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(::flock(reader.get(), LOCK_EX) == 0);
  for (std::uint64_t id = 2; id <= 100; ++id) write_open(*log, id);
  CHECK(log->flush(in(10s)));
  CHECK(parse_lines(read_file(directory.file())).size() == 100);
  CHECK(log->statistics().lost == 0);
  CHECK(log->reopen().ok());
  write_open(*log, 101);
  log.reset();
  CHECK(parse_lines(read_file(directory.file())).size() == 101);
}

namespace {

// While it lives stdout is that.
class Stdout {
 public:
  explicit Stdout(int fd) : before_(::dup(STDOUT_FILENO)) { ::dup2(fd, STDOUT_FILENO); }
  ~Stdout() { ::dup2(before_.get(), STDOUT_FILENO); }
  Stdout(const Stdout&) = delete;
  Stdout& operator=(const Stdout&) = delete;

 private:
  Fd before_;
};

}  // namespace

TEST_CASE("/dev/stdout is a target whatever it is, and none that is full makes the log wait") {
  for (const bool is_socket : {true, false}) {
    CAPTURE(is_socket);
    int ends[2] = {};
    REQUIRE((is_socket ? ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)
                       : ::pipe2(ends, O_CLOEXEC)) == 0);
    const Fd reader(ends[0]);
    const Fd writer(ends[1]);
    REQUIRE(::fcntl(reader.get(), F_SETFL, O_NONBLOCK) == 0);
    const int small = 4096;
    REQUIRE((is_socket
                 ? ::setsockopt(writer.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0
                 : ::fcntl(writer.get(), F_SETPIPE_SZ, small) == small));
    std::unique_ptr<AuditLog> log;
    {
      const Stdout redirected(writer.get());
      log = open_log("/dev/stdout", 128 << 10);
      CHECK(log->reopen().ok());
    }
    write_open(*log, 7);
    REQUIRE(log->flush(in(10s)));
    CHECK(parse_lines(testing::read_until(reader, [&] {
            return log->flush(in(1ms));
          })).at(0)["id"] == 7);
    // Shared with others, which do not expect it to change.
    CHECK((::fcntl(writer.get(), F_GETFL) & O_NONBLOCK) == 0);
    const std::uint64_t written = overflow(*log, 1000);
    CHECK_FALSE(log->flush(in(20ms)));
    check_overflow(parse_lines(testing::read_until(reader, [&] { return log->flush(in(1ms)); })),
                   written, 1000);
    overflow(*log, log->statistics().lost + 10);
    log.reset();  // though nobody reads
  }
}

TEST_CASE("the audit collector says what the log says of itself") {
  const Directory directory;
  const auto log = open_log(directory.file(), 1 << 20);
  write_open(*log, 1);
  REQUIRE(log->flush(in(10s)));
  const AuditStatistics statistics = log->statistics();
  AuditCollector collector(*log);
  Sink sink(100);
  REQUIRE(collector.collect(sink, in(10s)).ok());
  std::map<std::string, double> values;
  for (const auto& family : sink.take()) {
    const auto& metric = family.metric.at(0);
    values[family.name] = metric.counter.value + metric.gauge.value;
  }
  CHECK(values.size() == collector.metrics().size());
  CHECK(values["tcpvitals_audit_lines_total"] == 1);
  CHECK(values["tcpvitals_audit_lines_lost_total"] == 0);
  CHECK(values["tcpvitals_audit_written_bytes_total"] == statistics.bytes);
  CHECK(values["tcpvitals_audit_write_errors_total"] == 0);
  CHECK(values["tcpvitals_audit_queued_bytes"] == 0);
  CHECK(values["tcpvitals_audit_queue_limit_bytes"] == 1 << 20);
}

namespace {

void put_in_force(AuditLog& log, const AuditOptions& options) {
  auto change = log.prepare(options);
  if (!change) FAIL(change.error().message);
  (*change)();
}

}  // namespace

TEST_CASE("a log that is given another file goes on there, with its totals") {
  const Directory directory;
  auto log = open_log(directory.file("one"));
  write_open(*log, 1);
  CHECK(log->flush(in(10s)));
  put_in_force(*log, {.path = directory.file("two")});
  write_open(*log, 2);
  CHECK(log->flush(in(10s)));
  CHECK(parse_lines(read_file(directory.file("one"))).size() == 1);
  REQUIRE(parse_lines(read_file(directory.file("two"))).size() == 1);
  CHECK(parse_lines(read_file(directory.file("two")))[0]["id"] == 2);
  CHECK(log->statistics().lines == 2);
  std::filesystem::rename(directory.file("two"), directory.file("two.1"));
  CHECK(log->reopen().ok());  // where it is now
  write_open(*log, 3);
  CHECK(log->flush(in(10s)));
  CHECK(parse_lines(read_file(directory.file("two"))).size() == 1);
}

TEST_CASE("a log that is off takes nothing and has no file; on again, its totals go on") {
  const Directory directory;
  AuditLog log;
  CHECK_FALSE(log.is_on());
  write_open(log, 1);
  CHECK(log.statistics().queue_limit_bytes == 0);
  put_in_force(log, {.path = directory.file()});
  for (std::uint64_t id = 2; id < 1000; ++id) write_open(log, id);
  put_in_force(log, {});
  write_open(log, 1000);
  CHECK(log.flush(in(10s)));
  CHECK(parse_lines(read_file(directory.file())).size() == 998);  // what waited is there
  const auto has_file = [&] {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      if (std::filesystem::read_symlink(entry, gone) == directory.file()) return true;
    }
    return false;
  };
  for (int i = 0; i < 1000 && has_file(); ++i) std::this_thread::sleep_for(10ms);
  CHECK_FALSE(has_file());
  CHECK(log.reopen().ok());
  CHECK_FALSE(has_file());
  put_in_force(log, {.path = directory.file("other")});
  write_open(log, 1001);
  CHECK(log.flush(in(10s)));
  CHECK(log.statistics().lines == 999);
  CHECK(log.statistics().lost == 0);
  CHECK(parse_lines(read_file(directory.file("other"))).size() == 1);
}

TEST_CASE("a change that cannot be made leaves the log as it was") {
  const Directory directory;
  auto log = open_log(directory.file());
  CHECK_FALSE(log->prepare({.path = directory.file("gone/audit")}).ok());
  CHECK_FALSE(log->prepare({.path = directory.file(), .buffer_bytes = 1000}).ok());
  CHECK(log->prepare({.path = directory.file("dropped")}).ok());
  write_open(*log, 1);
  CHECK(log->flush(in(10s)));
  CHECK(parse_lines(read_file(directory.file())).size() == 1);
  CHECK(log->statistics().queue_limit_bytes == 8U << 20);
}

TEST_CASE("a buffer of another size holds that much, and nothing is lost by the change") {
  const Directory directory;
  const std::string path = directory.file();
  Pipe pipe(path);
  auto log = open_log(path, 128 << 10);
  std::uint64_t id = 0;
  const std::size_t line = [&] {
    write_open(*log, ++id);
    return log->statistics().queued_bytes + log->statistics().bytes;
  }();
  for (; id < 300;) write_open(*log, ++id);
  put_in_force(*log, {.path = path, .buffer_bytes = 1 << 20});
  CHECK(log->statistics().queue_limit_bytes == 1 << 20);
  pipe.read_all(*log);  // and the writer has taken the new buffers
  CHECK(log->statistics().lost == 0);
  CHECK(log->statistics().lines == 300);
  // More than the first buffer held, while nobody reads.
  const std::size_t most = (400 << 10) / line;
  for (std::size_t i = 0; i < most; ++i) write_open(*log, ++id);
  CHECK(log->statistics().lost == 0);
  put_in_force(*log, {.path = path, .buffer_bytes = 128 << 10});
  const std::vector<Json> lines = parse_lines(pipe.read_all(*log));
  CHECK(lines.size() == most);
  CHECK(log->statistics().lost == 0);
}

TEST_CASE("lines of many threads are all there, whatever changes meanwhile") {
  const Directory directory;
  AuditLog log;
  put_in_force(log, {.path = directory.file("0")});
  constexpr std::uint64_t kEach = 20'000;
  std::vector<std::thread> writers;
  for (std::uint64_t t = 0; t < 2; ++t) {
    writers.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < kEach; ++i) write_open(log, t * kEach + i);
    });
  }
  for (std::size_t i = 1; i <= 20; ++i) {
    put_in_force(log, {.path = directory.file(std::to_string(i % 3)),
                       .buffer_bytes = (i % 2 == 0 ? 64U : 128U) << 20});
    std::this_thread::sleep_for(1ms);
  }
  for (std::thread& writer : writers) writer.join();
  CHECK(log.flush(in(10s)));
  std::size_t lines = 0;
  for (const char* name : {"0", "1", "2"}) {
    if (!std::filesystem::exists(directory.file(name))) continue;
    lines += parse_lines(read_file(directory.file(name))).size();
  }
  CHECK(log.statistics().lost == 0);
  CHECK(lines == 2 * kEach);
}
