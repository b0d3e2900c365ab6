// The same views on a 2-D canvas: where there is no WebGL, no graphics card behind it, or its context was
// lost.
//
// Points are stamped into an image, pixel by pixel: 46,080 of them cost a few milliseconds, where a software
// GL takes ten times that. Small ones first, so that what is large (or near) lies on top.

import { viridis } from "../colours";
import { rotation, scaleOf, type Camera, type View } from "./camera";
import { base, grown, NEGATIVE, POSITIVE, zeroColour, type Painter, type Scene } from "./paint";

const STEP = 4; // radii are told apart to a quarter of a pixel
const LEVELS = 48;

/** How much of each pixel a disc covers, about its centre: made once for every radius. */
const stamps = new Map<number, { half: number; cover: Uint8Array }>();
export function stamp(radius: number): { half: number; cover: Uint8Array } {
  const key = Math.max(1, Math.round(radius * STEP));
  const known = stamps.get(key);
  if (known) return known;
  const r = key / STEP,
    half = Math.ceil(r),
    side = 2 * half + 1;
  const cover = new Uint8Array(side * side);
  for (let y = -half; y <= half; y++)
    for (let x = -half; x <= half; x++) {
      cover[(y + half) * side + x + half] = Math.round(
        255 * Math.min(1, Math.max(0, r + 0.5 - Math.hypot(x, y))),
      );
    }
  const made = { half, cover };
  stamps.set(key, made);
  return made;
}

type Rgb = [number, number, number];
interface Clip {
  left: number;
  top: number;
  right: number;
  bottom: number;
}
/** Red, green and blue as they lie in a pixel. */
const pack = ([r, g, b]: Rgb): number => r | (g << 8) | (b << 16);

/** A colour over a pixel that has one already, by its coverage. */
function over(had: number, packed: number, c: number): number {
  const m = c / 255;
  let out = 0;
  for (let shift = 0; shift < 24; shift += 8) {
    const was = (had >>> shift) & 255;
    out |= Math.round(was + (((packed >>> shift) & 255) - was) * m) << shift;
  }
  const alpha = Math.max(had >>> 24, c);
  return (out | (alpha << 24)) >>> 0;
}

const bytes = (c: Rgb): Rgb => c.map((v) => Math.round(v * 255)) as Rgb;
const mixed = (from: Rgb, to: Rgb, t: number): Rgb =>
  from.map((v, k) => Math.round(255 * (v + (to[k]! - v) * t))) as Rgb;

function shades(): Rgb[] {
  return Array.from({ length: 64 }, (_, k) => {
    const hex = viridis(k / 63);
    const found = hex.startsWith("#")
      ? [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16))
      : hex.match(/\d+/g)!.map(Number);
    return found as Rgb;
  });
}

export class CanvasPainter implements Painter {
  readonly kind = "canvas";
  private scene: Scene | null = null;
  private image: ImageData | null = null;
  private readonly context: CanvasRenderingContext2D;
  private pixels: Uint32Array | null = null;
  private readonly tints = shades().map(pack);
  private level = new Uint8Array(0);
  private order = new Uint32Array(0);

  constructor(private readonly canvas: HTMLCanvasElement) {
    this.context = canvas.getContext("2d")!;
  }

  set(scene: Scene): void {
    this.scene = scene;
  }
  setValues(values: Float32Array | null): void {
    if (this.scene) this.scene = { ...this.scene, values };
  }

  draw(views: View[], camera: Camera, width: number, height: number, dark: boolean, keep = false): void {
    const ratio = Math.min(devicePixelRatio, 2);
    const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
    if (this.canvas.width !== w || this.canvas.height !== h || !this.image) {
      [this.canvas.width, this.canvas.height] = [w, h];
      this.image = this.context.createImageData(w, h);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    if (!keep) this.pixels!.fill(0);
    if (this.scene) for (const view of views) this.view(this.scene, view, camera, ratio, dark);
    this.context.putImageData(this.image, 0, 0);
  }

  private view(scene: Scene, view: View, camera: Camera, ratio: number, dark: boolean): void {
    const t = rotation(camera);
    const { points, values, tint, radius } = scene;
    const scale = scaleOf(view, radius, camera.zoom) * ratio;
    const [cx, cy] = [
      (view.x + view.width / 2 + (view.big ? camera.panX : 0)) * ratio,
      (view.y + view.height / 2 + (view.big ? camera.panY : 0)) * ratio,
    ];
    const size = base(view) * ratio;
    this.sort(scene, view, t);
    const zero = pack(bytes(zeroColour(dark)));
    const signs = [NEGATIVE, POSITIVE].map((c) =>
      Array.from({ length: LEVELS }, (_, k) =>
        pack(mixed(zeroColour(dark), c, 0.25 + 0.75 * Math.sqrt((k + 0.5) / LEVELS))),
      ),
    );
    const clip: Clip = {
      left: Math.max(0, Math.ceil(view.x * ratio)),
      top: Math.max(0, Math.ceil(view.y * ratio)),
      right: Math.min(this.image!.width, Math.floor((view.x + view.width) * ratio)),
      bottom: Math.min(this.image!.height, Math.floor((view.y + view.height) * ratio)),
    };
    const sizes = Array.from({ length: LEVELS }, (_, k) =>
      stamp(size * (values ? grown((k + 0.5) / LEVELS) : 0.75 + (0.5 * k) / LEVELS)),
    );
    const none = stamp(size * grown(0));
    for (let k = 0; k < view.count; k++) {
      const i = this.order[k]!,
        at = 3 * i;
      const [x, y, z] = [points[at]!, points[at + 1]!, points[at + 2]!];
      const px = Math.round(cx + scale * (t[0]! * x + t[1]! * y + t[2]! * z));
      const py = Math.round(cy - scale * (t[3]! * x + t[4]! * y + t[5]! * z));
      if (values) {
        const a = values[i]!;
        const level = this.level[i - view.start]!;
        if (a === 0) this.put(none, px, py, zero, clip, view.big);
        else this.put(sizes[level]!, px, py, signs[a < 0 ? 0 : 1]![level]!, clip, view.big);
      } else {
        this.put(
          sizes[this.level[i - view.start]!]!,
          px,
          py,
          this.tints[Math.round(63 * Math.min(1, Math.max(0, tint[i]!)))]!,
          clip,
          view.big,
        );
      }
    }
  }

  /** Points of a view from the smallest (or farthest) level to the largest: a counting sort. */
  private sort(scene: Scene, view: View, t: number[]): void {
    if (this.level.length < view.count) {
      this.level = new Uint8Array(view.count);
      this.order = new Uint32Array(view.count);
    }
    const counts = new Uint32Array(LEVELS + 1);
    const { points, values, radius } = scene;
    for (let k = 0; k < view.count; k++) {
      const i = view.start + k;
      const part = values
        ? Math.abs(values[i]!)
        : 0.5 +
          (0.5 * (t[6]! * points[3 * i]! + t[7]! * points[3 * i + 1]! + t[8]! * points[3 * i + 2]!)) / radius;
      const level = Math.max(0, Math.min(LEVELS - 1, Math.floor(part * LEVELS)));
      this.level[k] = level;
      counts[level + 1]! += 1;
    }
    for (let l = 0; l < LEVELS; l++) counts[l + 1]! += counts[l]!;
    for (let k = 0; k < view.count; k++) this.order[counts[this.level[k]!]!++] = view.start + k;
  }

  /** One point. Small views take whole pixels, the large one blends its edges. */
  private put(
    { half, cover }: { half: number; cover: Uint8Array },
    px: number,
    py: number,
    packed: number,
    clip: Clip,
    blend: boolean,
  ): void {
    const pixels = this.pixels!,
      width = this.image!.width,
      side = 2 * half + 1;
    const x0 = px - half < clip.left ? clip.left : px - half,
      x1 = px + half >= clip.right ? clip.right - 1 : px + half;
    const y0 = py - half < clip.top ? clip.top : py - half,
      y1 = py + half >= clip.bottom ? clip.bottom - 1 : py + half;
    for (let y = y0; y <= y1; y++) {
      let from = (y - py + half) * side + x0 - px + half,
        to = y * width + x0;
      for (let x = x0; x <= x1; x++, from++, to++) {
        const c = cover[from]!;
        if (c === 0) continue;
        const had = pixels[to]!;
        if (c === 255 || had === 0) pixels[to] = (packed & 0xffffff) | (c << 24);
        else if (blend) pixels[to] = over(had, packed, c);
        else if (c > 127) pixels[to] = (packed & 0xffffff) | (had & 0xff000000);
      }
    }
  }

  free(): void {
    this.scene = null;
    this.image = null;
    this.pixels = null;
  }
}

let soft: boolean | null = null;
/** Whether WebGL is there only in software, or not at all: then stamping is the quicker way. */
export function software(): boolean {
  if (soft !== null) return soft;
  const context = document.createElement("canvas").getContext("webgl2");
  const told = context?.getExtension("WEBGL_debug_renderer_info");
  const name = context && told ? String(context.getParameter(told.UNMASKED_RENDERER_WEBGL)) : "";
  soft = !context || /swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return soft;
}
