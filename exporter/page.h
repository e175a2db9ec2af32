// The page at /: a host's vital signs as a person reads them. One HTML document that fetches
// nothing.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "exporter/scrape.h"
#include "exporter/vital_signs.h"

namespace tcpvitals {

// What the page says beside the numbers.
struct PageFacts {
  std::string host;
  std::string version;
};

// Sections whose metrics are not in the scrape are left out. Pure.
std::string render_page(const PageFacts& facts, std::string_view metrics_path,
                        const ScrapeResult& scrape, const std::optional<RetransmitRatio>& recent);

}  // namespace tcpvitals
