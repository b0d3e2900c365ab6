// Activations to sizes: area in proportion to |a|, against a scale that is said. Zero stays a dot of its own
// colour.

export type Scaling = "token" | "run";

/** For each block the level below which 99.5 % of |a| lie, never zero: the smallest of the few largest. */
export function levels(values: Float32Array, blocks: { start: number; count: number }[]): Float32Array {
  const out = new Float32Array(blocks.length);
  blocks.forEach(({ start, count }, k) => {
    const most = count - Math.min(count - 1, Math.floor(0.995 * count));
    const top = new Float32Array(most); // the largest so far, ascending
    for (let i = start; i < start + count; i++) {
      const a = Math.abs(values[i]!);
      if (!(a > top[0]!)) continue;
      let at = 0;
      while (at + 1 < most && top[at + 1]! < a) {
        top[at] = top[at + 1]!;
        at++;
      }
      top[at] = a;
    }
    out[k] = Math.max(top[0]!, 1e-12);
  });
  return out;
}

/** |a| over its block's level: what a shader draws. Signs stay; beyond the level everything is as large. */
export function relative(
  values: Float32Array,
  blocks: { start: number; count: number }[],
  level: Float32Array,
  into: Float32Array,
): void {
  blocks.forEach(({ start, count }, k) => {
    const one = 1 / level[k]!;
    for (let i = start; i < start + count; i++) into[i] = values[i]! * one;
  });
}

/** Larger of two sets of levels: the scale of a whole run grows and never shrinks. */
export function larger(p: Float32Array | null, q: Float32Array): Float32Array {
  return p === null ? q : p.map((v, k) => Math.max(v, q[k]!));
}
