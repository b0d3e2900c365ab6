// Colours of numbers; those of runs come from Python (`App.colour`), the same as in printed figures. All
// chosen to survive colour-blindness.

import { interpolateRdBu, interpolateViridis } from "d3-scale-chromatic";

export const NEGATIVE = "#0072B2";
export const POSITIVE = "#D55E00";

export const viridis = (t: number): string => interpolateViridis(Math.min(1, Math.max(0, t)));
/** Blue below zero, red above, white at zero. */
export const diverging = (t: number): string => interpolateRdBu(1 - Math.min(1, Math.max(0, t)));
