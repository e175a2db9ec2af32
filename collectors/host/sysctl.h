// The collector `sysctl`: the settings that give the other numbers their scale. A setting that this
// kernel or network namespace does not have is absent; none at all makes the collector absent.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "collectors/collector.h"
#include "collectors/kernel_source.h"
#include "collectors/parse_errors.h"

namespace tcpvitals {

// One line of exactly `count` numbers, such as tcp_mem; most settings take -1. Of a line with more
// or fewer there is nothing, and nothing in place of a word that is no number. Pure; any thread.
Parsed<std::vector<std::optional<double>>> parse_sysctl(std::string_view text, std::size_t count);

std::unique_ptr<Collector> make_sysctl_collector(const KernelSource& source);

}  // namespace tcpvitals
