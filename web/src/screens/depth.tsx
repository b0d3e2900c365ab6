// Screen 2: how representations move through depth — curves with nulls and jumps, spectra, all
// layer pairs, and the tokens of one text at the selected layer.

import type { JSX } from "preact";
import { useApp, useTable } from "../app";
import { curve } from "../charts/curve";
import { Reading } from "../examples";
import { depthKind, KINDS } from "../kinds";
import { Choice, Missing, Panel, When } from "../panel";
import { Readings, useSeries } from "../readings";
import { named } from "../words";
import { layerOf, siteAt } from "../sites";
import type { Study } from "../source";
import { num, str, told, type Table } from "../table";
import { Evolution, TokenGeometry } from "./geometry";
import { Pairs } from "./pairs";
import { TokenSimilarity } from "./similarity";

export function Depth(): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const kind = depthKind(app);
  const study = app.study(kind);
  const all = app.studies(kind);
  const there = Object.keys(KINDS).filter((k) => app.studies(k).length);
  const norm = s.view["norm"] ?? "unit";
  const path = app.ready!.stores[0]?.path ?? "STORE";
  const command = `transect drift ${path} --random-weights --out ${path}-drift`;
  return (
    <div class="tx-screen">
      <div class="tx-head">
        <h1>Depth</h1>
        {there.length > 1 && (
          <div class="tx-tabs" role="group" aria-label="What of depth">
            {there.map((k) => (
              <button key={k} type="button" aria-pressed={k === kind} onClick={() => app.view("depth", k)}>
                {KINDS[k]}
              </button>
            ))}
          </div>
        )}
        {all.length > 1 && (
          <Choice
            label="study"
            value={study!.id}
            options={all.map((x) => ({ value: x.id, label: x.path || x.id }))}
            onChange={(v) => app.view(kind, v)}
          />
        )}
        {kind === "drift" && study && (
          <Choice
            label="points"
            value={norm}
            options={[
              { value: "unit", label: "unit norm" },
              { value: "raw", label: "raw" },
            ]}
            onChange={(v) => app.view("norm", v)}
          />
        )}
      </div>
      {!study && (
        <Missing form="drift" what="Drift through depth" command={command}>
          It answers how far representations move from layer to layer, beyond two draws of one layer.
        </Missing>
      )}
      {kind === "drift" && study && (
        <>
          <Adjacent study={study} norm={norm} />
          <Moved study={study} norm={norm} />
          <Spectra study={study} norm={norm} />
          <Pairs study={study} norm={norm} />
        </>
      )}
      {kind === "tokens" && study && <TokenGeometry study={study} />}
      {kind === "evolve" && study && <Evolution study={study} />}
      {kind === "drift" && <TokenSimilarity />}
    </div>
  );
}

function Adjacent({ study, norm }: { study: Study; norm: string }): JSX.Element {
  const adjacent = useTable(study, "adjacent"),
    changes = useTable(study, "changes");
  return (
    <When loaded={adjacent}>
      {(table) => (
        <AdjacentReady
          study={study}
          norm={norm}
          table={table}
          changes={changes.state === "ready" ? changes.value : null}
        />
      )}
    </When>
  );
}

function AdjacentReady({
  study,
  norm,
  table,
  changes,
}: {
  study: Study;
  norm: string;
  table: Table;
  changes: Table | null;
}): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const measures = table.values("measure");
  const measure = measures.includes(s.view["measure"] ?? "") ? s.view["measure"]! : measures[0]!;
  const designs = [...new Set(table.where({ measure }).map((r) => str(r["design"])))];
  const design = designs.includes(s.view["design"] ?? "") ? s.view["design"]! : designs[0]!;
  const value = s.view["excess"] === "1" ? "corrected" : "value";
  const rows = table.where({ measure, normalise: norm, design });
  const series = useSeries(study, rows);
  const marks = (changes?.rows ?? [])
    .filter(
      (r) =>
        r["measure"] === measure &&
        r["kind"] === "jump" &&
        r["normalise"] === norm &&
        r["status"] === "ok" &&
        !series.find((x) => x.name === r["run"])?.control &&
        (r["run"] === s.a || r["run"] === s.b),
    )
    .map((r) => ({
      layer: layerOf(str(r["site"])),
      label: num(r["support"]) === null ? "" : `${Math.round(num(r["support"])! * 100)} %`,
      colour: app.colour(str(r["run"]), study),
      weak: r["beyond_control"] === false,
    }));
  const here = rows.filter((r) => layerOf(str(r["site"])) === s.layer);
  return (
    <>
      <div class="tx-tools">
        <Choice
          label="measure"
          value={measure}
          options={measures.map((m) => ({ value: m, label: named(m) }))}
          onChange={(v) => app.view("measure", v)}
        />
        {designs.length > 1 && (
          <Choice
            label="tokens"
            value={design}
            options={designs.map((d) => ({
              value: d,
              label: d === "disjoint" ? "of different texts" : d === "paired" ? "the same" : d,
            }))}
            onChange={(v) => app.view("design", v)}
          />
        )}
        <Choice
          label="show"
          value={value}
          options={[
            { value: "value", label: "value and null" },
            { value: "corrected", label: "excess over the null" },
          ]}
          onChange={(v) => app.view("excess", v === "corrected" ? "1" : "")}
        />
      </div>
      <Panel
        id="drift"
        measure={measure}
        wide
        title={`${named(measure)} between each layer and the next`}
        study={study}
        rows={rows}
        onPick={(d) => app.select({ layer: d.x })}
        caption={<Readings rows={here} value={value} layer={s.layer} />}
        draw={(width) =>
          curve({
            series,
            width,
            height: 250,
            value,
            xlabel: "layer l → l + 1",
            ylabel: named(measure) + (value === "corrected" ? ", excess over the null" : ""),
            selected: s.layer,
            changes: marks,
            label: `${named(measure)} through depth`,
          })
        }
      />
    </>
  );
}

/** The tokens behind the selected step: those that move most, in their sentences. */
function Moved({ study, norm }: { study: Study; norm: string }): JSX.Element | null {
  const app = useApp();
  const s = app.shown.value;
  const live = app.source.live;
  const site = siteAt("resid", s.layer);
  const run = study.runs.some((r) => r.name === s.a) ? s.a : (study.runs[0]?.name ?? "");
  const store = app.storeOf(run, study, site);
  const last = store?.sites.filter((n) => n.startsWith("resid")).every((n) => layerOf(n) <= s.layer);
  if (!live || !store || store.pooled || !store.sites.includes(site) || last) return null;
  return (
    <section class="tx-panel tx-moved" aria-label="Tokens of this step">
      <Reading
        title={`Tokens of ${run} that move most from ${site}`}
        job={{ kind: "moved", store: store.id, site, unit: norm === "unit" }}
        live={live}
        note={(r) =>
          `distance to ${r.site2}, ${norm} points; median of ${told(r.n)} tokens ${told(r.median)}`
        }
      />
      <button type="button" class="tx-link" onClick={() => app.select({ screen: "text" }, false)}>
        see every token of this layer
      </button>
    </section>
  );
}

const SPECTRA = [
  "participation_ratio",
  "effective_rank",
  "stable_rank",
  "spectral_entropy",
  "norm_entropy",
  "anisotropy",
  "mean_norm",
  "condition_number",
  "top_variance",
  "outlier_dimensions",
  "twonn",
];

function Spectra({ study, norm }: { study: Study; norm: string }): JSX.Element {
  const layers = useTable(study, "layers");
  return (
    <When loaded={layers}>
      {(table) => (
        <>
          <h2>Spectrum, entropy, norms and token similarity of each layer</h2>
          <div class="tx-grid">
            {SPECTRA.filter((m) => table.values("measure").includes(m)).map((m) => (
              <Small key={m} study={study} table={table} measure={m} norm={norm} />
            ))}
          </div>
        </>
      )}
    </When>
  );
}

function Small({
  study,
  table,
  measure,
  norm,
}: {
  study: Study;
  table: Table;
  measure: string;
  norm: string;
}): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  let rows = table.where({ measure, normalise: norm });
  const fallen = !rows.length;
  if (fallen) rows = table.where({ measure });
  const series = useSeries(study, rows);
  return (
    <Panel
      id={measure}
      measure={measure}
      title={named(measure) + (fallen ? " (raw points)" : "")}
      study={study}
      rows={rows}
      onPick={(d) => app.select({ layer: d.x })}
      draw={(width) =>
        curve({
          series,
          width,
          height: 150,
          xlabel: "layer",
          ylabel: "",
          selected: s.layer,
          legend: false,
          label: `${named(measure)} through depth`,
        })
      }
      caption={
        <Readings
          rows={rows.filter(
            (r) => layerOf(str(r["site"])) === s.layer && (r["run"] === s.a || r["run"] === s.b),
          )}
          layer={s.layer}
        />
      }
    />
  );
}
