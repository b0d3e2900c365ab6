// One token of a live run: what every neuron does, on the study's map or in order of index.

import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useApp, useDrawn } from "../app";
import type { LiveRun } from "../live";
import { Choice, Missing, Panel } from "../panel";
import { FAMILIES, indexLayout, layoutOf, type Layout } from "../points/layout";
import { StageView } from "../points/stage";
import { larger, levels, relative, type Scaling } from "../points/values";
import { layerOf, parse, siteAt } from "../sites";
import type { Positions, Study } from "../source";
import { visible, windowed } from "../strip";
import { told, type Row } from "../table";
import { NeuronDetails } from "./neuron";

export function Shown({
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
