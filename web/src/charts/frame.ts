// What curves and heatmaps share: hatching for what was not computed, legends inside the SVG, one class for
// all.
//
// Everything a reader needs is inside the SVG, so that an exported file says as much as the page does.

import * as Plot from "@observablehq/plot";

export const CLASS = "tx-plot";
const NS = "http://www.w3.org/2000/svg";
export type Mark = Plot.RenderFunction;

export function el(name: string, attributes: Record<string, string | number>, text = ""): SVGElement {
  const made = document.createElementNS(NS, name);
  for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, String(v));
  if (text) made.textContent = text;
  return made;
}

/** The pattern of a cell without a number. */
export function hatchPattern(): SVGElement {
  const defs = el("defs", {});
  const pattern = el("pattern", {
    id: "tx-hatch",
    width: 5,
    height: 5,
    patternUnits: "userSpaceOnUse",
    patternTransform: "rotate(45)",
  });
  pattern.append(el("rect", { width: 5, height: 5, fill: "#8a929c", "fill-opacity": 0.14 }));
  pattern.append(el("line", { x1: 0, y1: 0, x2: 0, y2: 5, stroke: "#8a929c", "stroke-width": 1.5 }));
  defs.append(pattern);
  return defs;
}

export const defs: Mark = () => hatchPattern() as unknown as SVGElement;

export interface Key {
  label: string;
  colour: string;
  dash?: string;
  kind?: "line" | "band" | "hatch" | "dot" | "tick";
}

/** Rough width of a legend entry, in pixels of 10.5 px text. */
const wide = (label: string): number => 34 + label.length * 5.7;

export function legendRows(keys: Key[], width: number): number {
  let rows = 1,
    x = 0;
  for (const key of keys) {
    if (x + wide(key.label) > width && x > 0) {
      rows += 1;
      x = 0;
    }
    x += wide(key.label);
  }
  return keys.length ? rows : 0;
}

export function legend(keys: Key[], left: number, width: number): Mark {
  return () => {
    const g = el("g", { "text-anchor": "start", "font-size": 10.5, "aria-label": "legend" });
    let x = 0,
      row = 0;
    for (const key of keys) {
      if (x + wide(key.label) > width && x > 0) {
        row += 1;
        x = 0;
      }
      const y = 9 + row * 16,
        at = left + x;
      if (key.kind === "band")
        g.append(
          el("rect", { x: at, y: y - 5, width: 16, height: 9, fill: key.colour, "fill-opacity": 0.22 }),
        );
      else if (key.kind === "hatch")
        g.append(el("rect", { x: at, y: y - 5, width: 16, height: 9, fill: "url(#tx-hatch)" }));
      else if (key.kind === "dot")
        g.append(el("circle", { cx: at + 8, cy: y - 1, r: 3.5, fill: key.colour }));
      else if (key.kind === "tick")
        g.append(
          el("line", {
            x1: at + 8,
            x2: at + 8,
            y1: y - 6,
            y2: y + 4,
            stroke: key.colour,
            "stroke-width": 1.4,
            "stroke-dasharray": key.dash ?? "",
          }),
        );
      else
        g.append(
          el("line", {
            x1: at,
            x2: at + 16,
            y1: y - 1,
            y2: y - 1,
            stroke: key.colour,
            "stroke-width": 2,
            "stroke-dasharray": key.dash ?? "",
          }),
        );
      g.append(el("text", { x: at + 21, y: y + 3, fill: "currentColor" }, key.label));
      x += wide(key.label);
    }
    return g as unknown as SVGElement;
  };
}

/** A colour bar at the right edge, with its ticks and the name of what it shows. */
export function bar(
  colour: (t: number) => string,
  low: number,
  high: number,
  label: string,
  x: number,
  top: number,
  height: number,
): Mark {
  return () => {
    const g = el("g", { "font-size": 10, "text-anchor": "start" });
    const steps = 48;
    for (let k = 0; k < steps; k++) {
      g.append(
        el("rect", {
          x,
          y: top + (height * (steps - 1 - k)) / steps,
          width: 10,
          height: height / steps + 0.6,
          fill: colour(k / (steps - 1)),
        }),
      );
    }
    for (const t of [0, 0.5, 1]) {
      const y = top + height * (1 - t);
      g.append(el("line", { x1: x + 10, x2: x + 13, y1: y, y2: y, stroke: "currentColor" }));
      g.append(el("text", { x: x + 15, y: y + 3.5, fill: "currentColor" }, short(low + t * (high - low))));
    }
    g.append(el("text", { x: x + 10, y: top - 8, fill: "currentColor", "text-anchor": "end" }, label));
    return g as unknown as SVGElement;
  };
}

export function short(x: number): string {
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e4 || size < 1e-2) return x.toExponential(0).replace("e+", "e").replaceAll("-", "−");
  return Number(x.toPrecision(2)).toString().replace("-", "−");
}

/** Ticks of layers: whole numbers, as many as there is room for. */
export function layerTicks(low: number, high: number, room: number): number[] {
  const steps = [1, 2, 5, 10, 20, 50];
  const step = steps.find((s) => (high - low) / s <= room) ?? 100;
  const out: number[] = [];
  for (let x = Math.ceil(low / step) * step; x <= high; x += step) out.push(x);
  return out;
}
