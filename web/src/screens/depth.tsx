// Screen 2: how representations move through depth — curves with nulls and jumps, spectra, all
// layer pairs, and the tokens of one text at the selected layer.

import type { JSX } from "preact";
import { useApp, useTable } from "../app";
import { runColour } from "../colours";
import { curve } from "../charts/curve";
import { everyLayer, heat } from "../charts/heat";
import { depthKind, KINDS } from "../kinds";
import { Choice, Missing, Panel, When } from "../panel";
import { named, Readings, useSeries } from "../readings";
import { byDepth, layerOf } from "../sites";
import type { Study } from "../source";
import { line, lines, num, str, told, type Row, type Table } from "../table";
import { Evolution, TokenGeometry } from "./geometry";
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
        <Missing what="Drift through depth" command={command}>
          It answers how far representations move from layer to layer, beyond two draws of one layer.
        </Missing>
      )}
      {kind === "drift" && study && (
        <>
          <Adjacent study={study} norm={norm} />
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
  const names = app.names.value;
  const marks = (changes?.rows ?? [])
    .filter(
      (r) =>
        r["measure"] === measure &&
        r["kind"] === "jump" &&
        r["normalise"] === norm &&
        r["status"] === "ok" &&
        (r["run"] === s.a || r["run"] === s.b),
    )
    .map((r) => ({
      layer: layerOf(str(r["site"])),
      label: num(r["support"]) === null ? "" : `${Math.round(num(r["support"])! * 100)} %`,
      colour: runColour(names, str(r["run"])),
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

function Pairs({ study, norm }: { study: Study; norm: string }): JSX.Element {
  const app = useApp();
  const pairs = useTable(study, "pairs");
  const s = app.shown.value;
  return (
    <When loaded={pairs} empty={<Missing what="All layer pairs" />}>
      {(table) => {
        const runs = table.values("run");
        const a = runs.includes(s.a) ? s.a : runs[0]!;
        const both = runs.includes(s.b) && s.b !== a;
        return (
          <>
            <h2>All layer pairs</h2>
            <div class="tx-grid tx-two">
              <Matrix study={study} table={table} run={a} norm={norm} />
              {both ? (
                <Matrix study={study} table={table} run={s.b} norm={norm} />
              ) : (
                <LayerRow study={study} table={table} run={a} norm={norm} />
              )}
            </div>
          </>
        );
      }}
    </When>
  );
}

function Matrix({
  study,
  table,
  run,
  norm,
}: {
  study: Study;
  table: Table;
  run: string;
  norm: string;
}): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const rows = table.where({ run, normalise: norm });
  const names = [...new Set(rows.flatMap((r) => [str(r["site"]), str(r["site2"])]))]
    .filter(Boolean)
    .sort(byDepth);
  const at = new Map(
    rows.flatMap((r) => [
      [`${str(r["site"])} ${str(r["site2"])}`, r] as const,
      [`${str(r["site2"])} ${str(r["site"])}`, r] as const,
    ]),
  );
  const changes = useTable(study, "changes");
  const found = changes.state === "ready" ? (changes.value?.rows ?? []) : [];
  const blocks = found
    .filter((r) => r["run"] === run && r["normalise"] === norm && r["kind"] === "block")
    .flatMap((r) => (r["status"] === "ok" ? [str(r["site2"])] : []));
  const floor = new Map<string, Row>();
  for (const r of rows)
    for (const [name, key] of [
      ["null_site", "site"],
      ["null_site2", "site2"],
    ] as const)
      if (num(r[name]) !== null) floor.set(str(r[key]), { value: r[name] ?? null });
  const cells = names.flatMap((y) =>
    names.map((x) => {
      const row = x === y ? undefined : at.get(`${x} ${y}`);
      const diagonal = x === y ? floor.get(x) : undefined;
      const v = row ? num(row["value"]) : diagonal ? num(diagonal["value"]) : null;
      const tip = row
        ? `${y} × ${x}\n${lines(row)}`
        : diagonal
          ? `${x}\nsplit-half null ${told(v)}`
          : `${y} × ${x}\nnot computed`;
      return { x, y, v, tip };
    }),
  );
  const measure = str(rows[0]?.["measure"]);
  const here = names.find((n) => layerOf(n) === s.layer);
  const other = names.find((n) => layerOf(n) === Number(s.view["layer2"] ?? s.layer + 1));
  const chosen = here && other ? at.get(`${here} ${other}`) : undefined;
  return (
    <Panel
      id={`pairs-${run}`}
      title={`${named(measure)}, ${run}`}
      study={study}
      rows={rows}
      onPick={(c) => app.select({ layer: layerOf(c.y), view: { layer2: String(layerOf(c.x)) } })}
      caption={
        <>
          {rows[0]?.["design"] === "paired" ? "The same tokens" : "Tokens of different texts"}; diagonal: the
          split-half null of that layer{blocks.length > 0 && "; frames: blocks"}.{" "}
          {chosen && (
            <span class="tx-readings">
              <span>
                <b>
                  {str(chosen["site"])} × {str(chosen["site2"])}
                </b>{" "}
                {line(chosen)}
              </span>
            </span>
          )}
        </>
      }
      draw={(width) =>
        heat({
          cells,
          xs: names,
          ys: [...names].reverse(),
          width,
          xlabel: "layer",
          ylabel: "layer",
          bar: named(measure),
          xticks: everyLayer(layerOf, 10, names.length),
          yticks: everyLayer(layerOf, 10, names.length),
          selected: { x: other, y: here },
          blocks,
          label: `${named(measure)} between all layers of ${run}`,
        })
      }
    />
  );
}

/** One row of the matrix as a curve: the selected layer against every other. */
function LayerRow({
  study,
  table,
  run,
  norm,
}: {
  study: Study;
  table: Table;
  run: string;
  norm: string;
}): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const names = app.names.value;
  const rows = table
    .where({ run, normalise: norm })
    .filter((r) => layerOf(str(r["site"])) === s.layer || layerOf(str(r["site2"])) === s.layer)
    .map(
      (r): Row =>
        layerOf(str(r["site"])) === s.layer
          ? { ...r, other: layerOf(str(r["site2"])) }
          : { ...r, other: layerOf(str(r["site"])), site: r["site2"] ?? null, site2: r["site"] ?? null },
    )
    .filter((r) => r["other"] !== s.layer);
  const measure = str(rows[0]?.["measure"]);
  return (
    <Panel
      id="pairs-row"
      title={`Layer ${s.layer} against every other, ${run}`}
      study={study}
      rows={rows}
      onPick={(d) => app.select({ view: { layer2: String(d.x) } })}
      caption="Dotted: the split-half null. Choose a run B to see its matrix here instead."
      draw={(width) =>
        curve({
          series: [{ name: run, colour: runColour(names, run), rows, strong: true }],
          width,
          height: 280,
          x: "other",
          xlabel: "other layer",
          ylabel: named(measure),
          selected: s.view["layer2"] ? Number(s.view["layer2"]) : null,
          label: `layer ${s.layer} against every other`,
        })
      }
    />
  );
}
