// Every dashboard there is, by the name of its file in dashboards/json.

import type { Dashboard } from "@grafana/grafana-foundation-sdk/dashboard";

import { hostDashboard } from "./host.js";

export const kDashboards: Record<string, Dashboard> = {
  "tcpvitals-host.json": hostDashboard(),
};

export const render = (dashboard: Dashboard): string => `${JSON.stringify(dashboard, null, 2)}\n`;
