// What the page starts: forms of commands, plans with their cost, and the tasks that the server holds.

import { signal, type Signal } from "@preact/signals";

export interface Field {
  name: string;
  flag: string;
  off: string;
  shape: "flag" | "choice" | "whole" | "number" | "text";
  choices: string[];
  default: string | number | boolean | null;
  help: string;
  least: number | null;
  most: number | null;
  several: boolean;
  required: boolean;
}
export interface Form {
  name: string;
  words: string[];
  help: string;
  fields: Field[];
}
export interface Offer {
  forms: Form[];
  models: string[];
  texts: string[];
  folder: string;
}
export interface Step {
  name: string;
  out: string;
  command: string;
  seconds: number | null;
  bytes: number | null;
  why: string;
}
export interface Task {
  id: string;
  title: string;
  out: string;
  state: "queued" | "running" | "done" | "failed" | "cancelled" | "interrupted";
  created: number;
  started: number | null;
  ended: number | null;
  seconds: number | null;
  message: string;
  progress: { step?: string; done?: number; total?: number; said?: string; at?: number };
  output: string[];
  command: string;
  now: number;
}
export type Values = Record<string, string | boolean | string[]>;
export interface Wanted {
  form: string;
  values: Values;
  out: string;
  capture?: Values;
}

export interface Work {
  offer(): Promise<Offer>;
  plan(wanted: Wanted): Promise<Step[]>;
  start(wanted: Wanted): Promise<string[]>;
  tasks(): Promise<Task[]>;
  change(task: string, action: "cancel" | "resume" | "forget"): Promise<Task[]>;
}

/** What a reader has filled in: kept by the browser, so that a reload loses nothing. */
export interface Draft {
  stores: string[];
  fresh: boolean;
  capture: Values;
  values: Record<string, Values>;
  out: string;
}
export const EMPTY: Draft = { stores: [], fresh: false, capture: {}, values: {}, out: "" };
const KEY = "transect-draft";

export function keptDraft(): Draft {
  try {
    return { ...EMPTY, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return EMPTY;
  }
}
export function keepDraft(draft: Draft): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(draft));
  } catch {
    /* kept until this page closes */
  }
}

/** The place of a form that takes points: its first argument. */
export const placeOf = (form: Form): Field | undefined => form.fields.find((f) => !f.flag);

/** A request from what was filled in: arguments that are points come from the chosen stores. */
export function wantedOf(form: Form, draft: Draft): Wanted {
  const values: Values = { ...(draft.values[form.name] ?? {}) };
  if (form.name === "capture")
    return { form: form.name, values: { ...draft.capture, ...values }, out: draft.out };
  const place = placeOf(form);
  const points = place && place.name !== "model" && place.name !== "adapter";
  if (points && draft.fresh) return { form: form.name, values, out: draft.out, capture: draft.capture };
  if (points) values[place.name] = draft.stores;
  return { form: form.name, values, out: draft.out };
}

/** What a request still needs: arguments without a value. */
export function lacking(forms: Form[], wanted: Wanted): string[] {
  const empty = (v: Values[string] | undefined) =>
    v === undefined || v === "" || (Array.isArray(v) && !v.length);
  const places = (name: string) =>
    (forms.find((f) => f.name === name)?.fields ?? []).filter((f) => !f.flag).map((f) => f.name);
  const own = places(wanted.form).slice(wanted.capture ? 1 : 0);
  return [
    ...(wanted.capture ? places("capture").filter((name) => empty(wanted.capture![name])) : []),
    ...own.filter((name) => empty(wanted.values[name])),
  ];
}

export const ended = (task: Task): boolean => task.state !== "queued" && task.state !== "running";

/** Share of a step that is done, and the seconds that are left of it by what was spent. */
export function left(task: Task): { share: number | null; seconds: number | null } {
  const { done, total } = task.progress;
  if (done === undefined || !total) return { share: null, seconds: null };
  const spent = task.now - (task.started ?? task.now);
  return { share: done / total, seconds: done > 0 ? Math.round((spent / done) * (total - done)) : null };
}

export const duration = (s: number): string =>
  s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
export const bytes = (n: number): string =>
  n > 1e9
    ? `${(n / 1e9).toFixed(1)} GB`
    : n > 1e6
      ? `${(n / 1e6).toFixed(0)} MB`
      : `${Math.ceil(n / 1e3)} kB`;

/** The server's tasks, asked for again every second while there is something to see. */
export class Line {
  readonly tasks: Signal<Task[]> = signal([]);
  readonly failed: Signal<string> = signal("");
  private timer: ReturnType<typeof setTimeout> | undefined;
  private watched = 0;

  constructor(
    private readonly work: Work,
    private readonly finished: () => void,
  ) {}

  /** Watches until the returned function is called. */
  watch(): () => void {
    this.watched += 1;
    void this.look();
    return () => {
      this.watched -= 1;
    };
  }

  take(tasks: Task[]): void {
    const before = new Map(this.tasks.value.map((t) => [t.id, t.state]));
    this.tasks.value = tasks;
    this.failed.value = "";
    if (tasks.some((t) => t.state === "done" && before.has(t.id) && before.get(t.id) !== "done"))
      this.finished();
    clearTimeout(this.timer);
    if (this.watched || tasks.some((t) => !ended(t))) this.timer = setTimeout(() => void this.look(), 1000);
  }

  async look(): Promise<void> {
    try {
      this.take(await this.work.tasks());
    } catch (error) {
      this.failed.value = (error as Error).message;
      clearTimeout(this.timer);
      if (this.watched) this.timer = setTimeout(() => void this.look(), 3000);
    }
  }
}
