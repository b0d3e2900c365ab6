// What views of numbers share: names of measures, runs as series, the numbers at the selected layer.

import type { JSX } from "preact";
import { useApp } from "./app";
import type { Series } from "./charts/curve";
import type { Study } from "./source";
import { line, str, type Row } from "./table";
import { Worded } from "./terms";

/** Runs of a table as series: A and B strong, controls dashed. */
export function useSeries(study: Study, rows: Row[], key = "run"): Series[] {
  const app = useApp();
  const s = app.shown.value;
  const controls = new Set([
    ...study.runs.filter((r) => r.control).map((r) => r.name),
    ...study.figures.flatMap((f) => (f.options["controls"] as string[] | undefined) ?? []),
  ]);
  const found = [...new Set(rows.map((r) => str(r[key])))];
  return found.map((name) => ({
    name,
    colour: app.colour(name, study),
    control: controls.has(name),
    strong: name === s.a || name === s.b,
    rows: rows.filter((r) => str(r[key]) === name),
  }));
}

/** The numbers at the selected layer, one line a run: value, interval, null, p, n. */
export function Readings({
  rows,
  value = "value",
  layer,
  by = "run",
}: {
  rows: Row[];
  value?: string;
  layer: number;
  by?: string;
}): JSX.Element {
  if (!rows.length) return <span class="tx-none">Nothing computed at layer {layer}.</span>;
  return (
    <span class="tx-readings">
      {rows.slice(0, 6).map((r, k) => (
        <span key={k}>
          <b>{str(r[by])}</b> {str(r["site"])}
          {r["site2"] && r["site2"] !== r["site"] ? ` → ${str(r["site2"])}` : ""}:{" "}
          <Worded text={line(r, value)} />
        </span>
      ))}
    </span>
  );
}
