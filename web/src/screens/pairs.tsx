// All layer pairs of a drift study: the matrix of run A beside that of run B, or one of its rows as a curve.

import type { JSX } from "preact";
import { useApp, useTable } from "../app";
import { curve } from "../charts/curve";
import { everyLayer, heat } from "../charts/heat";
import { Missing, Panel, When } from "../panel";
import { named } from "../words";
import { byDepth, layerOf } from "../sites";
import type { Study } from "../source";
import { line, lines, num, str, told, type Row, type Table } from "../table";

export function Pairs({ study, norm }: { study: Study; norm: string }): JSX.Element {
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
          series: [{ name: run, colour: app.colour(run, study), rows, strong: true }],
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
