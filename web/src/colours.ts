// Colours that mean the same everywhere, and the same as in printed figures. All chosen to survive colour-
// blindness.

import { interpolateRdBu, interpolateViridis } from "d3-scale-chromatic";

export const RUNS = [
  "#3f90da",
  "#ffa90e",
  "#bd1f01",
  "#94a4a2",
  "#832db6",
  "#a96b59",
  "#e76300",
  "#b9ac70",
  "#717581",
  "#92dadd",
];
export const NEGATIVE = "#0072B2";
export const POSITIVE = "#D55E00";

export const viridis = (t: number): string => interpolateViridis(Math.min(1, Math.max(0, t)));
/** Blue below zero, red above, white at zero. */
export const diverging = (t: number): string => interpolateRdBu(1 - Math.min(1, Math.max(0, t)));

export function runColour(names: string[], name: string): string {
  const at = names.indexOf(name);
  return RUNS[(at < 0 ? names.length : at) % RUNS.length]!;
}
