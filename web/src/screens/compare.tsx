// Screen 3: what differs between runs — drift from the base with controls, matrices and A − B, significance
// by layer.

import type { JSX } from "preact";
import { useApp, useTable } from "../app";
import { curve, type Series } from "../charts/curve";
import { everyLayer, heat, rangeOf } from "../charts/heat";
import { Choice, Missing, Panel, When } from "../panel";
import { byDepth, layerOf } from "../sites";
import type { Study } from "../source";
import { lines, num, str, type Row, type Table } from "../table";
import { Differences } from "./differences";
import { Readings } from "../readings";
import { named } from "../words";

export function Compare(): JSX.Element {
  const app = useApp();
  const study = app.study("compare");
  const all = app.studies("compare");
  return (
    <div class="tx-screen">
      <div class="tx-head">
        <h1>Compare</h1>
        {all.length > 1 && (
          <Choice
            label="study"
            value={study!.id}
            options={all.map((x) => ({ value: x.id, label: x.path || x.id }))}
            onChange={(v) => app.view("compare", v)}
          />
        )}
      </div>
      {study ? (
        <Compared study={study} />
      ) : (
        <Missing
          what="What training changed"
          form="compare"
          command="transect compare BASE RUN RUN2 --noise BASE2 --random RANDOM --out DIR"
        >
          It holds each run against a base on the same tokens, beside numeric noise, a second seed and random
          weights.
        </Missing>
      )}
      <Differences />
    </div>
  );
}

function Compared({ study }: { study: Study }): JSX.Element {
  const curves = useTable(study, "curves");
  const contrasts = useTable(study, "contrasts");
  const matrices = useTable(study, "matrices");
  return (
    <>
      <When loaded={curves}>{(t) => <Drifts study={study} table={t} />}</When>
      <When loaded={contrasts}>{(t) => <Significance study={study} table={t} />}</When>
      <When
        loaded={matrices}
        empty={
          <Missing form="compare" what="Layer × layer matrices" command="transect compare … --matrices">
            Base, each run, and the latter less the base.
          </Missing>
        }
      >
        {(t) => <Matrices study={study} table={t} />}
      </When>
    </>
  );
}

function useMeasure(table: Table): [string, JSX.Element] {
  const app = useApp();
  const measures = table.values("measure");
  const asked = app.selection.value.view["measure"] ?? "";
  const measure = measures.includes(asked) ? asked : (measures[0] ?? "");
  return [
    measure,
    <Choice
      label="measure"
      value={measure}
      options={measures.map((m) => ({ value: m, label: named(m) }))}
      onChange={(v) => app.view("measure", v)}
    />,
  ];
}

function Drifts({ study, table }: { study: Study; table: Table }): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const [measure, choose] = useMeasure(table);
  const norms = [...new Set(table.where({ measure }).map((r) => str(r["normalise"])))];
  const norm = norms.includes(s.view["norm"] ?? "")
    ? s.view["norm"]!
    : norms.includes("raw")
      ? "raw"
      : norms[0]!;
  const tokens = table.values("token");
  const token = tokens.includes(s.view["class"] ?? "") ? s.view["class"]! : tokens[0]!;
  const rows = table.where({ measure, normalise: norm, token });
  const series: Series[] = table.values("series").map((name) => {
    const own = rows.filter((r) => r["series"] === name);
    return {
      name,
      colour: app.colour(study.colours[name] ? name : str(own[0]?.["run2"]), study),
      rows: own,
      control: own[0]?.["role"] !== "run",
      strong: own.some((r) => r["run2"] === s.a || r["run2"] === s.b),
    };
  });
  return (
    <>
      <div class="tx-tools">
        {choose}
        {norms.length > 1 && (
          <Choice label="points" value={norm} options={norms} onChange={(v) => app.view("norm", v)} />
        )}
        {tokens.length > 1 && (
          <Choice label="tokens" value={token} options={tokens} onChange={(v) => app.view("class", v)} />
        )}
      </div>
      <Panel
        id="curves"
        wide
        title="Drift from the base, layer by layer"
        study={study}
        rows={rows}
        onPick={(d) => app.select({ layer: d.x })}
        caption={
          <>
            1 − similarity, or distance, of each layer to the same layer of the base.{" "}
            <Readings
              rows={rows.filter((r) => layerOf(str(r["site"])) === s.layer)}
              layer={s.layer}
              by="series"
            />
          </>
        }
        draw={(width) =>
          curve({
            series,
            width,
            height: 260,
            xlabel: "layer",
            ylabel: `drift by ${named(measure)}`,
            selected: s.layer,
            label: `drift from the base by ${named(measure)}`,
          })
        }
      />
    </>
  );
}

/** Rows: contrasts of runs; columns: layers; colour: the difference, dot: Holm's p below 0.05. */
function Significance({ study, table }: { study: Study; table: Table }): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const [measure] = useMeasure(table);
  const rows = table.where({ measure, normalise: "raw" });
  const name = (r: Row) => `${str(r["run"])}: ${str(r["contrast"])}`;
  const ys = [...new Set(rows.map(name))];
  const xs = [...new Set(rows.map((r) => str(r["site"])))].sort(byDepth);
  const most = new Map(
    ys.map((y) => [
      y,
      Math.max(...rows.filter((r) => name(r) === y).map((r) => Math.abs(num(r["value"]) ?? 0)), 1e-12),
    ]),
  );
  const cells = rows.map((r) => ({
    x: str(r["site"]),
    y: name(r),
    v: num(r["value"]) === null ? null : num(r["value"])! / most.get(name(r))!,
    tip: `${name(r)}\n${str(r["site"])} ${lines(r)}`,
    above: (num(r["p_holm"]) ?? 1) <= 0.05,
  }));
  const here = xs.find((x) => layerOf(x) === s.layer);
  if (!rows.length)
    return (
      <Missing
        what="Significance by layer"
        form="compare"
        command="transect compare BASE RUN --noise BASE2 --seed-control RUN2 --out DIR"
      >
        {measure
          ? `Not for ${named(measure)}.`
          : "It needs something to be held against: numeric noise, a second seed, or another method."}
      </Missing>
    );
  return (
    <Panel
      id="significance"
      wide
      title="Significance by layer"
      study={study}
      rows={rows}
      onPick={(c) => app.select({ layer: layerOf(c.x) })}
      caption={
        <>
          Difference of two drifts, each row scaled to its own largest; dots: Holm's p ≤ 0.05 over the row's
          layers. <Readings rows={rows.filter((r) => r["site"] === here)} layer={s.layer} />
        </>
      }
      draw={(width) =>
        heat({
          cells,
          xs,
          ys,
          width,
          height: 64 + 24 * ys.length,
          square: false,
          kind: "difference",
          domain: [-1, 1],
          xticks: everyLayer(layerOf, 24, xs.length),
          xlabel: "layer",
          ylabel: "",
          bar: "of largest",
          selected: { x: here },
          label: "significance of differences by layer",
        })
      }
    />
  );
}

function Matrices({ study, table }: { study: Study; table: Table }): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const panels = [...new Map(table.rows.map((r) => [str(r["panel"]), r])).values()];
  const base = table.rows.find((r) => r["kind"] === "cross")?.["run"];
  const of = (r: Row) => (r["kind"] === "cross" ? r["run2"] : r["run"]);
  const wanted = (r: Row) => of(r) === base || of(r) === s.a || of(r) === s.b || panels.length <= 6;
  const shown = panels.filter(wanted).map((r) => str(r["panel"]));
  const scores = table.rows.filter((r) => r["kind"] !== "difference").flatMap((r) => num(r["value"]) ?? []);
  const domain = rangeOf(scores, "score");
  return (
    <>
      <h2>Layer × layer</h2>
      <div class="tx-grid tx-two">
        {shown.map((panel) => (
          <Matrix key={panel} study={study} table={table} panel={panel} domain={domain} />
        ))}
      </div>
    </>
  );
}

function Matrix({
  study,
  table,
  panel,
  domain,
}: {
  study: Study;
  table: Table;
  panel: string;
  domain: [number, number];
}): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const rows = table.where({ panel });
  const kind = str(rows[0]?.["kind"]);
  const difference = kind === "difference";
  const at = new Map(rows.map((r) => [`${str(r["site"])} ${str(r["site2"])}`, r]));
  if (kind === "itself") for (const r of rows) at.set(`${str(r["site2"])} ${str(r["site"])}`, r);
  const names = [...new Set(rows.flatMap((r) => [str(r["site"]), str(r["site2"])]))].sort(byDepth);
  const cells = names.flatMap((y) =>
    names.map((x) => {
      const row = at.get(`${y} ${x}`);
      return {
        x,
        y,
        v: row ? num(row["value"]) : null,
        tip: row
          ? `${y} × ${x}\n${lines(row)}`
          : `${y} × ${x}\n${x === y ? "a layer with itself" : "not computed"}`,
      };
    }),
  );
  const here = names.find((n) => layerOf(n) === s.layer);
  return (
    <Panel
      id={`matrix-${panel}`}
      title={panel}
      study={study}
      rows={rows}
      caption={
        difference
          ? "White: no difference."
          : "One scale for all matrices of scores; hatched: a layer with itself."
      }
      onPick={(c) => app.select({ layer: layerOf(c.y), view: { layer2: String(layerOf(c.x)) } })}
      draw={(width) =>
        heat({
          cells,
          xs: names,
          ys: [...names].reverse(),
          width,
          kind: difference ? "difference" : "score",
          domain: difference ? undefined : domain,
          log: false,
          xlabel: "layer",
          ylabel: "layer",
          bar: difference ? "difference" : named(str(rows[0]?.["measure"])),
          xticks: everyLayer(layerOf, 8, names.length),
          yticks: everyLayer(layerOf, 8, names.length),
          selected: { y: here },
          label: panel,
        })
      }
    />
  );
}
