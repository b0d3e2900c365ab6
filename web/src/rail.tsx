// The layer rail: every layer of the run on show, jumps and ends of blocks marked, one selected.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useApp, useTable, type App } from "./app";
import { depthKind } from "./kinds";
import { layerOf, parse } from "./sites";
import type { Screen } from "./selection";
import { str, type Row } from "./table";

/** What the layers of a screen are read from: its study's own rows. */
const READ: Partial<Record<Screen, [string, string]>> = {
  depth: ["drift", "adjacent"],
  compare: ["compare", "curves"],
  map: ["manifold", "map"],
};

/** Family and layers of the screen on show: those its study has, else those of run A. */
export function layersHere(app: App): { family: string; layers: number[] } {
  const s = app.shown.value;
  const ordered = (layers: number[]) => [...new Set(layers)].sort((p, q) => p - q);
  if (s.screen === "neurons" && app.drawn.value?.length) {
    return { family: parse(app.drawn.value[0]!).family, layers: ordered(app.drawn.value.map(layerOf)) };
  }
  const kind = s.screen === "depth" ? depthKind(app) : "";
  const read: [string, string] | undefined =
    kind === "tokens" ? ["tokens", "within"] : kind === "evolve" ? ["evolve", "evolution"] : READ[s.screen];
  const study = read ? app.study(read[0]) : null;
  const loaded = study ? app.table(study, read![1]).value : null;
  if (loaded?.state === "ready" && loaded.value?.rows.length) {
    const sites = [
      ...loaded.value.values("site"),
      ...(loaded.value.columns.includes("site2") ? loaded.value.values("site2") : []),
    ];
    return { family: parse(sites[0]!).family, layers: ordered(sites.map(layerOf)) };
  }
  const own = app.run(app.selection.value.a);
  const families = (study?.runs.find((r) => r.name === s.a) ?? study?.runs[0] ?? own)?.families ?? {};
  const neurons = s.family === "attn.head" ? "attn.head" : "mlp.act";
  const family =
    s.screen === "neurons" ? neurons : families[s.family] ? s.family : (Object.keys(families)[0] ?? s.family);
  const longest = app.captures.value
    .flatMap((r) => (r.name === s.a || s.screen === "neurons" ? [r.families[family]?.layers ?? []] : []))
    .sort((p, q) => q.length - p.length)[0];
  return { family, layers: ordered(longest ?? families[family]?.layers ?? []) };
}

/** A change layer in words: what it is, and whether a control has it too. */
function changed(row: Row): string {
  const kind = row["kind"] === "block" ? "a block ends" : "jump";
  const control = row["beyond_control"] === false ? ", a control has it too" : "";
  return `${kind} (${str(row["normalise"])} points${control})`;
}

export function Rail(): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const { family, layers } = layersHere(app);
  const drift = app.study("drift");
  const changes = useTable(drift, "changes");
  const marked = new Map<number, string>();
  const shown =
    s.screen === "depth" ? depthKind(app) === "drift" : s.screen === "study" || s.screen === "compare";
  if (shown && changes.state === "ready" && changes.value && family === "resid") {
    for (const row of changes.value.where({ run: s.a, status: "ok" })) {
      const layer = layerOf(str(row["site"]));
      marked.set(layer, [marked.get(layer), changed(row)].filter(Boolean).join("; "));
    }
  }
  const list = useRef<HTMLDivElement>(null);
  const at = layers.includes(s.layer) ? s.layer : null;
  useEffect(() => {
    const on = list.current?.querySelector<HTMLElement>("[aria-checked=true]");
    if (on && list.current) {
      const top = on.offsetTop - list.current.offsetTop;
      if (top < list.current.scrollTop || top > list.current.scrollTop + list.current.clientHeight - 24)
        list.current.scrollTop = top - list.current.clientHeight / 2;
      list.current.scrollLeft = on.offsetLeft - list.current.offsetLeft - list.current.clientWidth / 2;
    }
  }, [at, s.screen]);
  return (
    <aside class="tx-rail">
      <div
        class="tx-rail-head"
        title={
          family === "resid" ? "resid.0 enters block 0, resid.l leaves the l-th block" : `blocks of ${family}`
        }
      >
        {family === "resid" ? "layer" : "block"}
      </div>
      <div class="tx-layers" ref={list} role="radiogroup" aria-label="Layer">
        {layers.map((layer) => (
          <button
            key={layer}
            type="button"
            role="radio"
            aria-checked={layer === at}
            tabIndex={layer === at || (at === null && layer === layers[0]) ? 0 : -1}
            aria-label={`layer ${layer}${marked.has(layer) ? `, ${marked.get(layer)}` : ""}`}
            title={marked.get(layer)}
            onClick={() => app.select({ layer })}
          >
            <span class="tx-tick" />
            {layer}
            {marked.has(layer) && (
              <span class="tx-change" aria-hidden="true">
                ◆
              </span>
            )}
          </button>
        ))}
        {!layers.length && <span class="tx-quiet">–</span>}
      </div>
    </aside>
  );
}
