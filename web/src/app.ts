// The state of one mounted page: source, catalog, selection, theme, pins. Views read signals and never keep
// their own copy.

import { computed, signal, type ReadonlySignal, type Signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext, useEffect, useMemo } from "preact/hooks";
import { layerOf, parse } from "./sites";
import { capturesOf, runsOf, type Listed } from "./runs";
import { read, write, type Screen, type Selection } from "./selection";
import {
  Refusal,
  type Catalog,
  type Positions,
  type Run,
  type Source,
  type Store,
  type Study,
} from "./source";
import type { Table } from "./table";
import { words } from "./words";
import { ended, Line } from "./work";

/** The screen that shows a study. */
export const GOES: Record<string, Screen> = {
  drift: "depth",
  compare: "compare",
  manifold: "map",
  neurons: "neurons",
  tokens: "depth",
  evolve: "depth",
};

export type Loaded<T> =
  | { state: "loading" }
  | { state: "ready"; value: T }
  | { state: "failed"; message: string; fix: string };
export interface Pin {
  key: string;
  title: string;
  caption: string;
  origin: string[];
  link: string;
  svg: string;
  csv: string;
  note: string;
  /** The study's folder, as the catalogue names it. */
  path?: string;
}

/** What a saved session holds: the view and what was pinned. */
export interface Session {
  transect: string;
  kind: "session";
  link: string;
  pins: Pin[];
}

/** Pins belong to a file or an address: another report has its own. */
const kept = (): string => `transect-pins ${location.pathname}`;
const loading = { state: "loading" } as const;

export class App {
  readonly catalog: Signal<Loaded<Catalog>> = signal<Loaded<Catalog>>(loading);
  readonly selection: Signal<Selection>;
  readonly theme = signal<"light" | "dark">("light");
  readonly pins = signal<Pin[]>([]);
  readonly said = signal("");
  readonly help = signal(false);
  /** Tokens of the strip below: whatever the screen on show puts there. */
  readonly strip = signal<{
    label: string;
    tokens: { text: string; generated?: boolean; note?: string }[];
  } | null>(null);
  /** Sites that the neuron views draw: their layers are the rail's. */
  readonly drawn = signal<string[] | null>(null);
  /** Tasks of the server: what runs, what waits, what is done. */
  readonly line: Line | null;
  private readonly cache = new Map<string, Signal<Loaded<any>>>();

  constructor(
    readonly source: Source,
    private readonly address: boolean,
    start = "",
  ) {
    this.selection = signal(read((address && location.hash) || start));
    this.untouched = source.shell !== "app" && !((address && location.hash) || start);
    this.line = source.live && new Line(source.live, () => this.again());
    void this.line?.look();
    if (address) {
      addEventListener("hashchange", () => {
        if (write(this.selection.value) !== location.hash) this.selection.value = read(location.hash);
      });
      addEventListener("pagehide", () => history.replaceState(null, "", write(this.selection.value)));
    }
    this.pins.value = this.keptPins();
    void this.load();
  }

  async load(): Promise<void> {
    try {
      const catalog = await this.source.catalog();
      words.value = catalog.words;
      this.catalog.value = { state: "ready", value: catalog };
      this.settle();
    } catch (error) {
      this.catalog.value = failed(error);
    }
  }

  /** Looks at the folder again: something new may be there. */
  again(): void {
    this.forget();
    void this.load();
  }

  /** Fills in what an address did not say, or what it names and is not here. */
  private settle(): void {
    const s = this.selection.value;
    const runs = this.runs.value;
    const known = (asked: string) => runs.find((r) => r.key === asked) ?? runs.find((r) => r.name === asked);
    const a = (known(s.a) ?? runs[0])?.key ?? "";
    if (s.a && !known(s.a)) this.said.value = `Run ${s.a} is not here; showing ${a}.`;
    const b = known(s.b)?.key ?? "";
    this.selection.value = { ...s, a, b: b === a ? "" : b };
    const first = this.untouched ? this.ready?.studies.find((x) => GOES[x.name]) : undefined;
    this.untouched = false;
    if (!first) return;
    const screen = GOES[first.name]!;
    this.selection.value = { ...this.selection.value, screen, view: { [first.name]: first.id } };
  }

  select(change: Partial<Selection>, replace = true): void {
    const before = this.selection.value;
    const next = { ...before, ...change };
    if (change.view) next.view = { ...before.view, ...change.view };
    this.selection.value = next;
    if (!this.address) return;
    if (replace && next.screen === before.screen) {
      // the address follows a moment later: writing it at every step costs more than drawing
      clearTimeout(this.later);
      this.later = setTimeout(() => history.replaceState(null, "", write(this.selection.value)), 150);
      return;
    }
    clearTimeout(this.later);
    history.replaceState(null, "", write(before));
    history.pushState(null, "", write(next));
  }

  /** Whether nothing says yet what to show: a report then opens on its first figure. */
  private untouched: boolean;
  private later: ReturnType<typeof setTimeout> | undefined;

  view(key: string, value: string): void {
    this.select({ view: { [key]: value } });
  }

  get ready(): Catalog | null {
    return this.catalog.value.state === "ready" ? this.catalog.value.value : null;
  }

  /** Every capture: runs of one name on different texts stand apart. */
  readonly captures: ReadonlySignal<Listed[]> = computed(() => (this.ready ? capturesOf(this.ready) : []));
  /** What can be chosen as run A or B, trained runs first. */
  readonly runs: ReadonlySignal<Listed[]> = computed(() => runsOf(this.captures.value));
  /** Names as tables hold them: one colour each, the same everywhere. */
  readonly names: ReadonlySignal<string[]> = computed(() => [...new Set(this.runs.value.map((r) => r.name))]);
  /** The selection as tables know it: A and B by the names of their runs. */
  readonly shown: ReadonlySignal<Selection> = computed(() => {
    const s = this.selection.value;
    const name = (key: string) => this.run(key)?.name ?? key;
    return { ...s, a: name(s.a), b: name(s.b) };
  });

  /** Tasks that are not done. */
  readonly busy: ReadonlySignal<number> = computed(
    () => (this.line?.tasks.value ?? []).filter((t) => !ended(t)).length,
  );

  /** The run that is chosen by this key. */
  run(key: string): Listed | undefined {
    return this.runs.value.find((r) => r.key === key);
  }

  /** The key of a study's run. */
  keyOf(run: Run): string {
    return this.captures.value.find((r) => r.fingerprint === run.fingerprint)?.key ?? run.name;
  }

  /** The captured points behind a run of a study: by fingerprint, and only then by name. */
  storeOf(name: string, study: Study | null, site?: string): Store | null {
    const stores = this.ready?.stores ?? [];
    const print = study?.runs.find((r) => r.name === name)?.fingerprint;
    const exact = stores.find((s) => s.fingerprint === print);
    if (exact) return exact;
    const same = stores.filter((s) => s.name === name && (!site || s.sites.includes(site)));
    const texts = this.run(this.selection.value.a)?.texts;
    const near = (s: Store) => Number(s.texts === texts);
    return same.sort((p, q) => near(q) - near(p) || q.sites.length - p.sites.length)[0] ?? null;
  }

  studies(kind: string): Study[] {
    return (this.ready?.studies ?? []).filter((s) => s.name === kind);
  }

  /** The study of a kind on show: the one the address names, else one that has run A, else the first. */
  study(kind: string): Study | null {
    const all = this.studies(kind);
    const s = this.selection.value;
    return (
      all.find((x) => x.id === s.view[kind]) ??
      all.find((x) => x.runs.some((r) => this.keyOf(r) === s.a)) ??
      all[0] ??
      null
    );
  }

  /** Shows a study on its screen, with one of its runs as A. */
  openStudy(study: Study): void {
    const screen = GOES[study.name] ?? "study";
    const keys = this.captures.value
      .filter((r) => study.runs.some((x) => x.fingerprint === r.fingerprint))
      .map((r) => r.key);
    const a = keys.includes(this.selection.value.a) ? this.selection.value.a : (keys[0] ?? "");
    const depth: Record<string, string> = screen === "depth" ? { depth: study.name } : {};
    this.select({ screen, a, view: { [study.name]: study.id, about: study.id, ...depth } }, false);
  }

  table(study: Study | null, name: string): Signal<Loaded<Table | null>> {
    if (!study || !study.tables.some((t) => t.name === name)) return signal({ state: "ready", value: null });
    return this.once(`${study.id}/${name}`, () => this.source.table(study.id, name));
  }

  positions(study: Study): Signal<Loaded<Positions>> {
    return this.once(`${study.id}/positions`, () => this.source.positions(study.id, "positions"));
  }

  once<T>(key: string, get: () => Promise<T>): Signal<Loaded<T>> {
    const known = this.cache.get(key);
    if (known) return known;
    const made = signal<Loaded<T>>(loading);
    this.cache.set(key, made);
    get().then(
      (value) => (made.value = { state: "ready", value }),
      (error) => (made.value = failed(error)),
    );
    return made;
  }

  forget(): void {
    this.cache.clear();
  }

  /** The colour of a run or series: the printed one of the study on show, else of one that draws A and B. */
  colour(name: string, study?: Study | null): string {
    const c = this.ready;
    const { a, b } = this.shown.value;
    const both = (x: Study) => x.colours[name] && x.colours[a] && (!b || x.colours[b]);
    const drawn = [...(c?.studies ?? [])].sort(
      (p, q) => Number(q.name === "drift") - Number(p.name === "drift"),
    );
    const near = drawn.find(both) ?? drawn.find((x) => x.colours[name]);
    const own = study?.colours[name] ?? near?.colours[name];
    const at = this.names.value.indexOf(name);
    const all = words.value.colours;
    return own ?? all[(at < 0 ? this.names.value.length : at) % all.length]!;
  }

  // pins

  private keptPins(): Pin[] {
    try {
      return JSON.parse(localStorage.getItem(kept()) ?? "[]");
    } catch {
      return [];
    }
  }

  pin(pin: Pin): void {
    this.pins.value = [...this.pins.value.filter((p) => p.key !== pin.key), pin];
    this.keep(`Pinned: ${pin.title}`);
  }

  setPins(pins: Pin[]): void {
    this.pins.value = pins;
    this.keep("");
  }

  /** This view and all pins, to be kept as a file. */
  session(): Session {
    const link = write(this.selection.value);
    return { transect: this.ready?.version ?? "", kind: "session", link, pins: this.pins.value };
  }

  /** Takes up a saved session; says so where the file is none. */
  resume(text: string): void {
    let told: Partial<Session>;
    try {
      told = JSON.parse(text);
    } catch {
      told = {};
    }
    const words = ["key", "title", "caption", "link", "svg", "csv", "note"] as const;
    const whole = (p: Pin) => words.every((w) => typeof p?.[w] === "string") && Array.isArray(p.origin);
    if (told?.kind !== "session" || typeof told.link !== "string" || !(told.pins ?? []).every(whole)) {
      this.said.value = "This file is no session of Transect.";
      return;
    }
    this.setPins(told.pins ?? []);
    this.select(read(told.link), false);
    this.settle();
    this.said.value = `Session taken up: ${this.pins.value.length} pinned.`;
  }

  private keep(said: string): void {
    this.said.value = said;
    try {
      localStorage.setItem(kept(), JSON.stringify(this.pins.value));
    } catch {
      if (said) this.said.value = `${said} (too large to be kept after this page closes)`;
    }
  }
}

export function failed(error: unknown): { state: "failed"; message: string; fix: string } {
  const refusal = error instanceof Refusal ? error : new Refusal(String((error as Error)?.message ?? error));
  return { state: "failed", message: refusal.message, fix: refusal.fix };
}

export const Context = createContext<App | null>(null);
export function useApp(): App {
  const app = useContext(Context);
  if (!app) throw new Error("no page around this view");
  return app;
}

/** A table of a study, loaded when first asked for. */
export function useTable(study: Study | null, name: string): Loaded<Table | null> {
  const app = useApp();
  return useMemo(() => app.table(study, name), [study?.id, name]).value;
}

/** Tells the rail which sites a view draws. */
export function useDrawn(sites: string[]): void {
  const app = useApp();
  useEffect(() => {
    app.drawn.value = sites;
    return () => {
      app.drawn.value = null;
    };
  }, [sites.join(" ")]);
}

/** Puts tokens into the strip below while a screen is on show. */
export function useStrip(make: () => App["strip"]["value"], on: unknown[]): void {
  const app = useApp();
  useEffect(() => {
    app.strip.value = make();
    return () => {
      app.strip.value = null;
    };
  }, on);
}

export const familyOf = (site: string): string => parse(site).family;
export { layerOf };
