// Points by three.js: one canvas, one buffer, one draw call for each view inside its scissor.

import {
  BufferAttribute,
  BufferGeometry,
  Camera as Eye,
  DynamicDrawUsage,
  GLSL3,
  Points,
  RawShaderMaterial,
  Scene as Stage,
  Vector2,
  WebGLRenderer,
} from "three";
import { rotation, scaleOf, type Camera, type View } from "./camera";
import { base, GROWTH, NEGATIVE, POSITIVE, SMALLEST, zeroColour, type Painter, type Scene } from "./paint";

const vec3 = (colour: readonly number[]): string => colour.map((v) => v.toFixed(4)).join(", ");

const VERTEX = `
precision highp float;
in vec3 position; in float tint; in float value;
uniform mat3 turn; uniform vec2 scale; uniform vec2 pan; uniform float size; uniform float deep;
uniform bool live; uniform vec3 zero;
out vec3 colour; out float alpha;
vec3 viridis(float t) {
  const vec3 c0 = vec3(0.2777, 0.0054, 0.3340), c1 = vec3(0.1050, 1.4046, 1.3845);
  const vec3 c2 = vec3(-0.3308, 0.2148, 0.0950), c3 = vec3(-4.6342, -5.7991, -19.3324);
  const vec3 c4 = vec3(6.2282, 14.1799, 56.6905), c5 = vec3(4.7763, -13.7451, -65.3530);
  const vec3 c6 = vec3(-5.4354, 4.6458, 26.3124);
  return c0 + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * (c5 + t * c6)))));
}
void main() {
  vec3 p = turn * position;
  float a = min(abs(value), 1.0);
  gl_Position = vec4(p.xy * scale + pan, live ? 0.9 - 1.8 * a : clamp(-p.z * deep, -1.0, 1.0) * 0.9, 1.0);
  float near = 0.5 + 0.5 * clamp(p.z * deep, -1.0, 1.0);
  float grown = ${SMALLEST.toFixed(2)} + ${(GROWTH - SMALLEST).toFixed(2)} * sqrt(a);
  gl_PointSize = size * (live ? grown : 0.75 + 0.5 * near);
  vec3 far = value < 0.0 ? vec3(${vec3(NEGATIVE)}) : vec3(${vec3(POSITIVE)});
  vec3 signed_ = value == 0.0 ? zero : mix(zero, far, 0.25 + 0.75 * sqrt(a));
  colour = live ? signed_ : viridis(clamp(tint, 0.0, 1.0));
  alpha = live ? 1.0 : 0.55 + 0.45 * near;
}`;
const FRAGMENT = `
precision mediump float;
in vec3 colour; in float alpha; out vec4 shown;
void main() {
  float r = length(gl_PointCoord - 0.5) * 2.0;
  if (r > 1.0) discard;
  shown = vec4(colour, alpha * (1.0 - smoothstep(0.75, 1.0, r)));
}`;

export class WebGlPainter implements Painter {
  readonly kind = "webgl";
  private readonly renderer: WebGLRenderer;
  private readonly geometry = new BufferGeometry();
  private readonly material: RawShaderMaterial;
  private readonly stage = new Stage();
  private readonly eye = new Eye();
  private value: BufferAttribute | null = null;
  private radius = 1;
  private width = 0;
  private height = 0;

  constructor(canvas: HTMLCanvasElement, lost: () => void) {
    this.renderer = new WebGLRenderer({
      canvas,
      alpha: true,
      antialias: false,
      preserveDrawingBuffer: true, // large clouds come in parts
      powerPreference: "low-power",
    });
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      lost();
    });
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.renderer.autoClear = false;
    this.material = new RawShaderMaterial({
      glslVersion: GLSL3,
      vertexShader: VERTEX,
      fragmentShader: FRAGMENT,
      transparent: true,
      depthTest: true,
      depthWrite: true,
      uniforms: {
        turn: { value: [1, 0, 0, 0, 1, 0, 0, 0, 1] },
        scale: { value: new Vector2() },
        pan: { value: new Vector2() },
        size: { value: 1 },
        deep: { value: 1 },
        live: { value: false },
        zero: { value: [0.5, 0.5, 0.5] },
      },
    });
    const cloud = new Points(this.geometry, this.material);
    cloud.frustumCulled = false;
    this.stage.add(cloud);
    this.stage.matrixWorldAutoUpdate = false;
  }

  set(scene: Scene): void {
    this.radius = scene.radius;
    this.geometry.setAttribute("position", new BufferAttribute(scene.points, 3));
    this.geometry.setAttribute("tint", new BufferAttribute(scene.tint, 1));
    this.geometry.dispose(); // the buffers of the layout before
    this.value = new BufferAttribute(scene.values?.slice() ?? new Float32Array(scene.points.length / 3), 1);
    this.value.setUsage(DynamicDrawUsage);
    this.geometry.setAttribute("value", this.value);
    this.material.uniforms["live"]!.value = scene.values !== null;
  }

  setValues(values: Float32Array | null): void {
    this.material.uniforms["live"]!.value = values !== null;
    if (values && this.value?.array.length === values.length) {
      (this.value.array as Float32Array).set(values);
      this.value.needsUpdate = true;
    }
  }

  draw(views: View[], camera: Camera, width: number, height: number, dark: boolean, keep = false): void {
    if (width !== this.width || height !== this.height) {
      this.renderer.setSize(width, height, false);
      [this.width, this.height] = [width, height];
    }
    const u = this.material.uniforms;
    const t = rotation(camera);
    u["turn"]!.value = [t[0], t[3], t[6], t[1], t[4], t[7], t[2], t[5], t[8]];
    u["deep"]!.value = 1 / this.radius;
    u["zero"]!.value = zeroColour(dark);
    this.renderer.setScissorTest(false);
    if (!keep) this.renderer.clear();
    this.renderer.setScissorTest(true);
    const ratio = this.renderer.getPixelRatio();
    for (const view of views) {
      const scale = scaleOf(view, this.radius, camera.zoom);
      u["scale"]!.value.set((2 * scale) / view.width, (2 * scale) / view.height);
      u["pan"]!.value.set(
        view.big ? (2 * camera.panX) / view.width : 0,
        view.big ? (-2 * camera.panY) / view.height : 0,
      );
      u["size"]!.value = 2 * base(view) * ratio;
      this.material.uniformsNeedUpdate = true;
      const bottom = height - view.y - view.height;
      this.renderer.setViewport(view.x, bottom, view.width, view.height);
      this.renderer.setScissor(view.x, bottom, view.width, view.height);
      this.geometry.setDrawRange(view.start, view.count);
      this.renderer.render(this.stage, this.eye);
    }
  }

  free(): void {
    this.geometry.dispose();
    this.material.dispose();
    this.renderer.dispose();
    this.renderer.forceContextLoss();
  }
}
