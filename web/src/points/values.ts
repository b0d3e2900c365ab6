// Activations to sizes: area in proportion to |a|, against a scale that is said. Zero stays a dot of its own colour.

export type Scaling = "token" | "run";

/** For each block the level below which 99.5 % of |a| lie, and never zero. */
export function levels(values: Float32Array, blocks: { start: number; count: number }[]): Float32Array {
  const out = new Float32Array(blocks.length);
  blocks.forEach(({ start, count }, k) => {
    const sizes = new Float32Array(count);
    for (let i = 0; i < count; i++) sizes[i] = Math.abs(values[start + i]!);
    sizes.sort();
    out[k] = Math.max(sizes[Math.min(count - 1, Math.floor(0.995 * count))]!, 1e-12);
  });
  return out;
}

/** |a| over its block's level: what a shader draws. Signs stay; beyond the level everything is as large. */
export function relative(values: Float32Array, blocks: { start: number; count: number }[], level: Float32Array, into: Float32Array): void {
  blocks.forEach(({ start, count }, k) => {
    const one = 1 / level[k]!;
    for (let i = start; i < start + count; i++) into[i] = values[i]! * one;
  });
}

/** Larger of two sets of levels: the scale of a whole run grows and never shrinks. */
export function larger(p: Float32Array | null, q: Float32Array): Float32Array {
  return p === null ? q : p.map((v, k) => Math.max(v, q[k]!));
}
