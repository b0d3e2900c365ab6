// A − B of any two runs that one study measured at the same sites: checkpoints, norms, architectures, seeds.

import type { JSX } from "preact";
import { useApp, useTable } from "../app";
import { curve } from "../charts/curve";
import { everyLayer, heat } from "../charts/heat";
import { Choice, Missing, Panel, When } from "../panel";
import { byDepth, layerOf } from "../sites";
import type { Study } from "../source";
import { num, str, told, type Row, type Table } from "../table";
import { named } from "../words";

/** A's row less B's: the interval of a difference is not known from two intervals, and is not made up. */
export function subtract(a: Row, b: Row): Row {
  const gap =
    num(a["value"]) !== null && num(b["value"]) !== null ? num(a["value"])! - num(b["value"])! : null;
  return {
    measure: a["measure"]!,
    site: a["site"]!,
    site2: a["site2"] ?? null,
    run: `${str(a["run"])} − ${str(b["run"])}`,
    value: gap,
    left: a["value"] ?? null,
    right: b["value"] ?? null,
    low: null,
    high: null,
    n: a["n"] ?? null,
    n_texts: a["n_texts"] ?? null,
    normalise: a["normalise"] ?? null,
    design: a["design"] ?? null,
    status: gap === null ? `not computed: ${str(a["status"])}; ${str(b["status"])}` : "ok",
  };
}

export function differences(table: Table, a: string, b: string, equal: Record<string, string>): Row[] {
  const key = (r: Row) =>
    [
      r["measure"],
      r["site"],
      r["site2"] === r["site"] ? "" : r["site2"],
      r["token"],
      r["normalise"],
      r["design"],
      r["step"],
    ]
      .map(str)
      .join(" ");
  const of = new Map(table.where({ ...equal, run: b }).map((r) => [key(r), r]));
  return table.where({ ...equal, run: a }).flatMap((r) => {
    const other = of.get(key(r));
    return other ? [subtract(r, other)] : [];
  });
}

export function Differences(): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  if (!s.b)
    return (
      <Missing what="A − B">
        Choose a run B above (or press b): runs that one study measured at the same layers are subtracted
        here.
      </Missing>
    );
  const shared = app.ready!.studies.filter(
    (x) => x.name !== "compare" && [s.a, s.b].every((n) => x.runs.some((r) => r.name === n)),
  );
  const study = shared.find((x) => x.id === s.view["both"]) ?? shared[0];
  if (!study)
    return (
      <Missing form="drift" what={`${s.a} − ${s.b}`} command="transect drift STORE_A STORE_B --out DIR">
        No study holds both runs.
      </Missing>
    );
  return <Both study={study} />;
}

function Both({ study }: { study: Study }): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const curves = study.tables
    .filter(
      (t) =>
        !t.packed &&
        t.columns.includes("site") &&
        ["adjacent", "layers", "maps", "centred", "updates", "within", "gradients", "paths"].includes(t.name),
    )
    .map((t) => t.name);
  const name = curves.includes(s.view["differ"] ?? "")
    ? s.view["differ"]!
    : curves.includes("layers")
      ? "layers"
      : (curves[0] ?? "");
  const table = useTable(study, name);
  const pairs = useTable(study, "pairs");
  return (
    <>
      <h2>
        {s.a} − {s.b}{" "}
        <span class="tx-quiet">
          in the {study.name} study {study.path}
        </span>
      </h2>
      <When loaded={table}>{(t) => <Curve study={study} table={t} tables={curves} name={name} />}</When>
      <When loaded={pairs}>{(t) => <MatrixDifference study={study} table={t} />}</When>
    </>
  );
}

function Curve({
  study,
  table,
  tables,
  name,
}: {
  study: Study;
  table: Table;
  tables: string[];
  name: string;
}): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const measures = table.values("measure").filter((m) => table.where({ measure: m, run: s.b }).length);
  if (!measures.length)
    return <Missing what={`${s.a} − ${s.b}: ${name}`}>Run {s.b} has no rows in this table.</Missing>;
  const measure = measures.includes(s.view["m2"] ?? "") ? s.view["m2"]! : measures[0]!;
  const design = str(table.where({ measure, run: s.b })[0]?.["design"]) || undefined;
  const norm = ["unit", "raw"].find(
    (n) =>
      table.where({ measure, run: s.b, normalise: n }).length &&
      table.where({ measure, run: s.a, normalise: n }).length,
  );
  const rows = differences(table, s.a, s.b, {
    measure,
    ...(norm && { normalise: norm }),
    ...(design && { design }),
  });
  const here = rows.find((r) => layerOf(str(r["site"])) === s.layer);
  return (
    <>
      <div class="tx-tools">
        {tables.length > 1 && (
          <Choice label="table" value={name} options={tables} onChange={(v) => app.view("differ", v)} />
        )}
        <Choice
          label="measure"
          value={measure}
          options={measures.map((m) => ({ value: m, label: named(m) }))}
          onChange={(v) => app.view("m2", v)}
        />
      </div>
      <Panel
        id="difference"
        wide
        title={`${named(measure)}: ${s.a} − ${s.b}`}
        study={study}
        rows={rows}
        onPick={(d) => app.select({ layer: d.x })}
        caption={
          <>
            {norm === "unit" ? "Unit-norm points. " : ""}No interval: that of a difference does not follow
            from the two.{" "}
            {here && (
              <span class="tx-readings">
                <span>
                  <b>{str(here["site"])}</b> {told(here["left"])} − {told(here["right"])} ={" "}
                  {told(here["value"])} · n = {told(here["n"])}
                </span>
              </span>
            )}
          </>
        }
        draw={(width) =>
          curve({
            series: [{ name: `${s.a} − ${s.b}`, colour: "#832db6", rows, strong: true }],
            width,
            height: 210,
            xlabel: "layer",
            ylabel: `difference of ${named(measure)}`,
            selected: s.layer,
            legend: false,
            label: `${named(measure)}, A less B`,
          })
        }
      />
    </>
  );
}

function MatrixDifference({ study, table }: { study: Study; table: Table }): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const rows = differences(table, s.a, s.b, { normalise: "unit" });
  if (!rows.length)
    return (
      <Missing what={`All layer pairs: ${s.a} − ${s.b}`}>
        Both runs need a matrix; a control run has none.
      </Missing>
    );
  const names = [...new Set(rows.flatMap((r) => [str(r["site"]), str(r["site2"])]))].sort(byDepth);
  const at = new Map(
    rows.flatMap((r) => [
      [`${str(r["site"])} ${str(r["site2"])}`, r] as const,
      [`${str(r["site2"])} ${str(r["site"])}`, r] as const,
    ]),
  );
  const cells = names.flatMap((y) =>
    names.map((x) => {
      const r = at.get(`${y} ${x}`);
      return {
        x,
        y,
        v: r ? num(r["value"]) : null,
        tip: r
          ? `${y} × ${x}\nA − B ${told(r["value"])}\n` +
            `A ${told(r["left"])}, B ${told(r["right"])}\nn = ${told(r["n"])}`
          : `${y} × ${x}\nnot computed`,
      };
    }),
  );
  return (
    <Panel
      id="matrix-difference"
      title={`All layer pairs: ${s.a} − ${s.b}`}
      study={study}
      rows={rows}
      draw={(width) =>
        heat({
          cells,
          xs: names,
          ys: [...names].reverse(),
          width: Math.min(width, 560),
          kind: "difference",
          xlabel: "layer",
          ylabel: "layer",
          bar: "A − B",
          xticks: everyLayer(layerOf, 8, names.length),
          yticks: everyLayer(layerOf, 8, names.length),
          selected: { y: names.find((n) => layerOf(n) === s.layer) },
          label: "A less B for all layer pairs",
        })
      }
    />
  );
}
