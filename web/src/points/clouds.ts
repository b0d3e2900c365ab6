// A cloud of tokens, as the worker packs it: for each run its points, and the text and position of each.
//
// Points are kept in a random order that is the same for every run: the first m of them are a fair sample,
// which is what is drawn while the camera moves.

export interface CloudRun {
  run: string;
  n: number;
  all: number;
  share: number[];
  turned: boolean;
  texts: number;
  labels: Record<string, { values: string[]; codes: number[] }>;
  start: number;
}
export interface Cloud {
  site: string;
  unit: boolean;
  runs: CloudRun[];
  points: Float32Array;
  texts: Int32Array;
  positions: Int32Array;
  radius: number;
}

/** A permutation of n numbers that is always the same (mulberry32). */
export function shuffled(n: number, seed = 7): Uint32Array {
  const out = Uint32Array.from({ length: n }, (_, k) => k);
  let state = seed;
  for (let k = n - 1; k > 0; k--) {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    const at = ((t ^ (t >>> 14)) >>> 0) % (k + 1);
    [out[k], out[at]] = [out[at]!, out[k]!];
  }
  return out;
}

/** The radius that holds all but a few of the points: one far token does not shrink the rest. */
export function radiusOf(points: Float32Array, share = 0.995): number {
  const step = Math.max(1, Math.floor(points.length / 3 / 20_000));
  const far: number[] = [];
  for (let i = 0; i < points.length / 3; i += step)
    far.push(Math.hypot(points[3 * i]!, points[3 * i + 1]!, points[3 * i + 2]!));
  far.sort((p, q) => p - q);
  return Math.max(1e-9, far[Math.min(far.length - 1, Math.floor(share * far.length))] ?? 1);
}

export function unpackCloud(bytes: ArrayBuffer): Cloud {
  const length = new DataView(bytes).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
  const runs: CloudRun[] = [];
  const total = header.runs.reduce((sum: number, r: CloudRun) => sum + r.n, 0);
  const [points, texts, positions] = [
    new Float32Array(3 * total),
    new Int32Array(total),
    new Int32Array(total),
  ];
  let at = 4 + length,
    start = 0;
  for (const run of header.runs as CloudRun[]) {
    const order = shuffled(run.n);
    const xyz = new Float32Array(bytes, at, 3 * run.n);
    const text = new Int32Array(bytes, at + 12 * run.n, run.n);
    const position = new Int32Array(bytes, at + 16 * run.n, run.n);
    for (let k = 0; k < run.n; k++) {
      const from = order[k]!,
        to = start + k;
      points[3 * to] = xyz[3 * from]!;
      points[3 * to + 1] = xyz[3 * from + 1]!;
      points[3 * to + 2] = xyz[3 * from + 2]!;
      texts[to] = text[from]!;
      positions[to] = position[from]!;
    }
    runs.push({ ...run, start });
    at += 20 * run.n;
    start += run.n;
  }
  return { ...header, runs, points, texts, positions, radius: radiusOf(points) };
}

/** Where a token lies in a run, or −1. */
export function indexOf(cloud: Cloud, run: CloudRun, text: number, position: number): number {
  for (let i = run.start; i < run.start + run.n; i++)
    if (cloud.texts[i] === text && cloud.positions[i] === position) return i;
  return -1;
}

export interface Lit {
  text: number;
  position: number;
}
/** 1 for what is lit, 0 for the rest: tokens of a list, texts of a label's value. Null where nothing is. */
export function litValues(cloud: Cloud, hits: Lit[], label: string, value: string): Float32Array | null {
  if (!hits.length && !(label && value)) return null;
  const out = new Float32Array(cloud.texts.length);
  const wanted = new Set(hits.map((h) => h.text * 1e6 + h.position));
  for (const run of cloud.runs) {
    const told = run.labels[label];
    const code = told ? told.values.indexOf(value) : -1;
    for (let i = run.start; i < run.start + run.n; i++) {
      const own = wanted.has(cloud.texts[i]! * 1e6 + cloud.positions[i]!);
      const same = code >= 0 && told!.codes[cloud.texts[i]!] === code;
      out[i] = own ? 1 : same && !hits.length ? 0.35 : 0;
    }
  }
  return out;
}

/** Points drawn of n while the camera moves: as many as the last frame's time allows. */
export function budget(n: number, drawn: number, ms: number, wanted = 24): number {
  return Math.max(2000, Math.min(n, Math.round((drawn * wanted) / Math.max(1, ms))));
}

/** 0 … 1 for each point: the values of a label in order, or the position in its text. */
export function tints(cloud: Cloud, label: string): Float32Array {
  const out = new Float32Array(cloud.texts.length);
  for (const run of cloud.runs) {
    const told = run.labels[label];
    const most = told ? Math.max(1, told.values.length - 1) : 64;
    for (let i = run.start; i < run.start + run.n; i++)
      out[i] = told ? told.codes[cloud.texts[i]!]! / most : Math.min(1, cloud.positions[i]! / most);
  }
  return out;
}
