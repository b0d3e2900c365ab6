// One camera for all small views: turned together, so that layers can be compared. Orthographic: equal
// distances stay equal.

export interface Camera {
  yaw: number;
  pitch: number;
  zoom: number;
  panX: number;
  panY: number;
}
export const START: Camera = { yaw: 0, pitch: 0, zoom: 1, panX: 0, panY: 0 };

/** Rotation as nine numbers, row by row: about the vertical, then about the horizontal axis. */
export function rotation(camera: Camera): number[] {
  const [cy, sy, cp, sp] = [
    Math.cos(camera.yaw),
    Math.sin(camera.yaw),
    Math.cos(camera.pitch),
    Math.sin(camera.pitch),
  ];
  return [cy, 0, sy, sp * sy, cp, -sp * cy, -cp * sy, sp, cp * cy];
}

export interface View {
  x: number;
  y: number;
  width: number;
  height: number;
  start: number;
  count: number;
  key: string;
  big: boolean;
  /** Points it would have at rest, where fewer are drawn. */
  of?: number;
}

/** Pixels per unit in a view: the largest radius fits with a margin. */
export function scaleOf(view: View, radius: number, zoom: number): number {
  return (Math.min(view.width, view.height) * 0.46 * (view.big ? zoom : 1)) / radius;
}

/** Where point `i` lies in a view, in pixels of the stage, and its depth. */
export function project(
  points: Float32Array,
  i: number,
  view: View,
  turn: number[],
  camera: Camera,
  radius: number,
): [number, number, number] {
  const [x, y, z] = [points[3 * i]!, points[3 * i + 1]!, points[3 * i + 2]!];
  const scale = scaleOf(view, radius, camera.zoom);
  const [dx, dy] = view.big ? [camera.panX, camera.panY] : [0, 0];
  return [
    view.x + view.width / 2 + dx + scale * (turn[0]! * x + turn[1]! * y + turn[2]! * z),
    view.y + view.height / 2 + dy - scale * (turn[3]! * x + turn[4]! * y + turn[5]! * z),
    turn[6]! * x + turn[7]! * y + turn[8]! * z,
  ];
}

/** The point under the pointer, if one is close: the nearest to the eye among those within reach. */
export function pick(
  points: Float32Array,
  view: View,
  turn: number[],
  camera: Camera,
  radius: number,
  px: number,
  py: number,
  reach = 9,
): number | null {
  let best: number | null = null,
    least = reach * reach;
  for (let i = view.start; i < view.start + view.count; i++) {
    const [x, y] = project(points, i, view, turn, camera, radius);
    const d = (x - px) ** 2 + (y - py) ** 2;
    if (d < least) {
      least = d;
      best = i;
    }
  }
  return best;
}

/** Positions of any dimension as triples about the centre of each block; the radius that holds them all. */
export function spread(
  points: Float32Array,
  dim: number,
  blocks: { start: number; count: number }[],
): { points: Float32Array; radius: number } {
  const out = new Float32Array((points.length / dim) * 3);
  let radius = 1e-9;
  for (const { start, count } of blocks) {
    const centre = [0, 0, 0];
    for (let i = start; i < start + count; i++)
      for (let k = 0; k < Math.min(3, dim); k++) centre[k]! += points[i * dim + k]! / count;
    for (let i = start; i < start + count; i++) {
      let r = 0;
      for (let k = 0; k < Math.min(3, dim); k++) {
        const v = points[i * dim + k]! - centre[k]!;
        out[3 * i + k] = v;
        r += v * v;
      }
      radius = Math.max(radius, Math.sqrt(r));
    }
  }
  return { points: out, radius };
}

/** A square of points in order of index: where nothing was laid out, and said so. */
export function lattice(count: number): Float32Array {
  const side = Math.ceil(Math.sqrt(count));
  const out = new Float32Array(count * 3);
  for (let i = 0; i < count; i++) {
    out[3 * i] = ((i % side) + 0.5) / side - 0.5;
    out[3 * i + 1] = 0.5 - (Math.floor(i / side) + 0.5) / side;
  }
  return out;
}
