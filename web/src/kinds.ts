// The kinds of studies that the Depth screen shows, one at a time.

import type { App } from "./app";
import type { Study } from "./source";

export const KINDS: Record<string, string> = { drift: "Drift", tokens: "Tokens", evolve: "Training" };

/** What of depth is on show: drift, token geometry, or its course through training. */
export function depthKind(app: App): string {
  const there = Object.keys(KINDS).filter((k) => app.studies(k).length);
  const asked = app.selection.value.view["depth"] ?? "";
  return there.includes(asked) ? asked : (there[0] ?? "drift");
}

/** The study that the screen on show draws. */
export function studyHere(app: App): Study | null {
  const { screen } = app.selection.value;
  if (screen === "depth") return app.study(depthKind(app));
  const kind = { compare: "compare", map: "manifold", neurons: "neurons" }[screen as string];
  return kind ? app.study(kind) : null;
}
