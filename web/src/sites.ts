// Site names: `resid.12`, `mlp.3.act`, `attn.3.head`, with `encoder.` or `decoder.` in front where there are
// both.

export interface Site {
  family: string;
  layer: number | null;
}

export function parse(site: string): Site {
  const parts = site.split(".");
  const layer = parts.find((p) => /^\d+$/.test(p));
  return {
    family: parts.filter((p) => !/^\d+$/.test(p)).join("."),
    layer: layer === undefined ? null : Number(layer),
  };
}

export const layerOf = (site: string): number => parse(site).layer ?? 0;

/** The site of a family at a layer, as it is spelled. */
export function siteAt(family: string, layer: number): string {
  const parts = family.split(".");
  const at = parts.findIndex((p) => p === "resid" || p === "mlp" || p === "attn");
  if (at < 0) return family;
  return [...parts.slice(0, at + 1), String(layer), ...parts.slice(at + 1)].join(".");
}

export const byDepth = (a: string, b: string): number => layerOf(a) - layerOf(b);
