// Neurons placed: by a study's map, or in order of index where there is none.

import type { Positions, Study } from "../source";
import { layerOf } from "../sites";
import { told, type Row } from "../table";
import { lattice, spread } from "./camera";
import type { Block } from "./stage";

export const FAMILIES: Record<string, string> = { "mlp.act": "MLP", "attn.head": "attention" };

export interface Layout {
  blocks: Block[];
  points: Float32Array;
  radius: number;
  dim: number;
  tint: Float32Array;
  study: Study | null;
}

export function layoutOf(p: Positions, study: Study | null): Layout {
  const sites = [...p.sites].sort((a, b) => layerOf(a.site) - layerOf(b.site));
  const { points, radius } = spread(p.points, p.dim, sites);
  const tint = new Float32Array(points.length / 3);
  for (const b of sites)
    for (let i = b.start; i < b.start + b.count; i++)
      tint[i] = 0.5 + 0.5 * (points[3 * i + (p.dim > 2 ? 2 : 1)]! / radius);
  return { blocks: sites, points, radius, dim: p.dim, tint, study };
}

/** No map: every block in order of index, which says nothing about what neurons do. */
export function indexLayout(sites: { site: string; count: number }[]): Layout {
  let at = 0;
  const blocks = sites.map((s) => {
    const start = at;
    at += s.count;
    return { site: s.site, start, count: s.count };
  });
  const points = new Float32Array(at * 3);
  for (const b of blocks) points.set(lattice(b.count), 3 * b.start);
  return { blocks, points, radius: 0.75, dim: 2, tint: new Float32Array(at).fill(0.5), study: null };
}

export const stressLine = (fit?: Row): string =>
  fit
    ? `Map: stress ${told(fit["value"])} (texts permuted by neuron ${told(fit["null"])}); ` +
      "halves of the texts " +
      `agree to ${told(fit["reproducibility"])}; n = ${told(fit["n"])} tokens, ${told(fit["n_texts"])} texts`
    : "";
