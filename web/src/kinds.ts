// The kinds of studies that the Depth screen shows, one at a time.

import type { App } from "./app";

export const KINDS: Record<string, string> = { drift: "Drift", tokens: "Tokens", evolve: "Training" };

/** What of depth is on show: drift, token geometry, or its course through training. */
export function depthKind(app: App): string {
  const there = Object.keys(KINDS).filter((k) => app.studies(k).length);
  const asked = app.selection.value.view["depth"] ?? "";
  return there.includes(asked) ? asked : (there[0] ?? "drift");
}
