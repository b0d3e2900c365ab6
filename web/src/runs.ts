// The runs of a catalogue: trained ones first, controls after, and what a reader calls them.

import type { Catalog, Run, Store } from "./source";

/** A capture; `key` is its run's name, with its texts where one name was captured on several. */
export interface Listed extends Run {
  key: string;
  store?: Store;
}

/** Every capture, of stores and of studies: trained before controls, then by studies and by sites. */
export function capturesOf(c: Catalog): Listed[] {
  const found = new Map<string, Run & { store?: Store }>();
  for (const store of c.stores) found.set(store.fingerprint, { ...store, store });
  for (const study of c.studies)
    for (const run of study.runs) if (!found.has(run.fingerprint)) found.set(run.fingerprint, run);
  const texts = new Map<string, Set<string>>();
  for (const run of found.values()) texts.set(run.name, (texts.get(run.name) ?? new Set()).add(run.texts));
  const key = (run: Run) => (texts.get(run.name)!.size > 1 ? `${run.name} · ${run.texts}` : run.name);
  const used = (run: Run) =>
    c.studies.filter((s) => s.runs.some((r) => r.fingerprint === run.fingerprint)).length;
  const sized = (run: Run) => Object.values(run.families).reduce((sum, f) => sum + f.sites, 0);
  const before = (p: Run, q: Run): number =>
    Number(p.control !== "") - Number(q.control !== "") || used(q) - used(p) || sized(q) - sized(p);
  return [...found.values()].sort(before).map((run) => ({ ...run, key: key(run) }));
}

/** One capture for each key: the first of it. */
export function runsOf(captures: Listed[]): Listed[] {
  const found = new Map<string, Listed>();
  for (const run of captures) if (!found.has(run.key)) found.set(run.key, run);
  return [...found.values()];
}
