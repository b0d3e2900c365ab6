// Where data comes from: the server of `transect app`, or what a report or a notebook widget brought along.

import { Table, type Wire } from "./table";
import type { Offer, Step, Task, Wanted, Work } from "./work";

export interface Run {
  name: string;
  spec: string;
  kind: string;
  weights: string;
  texts: string;
  count: number | null;
  fingerprint: string;
  tokens_hash: string;
  dtype: string;
  created: string;
  origin: Record<string, string>;
  /** What makes it a control: random weights, shuffled tokens; empty for a run of its own. */
  control: string;
  families: Record<string, { sites: number; width: number; layers: number[] }>;
}
export interface Store extends Run {
  id: string;
  path: string;
  texts_held: number;
  bytes: number;
  rows: number;
  labels: string[];
  landmarks: string[];
  problems: string[];
  pooled: boolean;
  sites: string[];
}
export interface Figure {
  name: string;
  kind: string;
  table: string;
  title: string;
  caption: string;
  options: Record<string, unknown>;
}
export interface Study {
  id: string;
  path: string;
  name: string;
  question: string;
  findings: string[];
  warnings: string[];
  methods: string[];
  figures: Figure[];
  tables: { name: string; rows: number; columns: string[]; packed: boolean }[];
  runs: Run[];
  /** Name → colour, as its printed figures have it. */
  colours: Record<string, string>;
  provenance: Record<string, unknown>;
}
export interface Estimate {
  store: string;
  study: string;
  seconds: number | null;
  why: string;
  fix: string;
  command: string;
}
export interface Term {
  name: string;
  meaning: string;
  formula: string;
  source: string;
}
/** Words, colours and marks: one table, made in Python, of print and page. */
export interface Words {
  colours: string[];
  grey: string;
  marks: Record<string, string>;
  nulls: Record<string, string>;
  terms: Term[];
  measures: Record<string, { label: string; more: string; source: string; about: string }>;
}
export interface Catalog {
  words: Words;
  version: string;
  root: string;
  studies: Study[];
  stores: Store[];
  estimates: Estimate[];
  left_out: string[];
  problems: { path: string; message: string; fix: string }[];
  models: { id: string; spec: string; weights: string }[];
}
export interface Positions {
  run: string;
  dim: number;
  sites: { site: string; start: number; count: number }[];
  points: Float32Array;
}
export type Event = { type: string } & Record<string, any>;
export interface Job {
  id: string;
  kind: string;
  state: string;
  asked: Record<string, unknown>;
}
export interface Text {
  index: number;
  id: string;
  tokens: string[];
}

/** A refusal with what to change, as the server words it. */
export class Refusal extends Error {
  constructor(
    message: string,
    readonly fix = "",
  ) {
    super(message);
  }
}

export interface Live extends Work {
  submit(job: Record<string, unknown>): Promise<Job>;
  jobs(): Promise<Job[]>;
  cancel(id: string): Promise<void>;
  /** Calls back for every event from the first on; returns a way to stop listening. */
  follow(id: string, heard: (event: Event) => void): () => void;
  values(id: string, step: number): Promise<Float32Array>;
  texts(store: string, start: number): Promise<{ count: number; texts: Text[] }>;
  /** The text of an id. */
  textOf(store: string, id: string): Promise<Text>;
  /** What a finished job has written. */
  file(id: string): Promise<ArrayBuffer>;
  /** Labels of few values, with their values. */
  labels(store: string): Promise<Record<string, string[]>>;
}

export interface Source {
  readonly shell: "app" | "report" | "widget";
  readonly live: Live | null;
  catalog(): Promise<Catalog>;
  table(study: string, name: string): Promise<Table>;
  positions(study: string, name: string): Promise<Positions>;
}

export function unpack(bytes: ArrayBuffer): Positions {
  const length = new DataView(bytes).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
  return { ...header, points: new Float32Array(bytes, 4 + length) };
}

export class Server implements Source, Live {
  readonly shell = "app";
  readonly live = this;

  private async ask(path: string, init: RequestInit = {}): Promise<Response> {
    let answer: Response;
    try {
      answer = await fetch(`api/${path}`, init);
    } catch {
      throw new Refusal(
        "The server does not answer.",
        "Is `transect app` still running? Start it and open its new address.",
      );
    }
    if (answer.ok) return answer;
    const told = await answer.text();
    let parsed: { message?: string; fix?: string } = { message: told };
    try {
      parsed = JSON.parse(told);
    } catch {
      /* plain text */
    }
    throw new Refusal(parsed.message ?? told, parsed.fix);
  }

  async catalog(): Promise<Catalog> {
    return (await this.ask("catalog")).json();
  }
  async table(study: string, name: string): Promise<Table> {
    return new Table(
      (await (await this.ask(`study/${study}/table/${encodeURIComponent(name)}`)).json()) as Wire,
    );
  }
  async positions(study: string, name: string): Promise<Positions> {
    return unpack(
      await (await this.ask(`study/${study}/positions/${encodeURIComponent(name)}`)).arrayBuffer(),
    );
  }
  async submit(job: Record<string, unknown>): Promise<Job> {
    return (await this.ask("jobs", { method: "POST", body: JSON.stringify(job) })).json();
  }
  async jobs(): Promise<Job[]> {
    return (await this.ask("jobs")).json();
  }
  async cancel(id: string): Promise<void> {
    await this.ask(`jobs/${id}`, { method: "DELETE" });
  }
  follow(id: string, heard: (event: Event) => void): () => void {
    const events = new EventSource(`api/jobs/${id}/events`);
    events.onmessage = (message) => {
      const event = JSON.parse(message.data) as Event;
      if (["done", "failed", "cancelled"].includes(event.type)) events.close();
      heard(event);
    };
    events.onerror = () => {
      if (events.readyState !== EventSource.CLOSED) return; // it tries again by itself
      this.jobs().then(
        (jobs) =>
          heard({
            type: "failed",
            message: jobs.some((j) => j.id === id)
              ? "The connection was lost."
              : "This run is past: the server was started anew.",
            fix: "Run it again.",
          }),
        (error: Refusal) => heard({ type: "failed", message: error.message, fix: error.fix }),
      );
    };
    return () => events.close();
  }
  private async post<T>(path: string, body: unknown): Promise<T> {
    const headers = { "content-type": "application/json" };
    return (await this.ask(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
  }
  async offer(): Promise<Offer> {
    return (await this.ask("forms")).json();
  }
  plan(wanted: Wanted): Promise<Step[]> {
    return this.post("plan", wanted);
  }
  start(wanted: Wanted): Promise<string[]> {
    return this.post("tasks", wanted);
  }
  async tasks(): Promise<Task[]> {
    return (await this.ask("tasks")).json();
  }
  change(task: string, action: string): Promise<Task[]> {
    return this.post(`tasks/${task}/${action}`, {});
  }
  async values(id: string, step: number): Promise<Float32Array> {
    return new Float32Array(await (await this.ask(`jobs/${id}/values?step=${step}`)).arrayBuffer());
  }
  async textOf(store: string, id: string): Promise<Text> {
    return (await (await this.ask(`store/${store}/texts?id=${encodeURIComponent(id)}`)).json()).texts[0];
  }
  async file(id: string): Promise<ArrayBuffer> {
    return (await this.ask(`jobs/${id}/file`)).arrayBuffer();
  }
  async labels(store: string): Promise<Record<string, string[]>> {
    return (await this.ask(`store/${store}/labels`)).json();
  }
  async texts(store: string, start: number): Promise<{ count: number; texts: Text[] }> {
    return (await this.ask(`store/${store}/texts?start=${start}`)).json();
  }
}

export interface Brought {
  catalog: Catalog;
  tables: Record<string, Record<string, Wire>>;
  positions: Record<string, Record<string, string>>;
}

export class Inline implements Source {
  readonly live = null;
  constructor(
    private readonly data: Brought,
    readonly shell: "report" | "widget",
  ) {}

  async catalog(): Promise<Catalog> {
    return this.data.catalog;
  }
  async table(study: string, name: string): Promise<Table> {
    const wire = this.data.tables[study]?.[name];
    if (!wire)
      throw new Refusal(
        `Table ${name} was left out to keep this file small.`,
        "Open the study with: transect app DIR.",
      );
    return new Table(wire);
  }
  async positions(study: string, name: string): Promise<Positions> {
    const text = this.data.positions[study]?.[name];
    if (!text)
      throw new Refusal(
        "Positions were left out to keep this file small.",
        "Open the study with: transect app DIR.",
      );
    return unpack(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  }
}
