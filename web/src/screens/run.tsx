// Run: a prompt through the live model. Tokens stream in; each can be stepped to; every neuron shows its
// activation.

import { signal, type Signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useApp, useDrawn, useStrip, type App } from "../app";
import { ended, LiveRun, type Run } from "../live";
import { Choice, Failure, Missing, Panel } from "../panel";
import { larger, levels, relative, type Scaling } from "../points/values";
import { StageView } from "../points/stage";
import { layerOf, parse, siteAt } from "../sites";
import type { Positions, Study } from "../source";
import { visible, windowed } from "../strip";
import { told, type Row } from "../table";
import { NeuronDetails } from "./neuron";
import { FAMILIES, indexLayout, layoutOf, type Layout } from "../points/layout";

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

function Shown({
  live,
  family,
  study,
  positions,
}: {
  live: LiveRun;
  family: string;
  study: Study | null;
  positions: Positions | null;
}): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const run = live.run.value;
  const own = useMemo(() => run.sites.filter((x) => parse(x.site).family === family), [run.sites, family]);
  const layout: Layout = useMemo(
    () =>
      positions &&
      own.length &&
      positions.sites.some((p) => own.some((o) => o.site === p.site && o.count === p.count))
        ? layoutOf(positions, study)
        : indexLayout(own),
    [positions, own],
  );
  const step = Math.min(s.token, run.tokens.length - 1);
  const scaling: Scaling = s.view["scale"] === "token" ? "token" : "run";
  const shown = useValues(live, layout, own, step, scaling);
  useDrawn(layout.blocks.map((b) => b.site));
  const take = useRef<(() => { url: string; width: number; height: number } | null) | null>(null);
  if (!own.length)
    return <Missing what={`${FAMILIES[family]} activations`}>This model has no such site.</Missing>;
  const site =
    layout.blocks.find((b) => b.site === siteAt(family, s.layer))?.site ??
    layout.blocks[layout.blocks.length - 1]!.site;
  const at = layout.blocks.findIndex((b) => b.site === site);
  const block = layout.blocks[at]!;
  const token = run.tokens[step]!;
  const which = `${token.generated ? "generated" : "prompt"} token ${step}, ${visible(token.text)}`;
  const read = (name: string, neuron: number): number | null => {
    const o = own.find((x) => x.site === name);
    return o && shown.raw ? shown.raw[o.start + neuron]! : null;
  };
  const rows: Row[] =
    s.neuron === null
      ? []
      : layout.blocks.flatMap((b) => {
          const v = read(b.site, s.neuron!);
          return v === null
            ? []
            : [
                {
                  measure: "activation",
                  site: b.site,
                  neuron: s.neuron,
                  token: token.text,
                  position: token.position,
                  generated: token.generated,
                  value: v,
                  n: 1,
                  status: "ok",
                },
              ];
        });
  const other = app.runs.value.find((r) => study?.runs.some((q) => q.name === r.name));
  return (
    <>
      <p class="tx-said-text" aria-label="Text">
        {windowed(run.tokens.length, step)
          .map((k) => [run.tokens[k]!, k] as const)
          .map(([t, k]) => (
            <span
              key={k}
              class={`${t.generated ? "tx-generated" : ""}${k === step ? " tx-here" : ""}`}
              onClick={() => app.select({ token: k })}
            >
              {t.text.replace(/\n+/g, "⏎")}
            </span>
          ))}
      </p>
      <div class="tx-beside tx-live">
        <Panel
          id="run"
          wide
          title={`${FAMILIES[family]} activations at ${which}`}
          study={study}
          rows={rows.length ? rows : undefined}
          image={() => take.current?.() ?? null}
          tools={
            <Choice
              label="scale"
              value={scaling}
              options={[
                { value: "run", label: "one for all tokens" },
                { value: "token", label: "each token its own" },
              ]}
              onChange={(v) => app.view("scale", v === "token" ? "token" : "")}
            />
          }
          caption={
            <>
              Area grows with |activation|,{" "}
              {scaling === "token"
                ? "each block against 99.5 % of its neurons at this token"
                : "each block against 99.5 % of its neurons over the tokens seen, the first left out"}
              ; <b class="tx-neg">blue negative</b>, <b class="tx-pos">orange positive</b>, grey zero.{" "}
              {layout.study
                ? ""
                : "Neurons stand in order of index: there is no map of this model's neurons here. "}
              {study &&
              run.weights &&
              other &&
              other.weights &&
              run.weights.slice(0, 8) !== other.weights.slice(0, 8)
                ? "The map was made from other weights than this model's."
                : ""}
            </>
          }
        >
          <StageView
            {...layout}
            values={shown.values?.length === layout.tint.length ? shown.values : null}
            version={shown.version}
            site={site}
            neuron={s.neuron}
            label={FAMILIES[family]!}
            grab={(t) => {
              take.current = t;
            }}
            onSelect={(name, neuron) => app.select({ layer: layerOf(name), neuron })}
            card={(name, neuron) => (
              <>
                <b>
                  {name} · {neuron}
                </b>
                <br />
                activation {told(read(name, neuron))} at {visible(token.text)}
                <br />
                <span class="tx-quiet">one token: no interval</span>
              </>
            )}
          />
        </Panel>
        <NeuronDetails
          study={layout.study}
          site={site}
          layout={layout}
          run={study?.runs[0]?.name ?? s.a}
          activation={
            s.neuron !== null && s.neuron < block.count && shown.raw && shown.level
              ? { value: read(site, s.neuron) ?? 0, level: shown.level[at]! }
              : null
          }
        />
      </div>
    </>
  );
}

interface Values {
  values: Float32Array | null;
  raw: Float32Array | null;
  level: Float32Array | null;
  version: number;
}

/** Activations of the token on show, ordered as the layout; a block without activations stays at no size. */
function useValues(
  live: LiveRun,
  layout: Layout,
  own: { site: string; start: number; count: number }[],
  step: number,
  scaling: Scaling,
): Values {
  const app = useApp();
  const [state, setState] = useState<Values>({ values: null, raw: null, level: null, version: 0 });
  const seen = useRef<Float32Array | null>(null);
  const buffer = useMemo(() => {
    seen.current = null;
    return new Float32Array(layout.points.length / 3);
  }, [layout]);
  useEffect(() => {
    let wanted = true;
    live.values(step).then(
      (raw) => {
        if (!wanted) return;
        const at = new Map(own.map((o) => [o.site, o]));
        const placed = new Float32Array(buffer.length);
        for (const b of layout.blocks) {
          const o = at.get(b.site);
          if (o && o.count === b.count) placed.set(raw.subarray(o.start, o.start + o.count), b.start);
        }
        const here = levels(placed, layout.blocks);
        if (step > 0) seen.current = larger(seen.current, here);
        const level = scaling === "token" ? here : (seen.current ?? here);
        relative(placed, layout.blocks, level, buffer);
        setState((s) => ({ values: buffer, raw, level, version: s.version + 1 }));
      },
      (error) => {
        if (wanted) app.said.value = (error as Error).message;
      },
    );
    return () => {
      wanted = false;
    };
  }, [live, layout, own, step, scaling]);
  return state;
}
