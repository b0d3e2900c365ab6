// What a painter is told, whichever it is: WebGL where there is some, a 2-D canvas where there is none or it
// was lost.

import type { Camera, View } from "./camera";

export interface Scene {
  points: Float32Array;
  radius: number;
  /** 0 … 1 for each point: its colour where no activations are shown. */
  tint: Float32Array;
  /** Activation over its block's level, or null. */
  values: Float32Array | null;
  dark: boolean;
}

export interface Painter {
  readonly kind: "webgl" | "canvas";
  set(scene: Scene): void;
  setValues(values: Float32Array | null): void;
  /** Draws points of each view; `keep`: over what was drawn before. */
  draw(views: View[], camera: Camera, width: number, height: number, dark: boolean, keep?: boolean): void;
  free(): void;
}

export const NEGATIVE: [number, number, number] = [0, 114 / 255, 178 / 255];
export const POSITIVE: [number, number, number] = [213 / 255, 94 / 255, 0];
export const zeroColour = (dark: boolean): [number, number, number] =>
  dark ? [0.36, 0.4, 0.45] : [0.72, 0.75, 0.78];

/** Radius in pixels of a point: small views draw smaller. */
export const base = (view: View): number =>
  view.big
    ? Math.max(0.9, 3.4 * Math.min(1, Math.sqrt(1800 / (view.of ?? view.count))))
    : Math.max(1.1, Math.min(1.8, view.width / 110));
/** Radius of an activation that reaches its level, over the base: area grows with |a|. */
export const GROWTH = 2.2;
export const SMALLEST = 0.34;

/** Radius of a point over the base, for |a| over its level. */
export const grown = (a: number): number =>
  SMALLEST + (GROWTH - SMALLEST) * Math.sqrt(Math.min(1, Math.abs(a)));
