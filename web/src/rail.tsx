// The layer rail: every layer of the run on show, candidate change layers marked, one selected.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useApp, useTable, type App } from "./app";
import { layerOf, parse } from "./sites";
import { str } from "./table";

/** Layers of the screen on show: those its study has, else those of run A. */
export function layersHere(app: App): number[] {
  const s = app.selection.value;
  const run = app.runs.value.find((r) => r.name === s.a);
  if (s.screen === "map") {
    const given = app.study("map" in s.view ? "map" : "manifold");
    const loaded = given ? app.table(given, "map").value : null;
    if (loaded?.state === "ready" && loaded.value) {
      return [...new Set(loaded.value.values("site").map(layerOf))].sort((p, q) => p - q);
    }
  }
  const sites = run?.store?.sites.filter((x) => parse(x).family === s.family).map(layerOf);
  if (sites?.length) return sites.sort((p, q) => p - q);
  const count = run?.families[s.family]?.sites ?? Math.max(0, ...Object.values(run?.families ?? {}).map((f) => f.sites));
  return Array.from({ length: count }, (_, k) => k);
}

export function Rail(): JSX.Element {
  const app = useApp();
  const s = app.selection.value;
  const layers = layersHere(app);
  const drift = app.study("drift");
  const changes = useTable(drift, "changes");
  const marked = new Map<number, string>();
  if (changes.state === "ready" && changes.value && s.family === "resid") {
    for (const row of changes.value.where({ run: s.a, status: "ok" })) marked.set(layerOf(str(row["site"])), `candidate change layer (${str(row["normalise"])} points)`);
  }
  const list = useRef<HTMLDivElement>(null);
  const at = layers.includes(s.layer) ? s.layer : null;
  useEffect(() => {
    const on = list.current?.querySelector<HTMLElement>("[aria-checked=true]");
    if (on && list.current) {
      const top = on.offsetTop - list.current.offsetTop;
      if (top < list.current.scrollTop || top > list.current.scrollTop + list.current.clientHeight - 24) list.current.scrollTop = top - list.current.clientHeight / 2;
    }
  }, [at, s.screen]);
  return (
    <aside class="tx-rail">
      <div class="tx-rail-head" title={s.family === "resid" ? "resid.0 enters block 0, resid.l leaves the l-th block" : `blocks of ${s.family}`}>{s.family === "resid" ? "layer" : "block"}</div>
      <div class="tx-layers" ref={list} role="radiogroup" aria-label="Layer">
        {layers.map((layer) => (
          <button key={layer} type="button" role="radio" aria-checked={layer === at} tabIndex={layer === at || (at === null && layer === layers[0]) ? 0 : -1}
            aria-label={`layer ${layer}${marked.has(layer) ? `, ${marked.get(layer)}` : ""}`} title={marked.get(layer)}
            onClick={() => app.select({ layer })}>
            <span class="tx-tick" />{layer}{marked.has(layer) && <span class="tx-change" aria-hidden="true">◆</span>}
          </button>
        ))}
        {!layers.length && <span class="tx-quiet">–</span>}
      </div>
    </aside>
  );
}
