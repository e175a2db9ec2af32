#include "collectors/attribution/cgroups.h"

namespace tcpvitals {
namespace {

constexpr std::size_t kMaxUnknown = 4096;
constexpr auto kAskAgain = std::chrono::minutes(1);

}  // namespace

CgroupNames::CgroupNames(const Result<CgroupMount>& mount, const Limits& limits)
    : limits_(limits), names_{"", "unknown", "other"} {
  if (mount) {
    hybrid_ = mount->hybrid;
    walker_.emplace(mount->path, limits_.tree);
  } else {
    mount_error_ = mount.error().message;
  }
}

CgroupLabel CgroupNames::find(std::uint64_t id) {
  const auto known = known_.find(id);
  if (known != known_.end()) return known->second;
  const std::string* name = lookup(id);
  if (name == nullptr) {
    ++stats_.unknown;
    return kCgroupUnknown;
  }
  const CgroupLabel label = label_of(*name);
  if (label == kCgroupOther) {
    ++stats_.overflowed;  // and asked again next time: a name may have been given back
  } else {
    known_.emplace(id, label);
  }
  return label;
}

const std::string* CgroupNames::lookup(std::uint64_t id) {
  const auto seen = [&]() -> const std::string* {
    const auto found = tree_.names.find(id);
    return found == tree_.names.end() ? nullptr : &found->second;
  };
  if (const std::string* name = seen()) return name;
  if (id == 0 || !walker_ || unknown_.contains(id)) return nullptr;
  if (unknown_.size() == kMaxUnknown) unknown_.clear();
  unknown_.insert(id);
  ask();
  walker_->wait(wished_, limits_.patience);
  take_walk();
  const std::string* name = seen();
  if (name != nullptr) news_.erase(id);  // nobody was told that it is unknown
  return name;
}

void CgroupNames::ask() {
  wished_ = walker_->request();
  asked_at_ = Clock::now();
}

void CgroupNames::take_walk() {
  auto walk = walker_->take();
  if (!walk) return;
  tree_ = std::move(walk->tree);
  fulfilled_ = walk->wish;
  stats_.walks = walk->walks;
  absl::erase_if(unknown_, [this](std::uint64_t id) {
    if (!tree_.names.contains(id)) return false;
    news_.insert(id);
    return true;
  });
  // The id of a directory that is gone names nothing any more.
  absl::erase_if(known_, [this](const auto& entry) { return !tree_.names.contains(entry.first); });
}

CgroupNames::Ids CgroupNames::take_news() {
  if (!walker_) return {};
  take_walk();
  if (!unknown_.empty() && Clock::now() - asked_at_ > kAskAgain) ask();
  return std::exchange(news_, {});
}

void CgroupNames::saw_rows(bool with_id) {
  saw_rows_ = true;
  ids_sent_ |= with_id;
}

CgroupLabel CgroupNames::label_of(const std::string& name) {
  const auto known = labels_.find(name);
  if (known != labels_.end()) return known->second;
  if (labels_.size() >= limits_.names) return kCgroupOther;
  CgroupLabel label;
  if (free_.empty()) {
    label = static_cast<CgroupLabel>(names_.size());
    names_.push_back(name);
  } else {
    label = free_.back();
    free_.pop_back();
    names_[label] = name;
  }
  labels_.emplace(name, label);
  return label;
}

void CgroupNames::retain(const std::function<bool(CgroupLabel)>& used) {
  absl::erase_if(labels_, [&](const auto& entry) {
    if (used(entry.second)) return false;
    names_[entry.second].clear();
    free_.push_back(entry.second);
    return true;
  });
  absl::erase_if(known_, [this](const auto& entry) { return names_[entry.second].empty(); });
}

std::string CgroupNames::complaint() const {
  if (!walker_) return mount_error_ + ": every connection's cgroup is unknown";
  if (saw_rows_ && !ids_sent_) {
    return "this kernel does not tell the cgroup of a socket (Linux 5.8 and later do): every "
           "connection's cgroup is unknown";
  }
  if (tree_.unreadable > 0) {
    return "unreadable directories: " + std::to_string(tree_.unreadable) +
           ": the cgroups below them are unknown";
  }
  if (tree_.cut_off) {
    return "the tree is larger than " + std::to_string(limits_.tree.directories) +
           " directories or deeper than " + std::to_string(limits_.tree.depth) +
           ": the cgroups beyond are unknown";
  }
  if (hybrid_) return "cgroup v1 is mounted too: a process in that alone is in \"/\"";
  return {};
}

}  // namespace tcpvitals
