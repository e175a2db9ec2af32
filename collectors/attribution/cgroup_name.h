// The short name of a cgroup, for the label `cgroup`.
#pragma once

#include <string>
#include <string_view>

namespace tcpvitals {

// What a person calls the cgroup at `path` ("/system.slice/nginx.service"), in at most 64 printable
// ASCII characters: the container's short id ("3f4e8b0a91c2"), or "lxc/web", else the innermost
// systemd unit, else the innermost slice, else the path. A login session is named by its user's
// slice, and a connection's own service ("sshd@7-...service") by its template: those are as many as
// logins. Pure.
std::string short_cgroup_name(std::string_view path);

}  // namespace tcpvitals
