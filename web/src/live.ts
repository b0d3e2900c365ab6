// Work in the server's worker: one answer (`reading`), or a stream of tokens (`LiveRun`). A reload finds its
// job again.

import { signal, type Signal } from "@preact/signals";
import { Refusal, type Event, type Live } from "./source";

/** Submits a job that has one result, and waits for it. */
export async function reading<T>(live: Live, job: Record<string, unknown>): Promise<T> {
  const { id } = await live.submit(job);
  return new Promise<T>((done, fail) => {
    const stop = live.follow(id, (event) => {
      if (event.type === "result") done(event["value"] as T);
      else if (event.type === "failed") {
        stop();
        fail(new Refusal(event["message"], event["fix"]));
      } else if (event.type === "cancelled") fail(new Refusal("Cancelled."));
    });
  });
}

export interface Token {
  text: string;
  id: number;
  position: number;
  generated: boolean;
  largest: number;
}
export interface Sites {
  site: string;
  width: number;
}
export interface Run {
  id: string;
  state: "queued" | "loading" | "running" | "done" | "failed" | "cancelled";
  tokens: Token[];
  sites: { site: string; start: number; count: number }[];
  width: number;
  weights: string;
  message: string;
  fix: string;
}

export const fresh = (id: string): Run => ({
  id,
  state: "queued",
  tokens: [],
  sites: [],
  width: 0,
  weights: "",
  message: "",
  fix: "",
});

/** The run after one more event: pure, so that hearing the same events again gives the same run. */
export function heard(run: Run, event: Event): Run {
  switch (event.type) {
    case "loading":
      return { ...run, state: "loading" };
    case "started": {
      let at = 0;
      const sites = (event["sites"] as Sites[]).map((s) => {
        const start = at;
        at += s.width;
        return { site: s.site, start, count: s.width };
      });
      return { ...run, state: "running", sites, width: at, weights: event["weights"] as string };
    }
    case "token":
      return { ...run, state: "running", tokens: [...run.tokens, event as unknown as Token] };
    case "failed":
      return {
        ...run,
        state: "failed",
        message: event["message"] as string,
        fix: (event["fix"] as string) ?? "",
      };
    case "done":
    case "cancelled":
      return { ...run, state: event.type };
    default:
      return run;
  }
}

export const ended = (run: Run | null): boolean =>
  run === null || ["done", "failed", "cancelled"].includes(run.state);

/** A live run that follows its job, and keeps the activations it has read. */
export class LiveRun {
  readonly run: Signal<Run>;
  private stop: () => void;
  private readonly rows = new Map<number, Float32Array>();
  private waiting: Event[] = [];

  private take(): void {
    const events = this.waiting;
    this.waiting = [];
    this.run.value = events.reduce(heard, this.run.value);
  }

  constructor(
    private readonly live: Live,
    id: string,
  ) {
    this.run = signal(fresh(id));
    this.stop = live.follow(id, (event) => {
      this.waiting.push(event);
      // a long prompt comes at once: one drawing for many
      if (this.waiting.length === 1) setTimeout(() => this.take(), 16);
    });
  }

  /** Activations of one token: all sites in order. */
  async values(step: number): Promise<Float32Array> {
    const known = this.rows.get(step);
    if (known) return known;
    const got = await this.live.values(this.run.value.id, step);
    if (this.rows.size > 400) this.rows.delete(this.rows.keys().next().value!);
    this.rows.set(step, got);
    return got;
  }

  cancel(): Promise<void> {
    return this.live.cancel(this.run.value.id);
  }
  close(): void {
    this.stop();
  }
}
