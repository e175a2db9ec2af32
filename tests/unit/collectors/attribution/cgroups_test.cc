#include "collectors/attribution/cgroups.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "collectors/attribution/cgroup_name.h"
#include "tests/support/tree.h"

using namespace tcpvitals;
using namespace tcpvitals::testing;
using namespace std::chrono_literals;

namespace {

CgroupMount mount_of(const Tree& tree) { return {tree.path("")}; }

// Long enough for any walk here.
constexpr Clock::duration kPatient = 10s;

// Asks until the walks that were asked for have answered.
CgroupLabel settled(CgroupNames& names, std::uint64_t id) {
  CgroupLabel label = names.find(id);
  for (int i = 0; i < 5000 && label == kCgroupUnknown && names.pending(); ++i) {
    std::this_thread::sleep_for(1ms);
    names.take_news();
    label = names.find(id);
  }
  return label;
}

std::string name_of(CgroupNames& names, std::uint64_t id) {
  return std::string(names.name(settled(names, id)));
}

const std::string k64 = "3f4e8b0a91c2d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e";

}  // namespace

TEST_CASE("a cgroup's short name is what a person calls it") {
  const struct {
    std::string path;
    std::string name;
  } kTable[] = {
      {"/", "/"},
      // systemd's own tree
      {"/init.scope", "init.scope"},
      {"/system.slice", "system.slice"},
      {"/system.slice/nginx.service", "nginx.service"},
      {"/system.slice/docker.service/init", "docker.service"},
      {"/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"},
      {"/system.slice/system-postgresql.slice/postgresql@15-main.service",
       "postgresql@15-main.service"},
      {"/system.slice/ssh.socket", "ssh.socket"},
      {"/system.slice/system-sshd.slice/sshd@7-192.0.2.1:22-198.51.100.7:40000.service",
       "sshd@.service"},
      {"/system.slice/system-sshd.slice/sshd@12-1234-2001:db8::1:22-2001:db8::2:5000.service",
       "sshd@.service"},
      {"/system.slice/system-openvpn.slice/openvpn@a:b.service", "openvpn@a:b.service"},
      {"/system.slice/dev-disk-by\\x2duuid.swap", "dev-disk-by-uuid.swap"},
      {"/user.slice/user-1000.slice", "user-1000.slice"},
      {"/user.slice/user-1000.slice/session-3.scope", "user-1000.slice"},
      {"/user.slice/user-1000.slice/user@1000.service", "user@1000.service"},
      {"/user.slice/user-1000.slice/user@1000.service/init.scope", "user@1000.service"},
      {"/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service", "foo.service"},
      {"/user.slice/user-1000.slice/user@1000.service/app.slice", "user@1000.service"},
      {"/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator",
       "machine-qemu-1-vm.scope"},
      {"/machine.slice/systemd-nspawn@web.service/payload/system.slice/nginx.service",
       "systemd-nspawn@web.service"},
      // containers
      {"/docker/" + k64, "3f4e8b0a91c2"},
      {"/docker/" + k64 + "/system.slice/nginx.service", "3f4e8b0a91c2"},
      {"/system.slice/docker-" + k64 + ".scope", "3f4e8b0a91c2"},
      {"/system.slice/docker-" + k64 + ".scope/init", "3f4e8b0a91c2"},
      {"/machine.slice/libpod-" + k64 + ".scope/container", "3f4e8b0a91c2"},
      {"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + k64 + ".scope",
       "3f4e8b0a91c2"},
      {"/machine.slice/machine-libpod_pod_" + k64 + ".slice", "3f4e8b0a91c2"},
      {"/kubepods/besteffort/pod2c48913c-b29f-11e7-9350-020968147796/" + k64, "3f4e8b0a91c2"},
      {"/kubepods.slice/kubepods-burstable.slice/"
       "kubepods-burstable-pod2c48913c_b29f_11e7_9350_020968147796.slice/cri-containerd-" +
           k64 + ".scope",
       "3f4e8b0a91c2"},
      {"/kubepods.slice/kubepods-pod2c48913c_b29f_11e7_9350_020968147796.slice",
       "kubepods-pod2c48913c_b29f_11e7_9350_020968147796.slice"},
      {"/system.slice/containerd.service/kubepods-burstable-pod2c48913c.slice:cri-containerd:" +
           k64,
       "3f4e8b0a91c2"},
      {"/ecs/0123456789abcdef0123456789abcdef/fedcba9876543210fedcba9876543210-1234567890",
       "fedcba987654"},
      // a cluster in a container: the innermost
      {"/docker/" + std::string(64, 'a') + "/kubelet.slice/crio-" + k64 + ".scope", "3f4e8b0a91c2"},
      {"/lxc/web", "lxc/web"},
      {"/lxc/101/ns/system.slice/nginx.service", "lxc/101"},
      {"/lxc.payload/web/init.scope", "lxc/web"},
      {"/lxc.payload.web/system.slice/nginx.service", "lxc/web"},
      // anything else keeps its path
      {"/docker", "/docker"},
      {"/docker/buildkit/x0zv2p8ck3", "/docker/buildkit/x0zv2p8ck3"},
      {"/kubepods/burstable/pod2c48913c-b29f-11e7-9350-020968147796",
       "/kubepods/burstable/pod2c48913c-b29f-11e7-9350-020968147796"},
      {"/mine/" + std::string(63, 'f'), std::string("/") + std::string(63, 'f')},
      {"/mine/" + std::string(65, 'f'), std::string(64, 'f')},
      {"/a\nb\"\x7f\xc3\xa9", "/a_b\"___"},
      {"/x.service@", "/x.service@"},
      {"/a@1:.service", "a@1:.service"},
      {"/end\\x2", "/end\\x2"},
      {"/end\\xzz", "/end\\xzz"},
  };
  for (const auto& row : kTable) {
    CAPTURE(row.path);
    CHECK(short_cgroup_name(row.path) == row.name);
  }
}

TEST_CASE("the mount of the tree is found in unified, hybrid and old hosts") {
  const char* unified =
      "22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
      "35 22 0:30 / /sys/fs/cgroup rw,nosuid,nodev shared:9 master:2 - cgroup2 cgroup2 "
      "rw,nsdelegate\n";
  const auto found = parse_cgroup_mount(unified);
  REQUIRE(found.ok());
  CHECK(found->path == "/sys/fs/cgroup");
  CHECK_FALSE(found->hybrid);

  const char* hybrid =
      "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
      "41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw\n";
  const auto both = parse_cgroup_mount(hybrid);
  REQUIRE(both.ok());
  CHECK(both->path == "/sys/fs/cgroup/uni fied");
  CHECK(both->hybrid);

  for (const char* none : {"", "\n", "garbage", "1 2 3 - ", " - cgroup2",
                           "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"}) {
    CAPTURE(none);
    const auto nothing = parse_cgroup_mount(none);
    REQUIRE_FALSE(nothing.ok());
    CHECK(nothing.error().is_absent());
  }
}

TEST_CASE("an id is named by its directory") {
  const Tree tree;
  const auto nginx = tree.make("/system.slice/nginx.service");
  const auto worker = tree.make("/system.slice/nginx.service/worker");
  const auto web = tree.make("/docker/" + k64);
  CgroupNames names(mount_of(tree), {.patience = kPatient});
  CHECK(names.name(names.find(tree.id("/"))) == "/");
  CHECK(names.name(names.find(nginx)) == "nginx.service");
  CHECK(names.name(names.find(web)) == "3f4e8b0a91c2");
  CHECK(names.find(worker) == names.find(nginx));
  CHECK(names.size() == 3);
  CHECK(names.stats().walks == 1);
  CHECK(names.stats().unknown == 0);
  CHECK(names.complaint() == "");
}

TEST_CASE("a new cgroup is looked for when it is asked for; one that is not there, once") {
  const Tree tree;
  CgroupNames names(mount_of(tree), {});
  CHECK(name_of(names, tree.id("/")) == "/");
  CHECK(name_of(names, tree.make("/a.service")) == "a.service");
  CHECK(names.stats().walks == 2);

  const auto never = ~std::uint64_t{0};
  CHECK(settled(names, never) == kCgroupUnknown);
  CHECK_FALSE(names.pending());
  CHECK(names.stats().walks == 3);
  const std::uint64_t unknown = names.stats().unknown;
  for (int i = 0; i < 5; ++i) CHECK(names.find(never) == kCgroupUnknown);
  CHECK(names.find(0) == kCgroupUnknown);
  CHECK_FALSE(names.pending());
  CHECK(names.stats().unknown == unknown + 6);
  CHECK(names.name(kCgroupUnknown) == "unknown");
}

TEST_CASE("an id that comes while the walker rests is unknown until the next walk, and is news") {
  const Tree tree;
  for (int i = 0; i < 1000; ++i) tree.make("/wide.slice/" + std::to_string(i));
  CgroupNames names(mount_of(tree), {.patience = kPatient});
  CHECK(names.name(names.find(tree.id("/"))) == "/");  // a walk, and a rest of 99 times as long
  const auto late = tree.make("/late.service");
  const TimePoint start = Clock::now();
  CHECK(names.find(late) == kCgroupUnknown);
  CHECK(Clock::now() - start < kPatient / 2);  // nobody waits for the rest to end
  CHECK(names.pending());
  CHECK(names.stats().walks == 1);
  CgroupNames::Ids news;
  for (int i = 0; i < 10'000 && news.empty(); ++i) {
    std::this_thread::sleep_for(1ms);
    news = names.take_news();
  }
  CHECK(news == CgroupNames::Ids{late});
  CHECK(names.take_news().empty());
  CHECK(names.stats().walks == 2);
  CHECK(names.name(names.find(late)) == "late.service");
}

TEST_CASE("nobody waits for a walk that takes longer than the patience") {
  const Tree tree;
  for (int i = 0; i < 1000; ++i) tree.make("/wide.slice/" + std::to_string(i));
  // On a busy machine a walk may end while we do not run, but hardly each time.
  bool waited = true;
  for (int i = 0; i < 20 && waited; ++i) {
    CgroupNames names(mount_of(tree), {.patience = 0ms});
    waited = names.find(tree.id("/")) != kCgroupUnknown;
    CHECK(name_of(names, tree.id("/")) == "/");
  }
  CHECK_FALSE(waited);
}

TEST_CASE("a directory that is gone is unknown after the next walk") {
  const Tree tree;
  const auto brief = tree.make("/brief.service");
  CgroupNames names(mount_of(tree), {});
  CHECK(name_of(names, brief) == "brief.service");
  tree.remove("/brief.service");
  names.retain([](CgroupLabel) { return true; });
  CHECK(name_of(names, brief) == "brief.service");
  settled(names, ~std::uint64_t{0});
  CHECK(name_of(names, brief) == "unknown");
}

TEST_CASE("names over the limit are other, until one is given back") {
  const Tree tree;
  const auto a = tree.make("/a.service");
  const auto b = tree.make("/b.service");
  const auto c = tree.make("/c.service");
  CgroupNames names(mount_of(tree), {.names = 2, .patience = kPatient});
  const CgroupLabel label_a = names.find(a);
  const CgroupLabel label_b = names.find(b);
  CHECK(names.find(c) == kCgroupOther);
  CHECK(names.find(c) == kCgroupOther);
  CHECK(names.name(kCgroupOther) == "other");
  CHECK(names.stats().overflowed == 2);
  CHECK(names.size() == 2);

  names.retain([=](CgroupLabel label) { return label == label_b; });
  CHECK(names.size() == 1);
  CHECK(names.find(c) == label_a);  // the number that was free
  CHECK(names.name(label_a) == "c.service");
  CHECK(names.name(names.find(b)) == "b.service");
  CHECK(names.find(a) == kCgroupOther);
  names.set_limit(3);
  CHECK(name_of(names, a) == "a.service");
  CHECK(names.limit() == 3);
}

TEST_CASE("a tree beyond the bounds is walked up to them, and that is said") {
  const Tree tree;
  tree.make("/deep.slice/b/c/d");
  tree.make("/wide.slice");
  const CgroupTree shallow = walk_cgroups(tree.path(""), {.depth = 2});
  CHECK(shallow.names.size() == 4);
  CHECK(shallow.names.at(tree.id("/deep.slice/b")) == "deep.slice");
  CHECK(shallow.names.at(tree.id("/wide.slice")) == "wide.slice");
  CHECK(shallow.cut_off);
  const CgroupTree small = walk_cgroups(tree.path(""), {.directories = 3});
  CHECK(small.names.size() == 3);
  CHECK(small.cut_off);
  const CgroupTree whole = walk_cgroups(tree.path(""), {});
  CHECK(whole.names.size() == 6);
  CHECK_FALSE(whole.cut_off);

  CgroupNames names(mount_of(tree), {.tree = {.depth = 2}, .patience = kPatient});
  CHECK(names.find(tree.id("/deep.slice/b/c")) == kCgroupUnknown);
  CHECK(names.complaint() ==
        "the tree is larger than 20000 directories or deeper than 2: the cgroups beyond are "
        "unknown");
}

TEST_CASE("without a tree everything is unknown, and the reason is said") {
  CgroupNames names(Error::absent("no cgroup2 mount"), {});
  CHECK(names.find(1) == kCgroupUnknown);
  CHECK_FALSE(names.pending());
  CHECK(names.take_news().empty());
  CHECK(names.stats().walks == 0);
  CHECK(names.stats().unknown == 1);
  CHECK(names.complaint() == "no cgroup2 mount: every connection's cgroup is unknown");

  CgroupNames gone(CgroupMount{"/no/such/tree"}, {.patience = kPatient});
  CHECK(gone.find(1) == kCgroupUnknown);
  CHECK(gone.complaint() == "unreadable directories: 1: the cgroups below them are unknown");
}

TEST_CASE("on a hybrid host the root's name is /, and the reason is said") {
  const Tree tree;
  CgroupNames names(CgroupMount{tree.path(""), true}, {.patience = kPatient});
  CHECK(names.name(names.find(tree.id("/"))) == "/");
  CHECK(names.complaint() == "cgroup v1 is mounted too: a process in that alone is in \"/\"");
}

TEST_CASE("a directory that may not be read is counted, its neighbours are named") {
  const Tree tree;
  const auto inside = tree.make("/closed.slice/inside.service");
  const auto open = tree.make("/open.service");
  const auto closed = tree.id("/closed.slice");
  // A symbolic link is not followed, so that no walk is endless.
  std::filesystem::create_directory_symlink(tree.path("/"), tree.path("/loop"));
  std::filesystem::permissions(tree.path("/closed.slice"), std::filesystem::perms::none);
  std::filesystem::permissions(tree.path("/"), std::filesystem::perms{0755});
  const bool root = ::geteuid() == 0;
  if (root) REQUIRE(::seteuid(65534) == 0);
  const CgroupTree walked = walk_cgroups(tree.path(""), {});
  if (root) REQUIRE(::seteuid(0) == 0);
  std::filesystem::permissions(tree.path("/closed.slice"), std::filesystem::perms::owner_all);
  CHECK(walked.names.at(open) == "open.service");
  CHECK(walked.names.at(closed) == "closed.slice");
  CHECK_FALSE(walked.names.contains(inside));
  CHECK(walked.unreadable == 1);
}
