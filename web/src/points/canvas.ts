// The same views on a 2-D canvas, for machines without WebGL and after a lost context: slower, never blank.

import { viridis } from "../colours";
import { project, rotation, type Camera, type View } from "./camera";
import { base, grown, NEGATIVE, POSITIVE, zeroColour, type Painter, type Scene } from "./paint";

const css = (c: [number, number, number]): string => `rgb(${c.map((v) => Math.round(v * 255)).join(",")})`;

export class CanvasPainter implements Painter {
  readonly kind = "canvas";
  private scene: Scene | null = null;
  private readonly context: CanvasRenderingContext2D;
  private readonly shades = Array.from({ length: 64 }, (_, k) => viridis(k / 63));

  constructor(private readonly canvas: HTMLCanvasElement) { this.context = canvas.getContext("2d")!; }

  set(scene: Scene): void { this.scene = scene; }
  setValues(values: Float32Array | null): void { if (this.scene) this.scene = { ...this.scene, values }; }

  draw(views: View[], camera: Camera, width: number, height: number, dark: boolean): void {
    const ratio = Math.min(devicePixelRatio, 2);
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const c = this.context;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    const scene = this.scene;
    if (!scene) return;
    const turn = rotation(camera);
    const zero = css(zeroColour(dark)), negative = css(NEGATIVE), positive = css(POSITIVE);
    for (const view of views) {
      c.save();
      c.beginPath();
      c.rect(view.x, view.y, view.width, view.height);
      c.clip();
      const small = base(view);
      for (let i = view.start; i < view.start + view.count; i++) {
        const [x, y] = project(scene.points, i, view, turn, camera, scene.radius);
        const a = scene.values?.[i];
        const r = a === undefined ? small : small * grown(a);
        c.fillStyle = a === undefined ? this.shades[Math.round(63 * Math.min(1, Math.max(0, scene.tint[i]!)))]! : a === 0 ? zero : a < 0 ? negative : positive;
        if (r < 1.6) c.fillRect(x - r, y - r, 2 * r, 2 * r);
        else { c.beginPath(); c.arc(x, y, r, 0, 7); c.fill(); }
      }
      c.restore();
    }
  }

  free(): void { this.scene = null; }
}
