// The collector `sysctl`: the settings that give the other numbers their scale. A setting that this
// kernel or network namespace does not have is absent; none at all makes the collector absent.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "collectors/collector.h"
#include "collectors/kernel_source.h"

namespace tcpvitals {

// One line of exactly `count` numbers, such as tcp_mem. Pure; any thread.
Result<std::vector<double>> parse_sysctl(std::string_view text, std::size_t count);

std::unique_ptr<Collector> make_sysctl_collector(const KernelSource& source);

}  // namespace tcpvitals
