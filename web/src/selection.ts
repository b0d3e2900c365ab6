// The one selection — run × site × layer × token × neuron — and how it is written into the address.

export const SCREENS = ["study", "depth", "compare", "map", "neurons", "text", "work", "report"] as const;
export type Screen = (typeof SCREENS)[number];

export interface Selection {
  screen: Screen;
  a: string;
  b: string;
  family: string;
  layer: number;
  token: number;
  neuron: number | null;
  /** What a screen shows: its study, measure, mode. Part of the address, never of the data. */
  view: Record<string, string>;
}

export const START: Selection = {
  screen: "study",
  a: "",
  b: "",
  family: "resid",
  layer: 0,
  token: 0,
  neuron: null,
  view: {},
};

const whole = (text: string | null): number | null =>
  text !== null && /^\d{1,7}$/.test(text) ? Number(text) : null;

export function write(s: Selection): string {
  const q = new URLSearchParams();
  if (s.a) q.set("a", s.a);
  if (s.b) q.set("b", s.b);
  q.set("site", s.family);
  q.set("layer", String(s.layer));
  q.set("token", String(s.token));
  if (s.neuron !== null) q.set("neuron", String(s.neuron));
  for (const key of Object.keys(s.view).sort()) if (s.view[key]) q.set(`v.${key}`, s.view[key]!);
  return `#${s.screen}?${q}`;
}

/** Reads an address; what it does not name, or names wrongly, stays as it starts. */
export function read(hash: string): Selection {
  const [screen = "", query = ""] = hash.replace(/^#/, "").split("?");
  const q = new URLSearchParams(query);
  const view: Record<string, string> = {};
  for (const [key, value] of q) if (key.startsWith("v.") && value.length < 4000) view[key.slice(2)] = value;
  return {
    screen: (SCREENS as readonly string[]).includes(screen) ? (screen as Screen) : START.screen,
    a: q.get("a") ?? "",
    b: q.get("b") ?? "",
    family: /^[a-z_.]{1,40}$/.test(q.get("site") ?? "") ? q.get("site")! : START.family,
    layer: whole(q.get("layer")) ?? 0,
    token: whole(q.get("token")) ?? 0,
    neuron: whole(q.get("neuron")),
    view,
  };
}
