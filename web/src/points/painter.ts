// Which painter draws: WebGL 2 where there is a graphics card, else a 2-D canvas; the address may say which.

import { useState } from "preact/hooks";
import { useApp } from "../app";
import { CanvasPainter, software } from "./canvas";
import type { Painter } from "./paint";
import { WebGlPainter } from "./webgl";

/** Whether the 2-D canvas draws, and how to fall back to it. */
export function usePlain(): [boolean, (plain: boolean) => void] {
  const app = useApp();
  return useState(() => {
    const gl = app.selection.value.view["gl"];
    return gl === "off" || (gl !== "on" && software());
  });
}

/** A painter on a canvas; `lost` is called where there is no WebGL, or no more. */
export function openPainter(canvas: HTMLCanvasElement, plain: boolean, lost: () => void): Painter {
  if (plain) return new CanvasPainter(canvas);
  try {
    return new WebGlPainter(canvas, lost);
  } catch {
    lost();
  }
  return { kind: "canvas", set() {}, setValues() {}, draw() {}, free() {} };
}
