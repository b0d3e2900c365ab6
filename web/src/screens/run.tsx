// Run: a prompt through the live model. Tokens stream in; each can be stepped to; every neuron shows its
// activation.

import { signal, type Signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useApp, useStrip, type App } from "../app";
import { ended, LiveRun, type Run } from "../live";
import { Choice, Failure, Missing } from "../panel";
import type { Study } from "../source";
import { Shown } from "./activations";

const kept = new WeakMap<App, Signal<LiveRun | null>>();

/** The run on show: kept while other screens are looked at, found again by its job after a reload. */
function useLive(app: App): Signal<LiveRun | null> {
  const known = useMemo(() => {
    const have = kept.get(app) ?? signal<LiveRun | null>(null);
    kept.set(app, have);
    return have;
  }, [app]);
  const job = app.selection.value.view["job"];
  useEffect(() => {
    if (job && app.source.live && known.value?.run.value.id !== job) {
      known.value?.close();
      known.value = new LiveRun(app.source.live, job);
    }
  }, [job]);
  return known;
}

export function RunView({ family, study }: { family: string; study: Study | null }): JSX.Element {
  const app = useApp();
  if (!app.source.live)
    return (
      <Missing what="A live model" command="transect app DIR">
        This file holds results only. The app runs the model in a process of its own and shows what every
        neuron does.
      </Missing>
    );
  if (!app.ready!.models.length)
    return (
      <Missing what="A live model" command="transect app DIR --model smollm2">
        No run here names a model that generates.
      </Missing>
    );
  return <Ready family={family} study={study} />;
}

function Ready({ family, study }: { family: string; study: Study | null }): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const live = useLive(app);
  const current = live.value;
  const run = current?.run.value ?? null;
  const positions = study ? app.positions(study).value : null;
  useStrip(
    () =>
      run?.tokens.length
        ? {
            label: "prompt, then generated",
            tokens: run.tokens.map((t) => ({ text: t.text, generated: t.generated })),
          }
        : null,
    [run?.tokens.length, run?.id],
  );
  // while tokens come, the newest is shown, until the reader chooses another
  const followed = useRef(0);
  useEffect(() => {
    const newest = (run?.tokens.length ?? 0) - 1;
    if (newest >= 0 && s.token === followed.current && !ended(run)) {
      followed.current = newest;
      app.select({ token: newest });
    }
  }, [run?.tokens.length]);
  return (
    <>
      <Prompt
        live={live}
        onStart={() => {
          followed.current = 0;
          app.select({ token: 0 });
        }}
      />
      {run?.state === "failed" && <Failure message={run.message} fix={run.fix} />}
      {current && run && run.sites.length > 0 && run.tokens.length > 0 ? (
        <Shown
          key={run.id}
          live={current}
          family={family}
          study={study}
          positions={positions?.state === "ready" ? positions.value : null}
        />
      ) : (
        <div class="tx-state">
          {run && !ended(run) ? (
            <>
              <span class="tx-pulse" />
              {run.state === "queued" ? "in line …" : "loading the model …"}
            </>
          ) : run ? null : (
            <span class="tx-quiet">
              Write a prompt: every token it reads and writes can be stepped through, layer by layer.
            </span>
          )}
        </div>
      )}
    </>
  );
}

/** Where a run is, and how many tokens it has read and written. */
function stateLine(run: Run): string {
  const written = run.tokens.filter((t) => t.generated).length;
  if (!run.tokens.length) return run.state;
  return `${run.state}, ${run.tokens.length - written} prompt + ${written} generated tokens`;
}

function Prompt({ live, onStart }: { live: Signal<LiveRun | null>; onStart: () => void }): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const models = app.ready!.models;
  const model =
    models.find((m) => m.id === s.view["model"]) ??
    models.find((m) => m.spec === app.run(app.selection.value.a)?.spec) ??
    models[0]!;
  const [prompt, setPrompt] = useState(s.view["prompt"] ?? "The birthday of Anna is in the month of");
  const [count, setCount] = useState(Number(s.view["new"] ?? 16));
  const [failure, setFailure] = useState<{ message: string; fix: string } | null>(null);
  const run = live.value?.run.value ?? null;
  const going = run !== null && !ended(run);
  const start = async () => {
    setFailure(null);
    try {
      const job = await app.source.live!.submit({
        kind: "live",
        model: model.id,
        prompt,
        max_new_tokens: count,
        sites: ["mlp.act", "attn.head"],
        seed: s.view["sampled"] === "1" ? 0 : null,
      });
      onStart();
      app.select({
        view: {
          job: job.id,
          prompt: prompt.length < 1000 ? prompt : "",
          new: String(count),
          model: model.id,
        },
      });
    } catch (error) {
      setFailure({ message: (error as Error).message, fix: (error as { fix?: string }).fix ?? "" });
    }
  };
  return (
    <form
      class="tx-prompt"
      onSubmit={(e) => {
        e.preventDefault();
        void start();
      }}
    >
      <label class="tx-choice tx-grow">
        <span>prompt</span>
        <textarea
          rows={2}
          value={prompt}
          onInput={(e) => setPrompt((e.currentTarget as HTMLTextAreaElement).value)}
          onKeyDown={(e) => {
            if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) {
              e.preventDefault();
              void start();
            }
          }}
        />
      </label>
      <Choice
        label="model"
        value={model.id}
        options={models.map((m) => ({ value: m.id, label: m.spec }))}
        onChange={(v) => app.view("model", v)}
      />
      <label class="tx-choice">
        <span>new tokens</span>
        <input
          type="number"
          min={0}
          max={400}
          value={count}
          onInput={(e) => setCount(Number((e.currentTarget as HTMLInputElement).value))}
        />
      </label>
      <Choice
        label="next token"
        value={s.view["sampled"] === "1" ? "1" : "0"}
        options={[
          { value: "0", label: "likeliest" },
          { value: "1", label: "sampled, seed 0" },
        ]}
        onChange={(v) => app.view("sampled", v === "1" ? "1" : "")}
      />
      <button type="submit" class="tx-go">
        Run
      </button>
      <button type="button" disabled={!going} onClick={() => void live.value?.cancel()}>
        Cancel
      </button>
      <span class="tx-quiet" role="status" aria-live="polite">
        {run ? stateLine(run) : ""}
      </span>
      {failure && <Failure {...failure} />}
    </form>
  );
}
