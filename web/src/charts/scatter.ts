// Points of one cell in their fitted plane, coloured by label, beside where the labels belong.

import * as Plot from "@observablehq/plot";
import { viridis } from "../colours";
import { told } from "../table";
import { bar, CLASS, defs } from "./frame";

export interface ScatterOptions {
  points: { x: number; y: number; ix?: number; iy?: number; label: number | string; name: string }[];
  width: number;
  label: string;
  bar: string;
}

export function scatter(o: ScatterOptions): SVGSVGElement {
  const numbers = o.points.map((p) => p.label).filter((l): l is number => typeof l === "number");
  const [low, high] = numbers.length ? [Math.min(...numbers), Math.max(...numbers)] : [0, 1];
  const colour = (l: number | string) =>
    typeof l === "number" ? viridis((l - low) / (high - low || 1)) : "#3f90da";
  const reach = Math.max(1e-12, ...o.points.flatMap((p) => [Math.abs(p.x), Math.abs(p.y)]));
  const right = 64,
    side = o.width - 46 - right;
  const ideal = o.points.filter((p) => p.ix !== undefined);
  const far = Math.max(1e-12, ...ideal.flatMap((p) => [Math.abs(p.ix!), Math.abs(p.iy!)]));
  const marks: Plot.Markish[] = [
    defs,
    Plot.ruleX([0], { strokeOpacity: 0.2 }),
    Plot.ruleY([0], { strokeOpacity: 0.2 }),
    Plot.dot(ideal, {
      x: (p) => (p.ix! / far) * reach * 0.8,
      y: (p) => (p.iy! / far) * reach * 0.8,
      r: 2,
      stroke: (p) => colour(p.label),
      strokeOpacity: 0.6,
    }),
    Plot.dot(o.points, { x: "x", y: "y", r: 3.2, fill: (p) => colour(p.label), fillOpacity: 0.9 }),
    Plot.tip(
      o.points,
      Plot.pointer({
        x: "x",
        y: "y",
        title: (p) => `${p.name}\n${o.bar} ${typeof p.label === "number" ? told(p.label) : p.label}`,
        fontSize: 11,
        fill: "var(--tx-card, white)",
        stroke: "var(--tx-line, #ccc)",
      }),
    ),
  ];
  if (numbers.length) marks.push(bar(viridis, low, high, o.bar, o.width - right + 14, 26, side - 10));
  const axis = {
    domain: [-reach * 1.08, reach * 1.08],
    labelAnchor: "center" as const,
    labelArrow: "none" as const,
    ticks: 5,
  };
  return Plot.plot({
    className: CLASS,
    width: o.width,
    height: side + 62,
    marginLeft: 46,
    marginRight: right,
    marginTop: 26,
    marginBottom: 36,
    style: { background: "none", overflow: "visible", fontSize: "10.5px" },
    ariaLabel: o.label,
    x: { ...axis, label: "first fitted axis" },
    y: { ...axis, label: "second", labelAnchor: "top" },
    marks,
  }) as SVGSVGElement;
}
