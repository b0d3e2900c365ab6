// Curves through depth: value with its interval, its null with its band, jumps, the selected layer.

import * as Plot from "@observablehq/plot";
import { lines, num, str, told, type Row } from "../table";
import { layerOf } from "../sites";
import { mark, nullName } from "../words";
import { CLASS, defs, el, layerTicks, legend, legendRows, short, type Key } from "./frame";

export interface Series {
  name: string;
  colour: string;
  control?: boolean;
  rows: Row[];
  strong?: boolean;
}
export interface CurveOptions {
  series: Series[];
  width: number;
  height?: number;
  value?: string;
  x?: string;
  xlabel: string;
  ylabel: string;
  selected: number | null;
  changes?: { layer: number; label: string; colour: string; weak: boolean }[];
  legend?: boolean;
  label: string;
}

interface Dot {
  x: number;
  y: number | null;
  low: number | null;
  high: number | null;
  nul: number | null;
  nlow: number | null;
  nhigh: number | null;
  tip: string;
  ok: boolean;
}

/** Where a row was measured: its site, or its two. */
export const between = (row: Row): string =>
  row["site2"] && row["site2"] !== row["site"]
    ? `${str(row["site"])} → ${str(row["site2"])}`
    : str(row["site"]);

function dots(rows: Row[], value: string, x: string | undefined): Dot[] {
  const at = (row: Row) => (x ? (num(row[x]) ?? 0) : layerOf(str(row["site"])));
  const bounds = value === "value" ? ["low", "high"] : [`${value}_low`, `${value}_high`];
  return rows
    .map((row) => ({
      x: at(row),
      y: num(row[value]),
      low: num(row[bounds[0]!]),
      high: num(row[bounds[1]!]),
      nul: value === "value" ? num(row["null"]) : null,
      nlow: value === "value" ? num(row["null_low"]) : null,
      nhigh: value === "value" ? num(row["null_high"]) : null,
      ok: row["status"] === "ok" || row["status"] === undefined,
      tip: `${between(row)}\n${lines(row, value)}`,
    }))
    .sort((p, q) => p.x - q.x);
}

/** Whether values span more than two decades, and so want a logarithmic axis. */
export function scaleOf(values: number[]): "linear" | "log" | "symlog" {
  const sizes = values
    .filter((v) => v !== 0)
    .map(Math.abs)
    .sort((p, q) => p - q);
  if (sizes.length < 3 || sizes[sizes.length - 1]! <= 100 * sizes[Math.floor(sizes.length / 2)]!)
    return "linear";
  return sizes.length === values.length &&
    values.every((v) => v > 0) &&
    sizes[0]! > sizes[Math.floor(sizes.length / 2)]! * 1e-3
    ? "log"
    : "symlog";
}

export function curve(o: CurveOptions): SVGSVGElement {
  const value = o.value ?? "value";
  const drawn = o.series.map((s) => ({ ...s, dots: dots(s.rows, value, o.x) })).filter((s) => s.dots.length);
  const all = drawn.flatMap((s) => s.dots);
  const own = all.flatMap((d) => (d.y === null ? [] : [d.y]));
  const ys = all.flatMap((d) => [d.y, d.nul]).filter((v): v is number => v !== null);
  const xs = all.map((d) => d.x);
  const [x0, x1] = xs.length ? [Math.min(...xs), Math.max(...xs)] : [0, 1];
  const type = scaleOf(own);
  const control = str(drawn[0]?.rows.find((r) => r["control"])?.["control"]);
  const keys: Key[] =
    o.legend === false
      ? []
      : [
          ...drawn.map((s) => ({
            label: s.control ? `${s.name} (control)` : s.name,
            colour: s.colour,
            dash: s.control ? "5 3" : undefined,
          })),
          ...(all.some((d) => d.nul !== null)
            ? [{ label: nullName(control), colour: "#7f8792", dash: "1.5 2.5" }]
            : []),
          ...(o.changes?.length
            ? [
                {
                  label: mark("jump"),
                  colour: "#7f8792",
                  kind: "tick" as const,
                  dash: "1 2",
                },
              ]
            : []),
          ...(all.some((d) => !d.ok || d.y === null)
            ? [{ label: "not computed or flagged", colour: "", kind: "hatch" as const }]
            : []),
        ];
  const rows = legendRows(keys, o.width - 60);
  const height = (o.height ?? 230) + rows * 16 + (o.ylabel ? 14 : 0);
  const lift = o.ylabel ? 14 : 0;
  const top = 14 + rows * 16 + lift,
    bottom = 34;
  const low = type === "log" ? Math.min(...ys) : undefined;
  const marks: Plot.Markish[] = [
    defs,
    legend(keys, 48, o.width - 60),
    () =>
      el(
        "text",
        { x: 8, y: top - 9, fill: "currentColor", "text-anchor": "start", "font-size": 10.5, opacity: 0.8 },
        o.ylabel +
          (type === "linear" ? "" : type === "log" ? " (logarithmic)" : " (logarithmic away from 0)"),
      ),
  ];
  if (o.selected !== null && o.selected >= x0 && o.selected <= x1) {
    marks.push(
      Plot.ruleX([o.selected], {
        stroke: "var(--tx-accent, #0b63a5)",
        strokeWidth: 1.5,
        strokeOpacity: 0.75,
        className: "tx-selected",
      }),
    );
  }
  if (value !== "value" || (ys.some((v) => v < 0) && type !== "log"))
    marks.push(Plot.ruleY([0], { stroke: "currentColor", strokeOpacity: 0.35 }));
  for (const s of drawn) {
    const clip = (v: number | null) => (v === null ? null : low !== undefined ? Math.max(v, low) : v);
    if (s.dots.some((d) => d.nlow !== null))
      marks.push(
        Plot.areaY(s.dots, {
          x: "x",
          y1: (d: Dot) => clip(d.nlow),
          y2: (d: Dot) => clip(d.nhigh),
          fill: "#8a929c",
          fillOpacity: 0.22,
        }),
      );
    if (s.dots.some((d) => d.nul !== null))
      marks.push(
        Plot.lineY(s.dots, {
          x: "x",
          y: "nul",
          stroke: s.colour,
          strokeDasharray: "1.5 2.5",
          strokeWidth: 1.2,
        }),
      );
    if (s.dots.some((d) => d.low !== null))
      marks.push(
        Plot.areaY(s.dots, {
          x: "x",
          y1: (d: Dot) => clip(d.low),
          y2: (d: Dot) => clip(d.high),
          fill: s.colour,
          fillOpacity: 0.2,
        }),
      );
    marks.push(
      Plot.lineY(s.dots, {
        x: "x",
        y: "y",
        stroke: s.colour,
        strokeWidth: s.strong ? 2.2 : 1.5,
        strokeDasharray: s.control ? "5 3" : undefined,
      }),
    );
    marks.push(
      Plot.dot(
        s.dots.filter((d) => d.y !== null),
        { x: "x", y: "y", r: 1.9, fill: s.colour },
      ),
    );
    marks.push(
      Plot.dot(
        s.dots.filter((d) => !d.ok && d.y !== null),
        { x: "x", y: "y", symbol: "times", r: 4, stroke: "currentColor" },
      ),
    );
  }
  const missing = drawn.flatMap((s) => s.dots).filter((d) => d.y === null);
  if (missing.length) {
    marks.push(
      Plot.rect(missing, { x1: (d: Dot) => d.x - 0.5, x2: (d: Dot) => d.x + 0.5, fill: "url(#tx-hatch)" }),
    );
  }
  let before = -Infinity,
    drop = 0;
  for (const c of [...(o.changes ?? [])].sort((p, q) => p.layer - q.layer)) {
    // words of near neighbours go lower, as in print
    drop = ((c.layer - before) * (o.width - 66)) / (x1 - x0 + 1) < 34 ? drop + 11 : 0;
    before = c.layer;
    marks.push(
      Plot.ruleX([c.layer], { stroke: c.colour, strokeDasharray: "1 2", strokeOpacity: c.weak ? 0.5 : 1 }),
    );
    marks.push(
      Plot.text([c], {
        x: "layer",
        text: "label",
        frameAnchor: "top",
        textAnchor: "start",
        dx: 3,
        dy: 1 + drop,
        fill: "currentColor",
        fontSize: 9.5,
      }),
    );
  }
  const hover = drawn.flatMap((s) =>
    s.dots.filter((d) => d.y !== null).map((d) => ({ ...d, tip: `${s.name}\n${d.tip}` })),
  );
  marks.push(
    Plot.tip(
      hover,
      Plot.pointer({
        x: "x",
        y: "y",
        title: "tip",
        fontSize: 11,
        fill: "var(--tx-card, white)",
        stroke: "var(--tx-line, #ccc)",
      }),
    ),
  );
  return Plot.plot({
    className: CLASS,
    width: o.width,
    height,
    marginTop: top,
    marginBottom: bottom,
    marginLeft: 52,
    marginRight: 14,
    style: { background: "none", overflow: "visible", fontSize: "10.5px" },
    ariaLabel: o.label,
    x: {
      label: o.xlabel,
      labelAnchor: "center",
      labelArrow: "none",
      domain: [x0 - 0.5, x1 + 0.5],
      ticks: o.x ? undefined : layerTicks(x0, x1, (o.width - 70) / 34),
      tickFormat: o.x ? undefined : (d: number) => String(d),
      tickSize: 4,
    },
    y: {
      label: null,
      type,
      nice: true,
      grid: true,
      ticks: type === "symlog" ? powers(own) : 5,
      constant: type === "symlog" ? median(own) : undefined,
      tickFormat: type === "linear" ? undefined : (v: number) => short(v),
    },
    marks,
  }) as SVGSVGElement;
}

/** Ticks of an axis that is logarithmic away from zero: zero, and powers of ten that can be told apart. */
export function powers(values: number[]): number[] {
  const middle = median(values);
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const out = [0];
  for (let k = Math.ceil(Math.log10(middle)); k <= 18; k++)
    for (const v of [10 ** k, -(10 ** k)]) if (v <= high * 1.01 && v >= low * 1.01) out.push(v);
  return out.sort((p, q) => p - q);
}

function median(values: number[]): number {
  const sizes = values
    .map(Math.abs)
    .filter((v) => v > 0)
    .sort((p, q) => p - q);
  return sizes[Math.floor(sizes.length / 2)] || 1;
}

export const tipOf = (row: Row): string => `${str(row["site"])}: ${told(row["value"])}`;
