// Heatmaps: scores viridis, differences blue–white–red about zero, hatching where there is no number.

import * as Plot from "@observablehq/plot";
import { diverging, POSITIVE, viridis } from "../colours";
import { bar, CLASS, defs, el, short, type Mark } from "./frame";

export interface HeatCell {
  x: string;
  y: string;
  v: number | null;
  tip: string;
  /** A filled dot: above its null. In print as here. */
  above?: boolean;
}
export interface HeatOptions {
  cells: HeatCell[];
  xs: string[];
  ys: string[];
  xticks?: (x: string, k: number) => string | null;
  yticks?: (y: string, k: number) => string | null;
  xlabel: string;
  ylabel: string;
  bar: string;
  width: number;
  height?: number;
  kind?: "score" | "difference";
  domain?: [number, number];
  log?: boolean;
  /** Sites at which a new block begins: frames along the diagonal. */
  blocks?: string[];
  selected: { x?: string; y?: string };
  label: string;
  slanted?: boolean;
  square?: boolean;
}

/** The range of colours: zero in the middle for differences; robust against a single extreme where asked. */
export function rangeOf(values: number[], kind: "score" | "difference"): [number, number] {
  if (!values.length) return [0, 1];
  if (kind === "difference") {
    const most = Math.max(...values.map(Math.abs)) || 1;
    return [-most, most];
  }
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

export function heat(o: HeatOptions): SVGSVGElement {
  const kind = o.kind ?? "score";
  const known = o.cells.filter((c) => c.v !== null).map((c) => c.v!);
  const log =
    o.log ??
    (kind === "score" &&
      known.length > 8 &&
      Math.min(...known) > 0 &&
      Math.max(...known) > 100 * median(known));
  const at = (v: number) => (log ? Math.log10(v) : v);
  const [low, high] = o.domain ?? rangeOf(known.map(at), kind);
  const paint = kind === "difference" ? diverging : viridis;
  const colour = (v: number) => paint((at(v) - low) / (high - low || 1));
  const left = Math.max(
    46,
    Math.min(300, 14 + 6 * Math.max(...o.ys.map((y, k) => (o.yticks ?? ident)(y, k)?.length ?? 0))),
  );
  const right = 64,
    top = 26,
    bottom = o.slanted ? 66 : 36;
  const inner = o.width - left - right;
  const height =
    o.height ??
    (o.square === false
      ? 320
      : Math.min(inner * (o.ys.length / Math.max(1, o.xs.length)), 560) + top + bottom);
  const marks: Plot.Markish[] = [
    defs as Mark,
    Plot.cell(o.cells, {
      x: "x",
      y: "y",
      inset: 0,
      fill: (c: HeatCell) => (c.v === null ? "url(#tx-hatch)" : colour(c.v)),
      stroke: "none",
    }),
    Plot.dot(
      o.cells.filter((c) => c.above),
      { x: "x", y: "y", r: 1.8, fill: "white", stroke: "black", strokeWidth: 0.7 },
    ),
  ];
  const box = (cells: { x: string; y: string }[], opacity: number) =>
    Plot.cell(cells, {
      x: "x",
      y: "y",
      fill: "none",
      stroke: "var(--tx-accent, #0b63a5)",
      strokeOpacity: opacity,
      strokeWidth: 1.6,
      inset: -0.5,
      className: "tx-selected",
    });
  const { x, y } = o.selected;
  if (x !== undefined && y !== undefined && o.xs.includes(x) && o.ys.includes(y))
    marks.push(box([{ x, y }], 1));
  if (o.blocks?.length) marks.push(frames(o, o.blocks));
  marks.push(edge(o, left, right, top, bottom, height));
  marks.push(
    bar(
      paint,
      low,
      high,
      log ? `log₁₀ ${o.bar}` : o.bar,
      o.width - right + 14,
      top,
      Math.max(60, height - top - bottom),
    ),
  );
  marks.push(
    Plot.tip(
      o.cells,
      Plot.pointer({
        x: "x",
        y: "y",
        title: "tip",
        fontSize: 11,
        maxRadius: 30,
        fill: "var(--tx-card, white)",
        stroke: "var(--tx-line, #ccc)",
      }),
    ),
  );
  const ticks = (names: string[], named: ((v: string, k: number) => string | null) | undefined) => {
    const shown = new Map(names.map((n, k) => [n, (named ?? ident)(n, k)]));
    return {
      ticks: names.filter((n) => shown.get(n) !== null),
      tickFormat: (n: string) => shown.get(n) ?? "",
    };
  };
  return Plot.plot({
    className: CLASS,
    width: o.width,
    height,
    marginLeft: left,
    marginRight: right,
    marginTop: top,
    marginBottom: bottom,
    style: { background: "none", overflow: "visible", fontSize: "10.5px" },
    ariaLabel: o.label,
    padding: 0,
    x: {
      type: "band",
      domain: o.xs,
      padding: 0,
      label: o.xlabel,
      labelAnchor: "center",
      labelArrow: "none",
      tickSize: 3,
      tickRotate: o.slanted ? -55 : 0,
      ...ticks(o.xs, o.xticks),
    },
    y: {
      type: "band",
      domain: o.ys,
      padding: 0,
      label: o.ylabel,
      labelAnchor: "top",
      labelArrow: "none",
      tickSize: 3,
      ...ticks(o.ys, o.yticks),
    },
    marks,
  }) as SVGSVGElement;
}

const ident = (v: string): string => v;

/** Blocks as frames along the diagonal, of a matrix with the same sites on both axes. */
function frames(o: HeatOptions, blocks: string[]): Mark {
  return (_index, scales) => {
    const g = el("g", { fill: "none", stroke: POSITIVE, "stroke-width": 1.4, "aria-label": "blocks" });
    const [sx, sy] = [band(scales.x), band(scales.y)];
    const starts = [o.xs[0]!, ...o.xs.filter((x) => blocks.includes(x))];
    starts.forEach((first, k) => {
      const last = o.xs[(starts[k + 1] ? o.xs.indexOf(starts[k + 1]!) : o.xs.length) - 1]!;
      const [x0, x1] = [sx(first), sx(last) + sx.bandwidth()];
      const [y0, y1] = [sy(last), sy(first) + sy.bandwidth()];
      const [x, y] = [Math.min(x0, x1), Math.min(y0, y1)];
      g.append(el("rect", { x, y, width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) }));
    });
    return g;
  };
}

type Band = ((v: string) => number) & { bandwidth(): number };
const band = (scale: unknown): Band => scale as Band;

/** Small pointers at the edges for the selected row and column: the cells stay readable. */
function edge(
  o: HeatOptions,
  left: number,
  right: number,
  top: number,
  bottom: number,
  height: number,
): Mark {
  return (_index, scales) => {
    const g = document.createElementNS("http://www.w3.org/2000/svg", "g");
    g.setAttribute("fill", "var(--tx-accent, #0b63a5)");
    g.setAttribute("class", "tx-selected");
    const add = (d: string) => {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", d);
      g.append(path);
    };
    const [sx, sy] = [band(scales.x), band(scales.y)];
    if (o.selected.x !== undefined && o.xs.includes(o.selected.x)) {
      const x = sx(o.selected.x) + sx.bandwidth() / 2;
      add(`M${x},${top - 1}l-4,-6h8z`);
    }
    if (o.selected.y !== undefined && o.ys.includes(o.selected.y)) {
      const y = sy(o.selected.y) + sy.bandwidth() / 2;
      add(`M${o.width - right + 1},${y}l6,-4v8z`);
    }
    void left;
    void bottom;
    void height;
    return g as unknown as SVGElement;
  };
}

/** Ticks of layers in a band scale: whole steps. */
export function everyLayer(
  layer: (name: string) => number,
  room: number,
  count: number,
): (name: string) => string | null {
  const step = [1, 2, 5, 10, 20, 50].find((s) => count / s <= room) ?? 100;
  return (name) => (layer(name) % step === 0 ? String(layer(name)) : null);
}

function median(values: number[]): number {
  const sorted = values.map(Math.abs).sort((p, q) => p - q);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

export { short };
