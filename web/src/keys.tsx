// The keyboard: everything that a pointer can select can be selected with keys. `?` shows this table.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useApp, type App } from "./app";
import { SCREENS } from "./selection";
import { layersHere } from "./rail";
import { Terms } from "./terms";
import { startTour } from "./tour";

export const KEYS: [string, string][] = [
  ["1 … 8", "screens: Study, Depth, Compare, Map, Neurons, Text, Work, Report"],
  ["↑ ↓", "layer"],
  ["← →", "token"],
  ["Home End", "first, last layer"],
  ["[ ]", "neuron"],
  ["a b", "next run A, next run B"],
  ["x", "swap A and B"],
  ["m", "MLP or attention (Neurons)"],
  ["t", "dark or light"],
  ["Esc", "close, or let go of the neuron"],
  ["?", "this table"],
];

const move = (x: number, by: number, count: number): number => Math.max(0, Math.min(count - 1, x + by));

export function press(app: App, key: string): boolean {
  const s = app.selection.value;
  const names = app.runs.value.map((r) => r.key);
  const { layers } = layersHere(app);
  const tokens = app.strip.value?.tokens.length ?? 0;
  const nextLayer = (by: number) => {
    const at = layers.findIndex((l) => l >= s.layer);
    const next = layers[move(at < 0 ? layers.length - 1 : at, by, layers.length)];
    if (next !== undefined) app.select({ layer: next });
  };
  if (/^[1-8]$/.test(key)) app.select({ screen: SCREENS[Number(key) - 1]! });
  else if (key === "ArrowDown") nextLayer(1);
  else if (key === "ArrowUp") nextLayer(-1);
  else if (key === "Home") nextLayer(-1e6);
  else if (key === "End") nextLayer(1e6);
  else if (key === "ArrowRight") app.select({ token: move(s.token, 1, Math.max(1, tokens)) });
  else if (key === "ArrowLeft") app.select({ token: move(s.token, -1, Math.max(1, tokens)) });
  else if (key === "]") app.select({ neuron: (s.neuron ?? -1) + 1 });
  else if (key === "[") app.select({ neuron: Math.max(0, (s.neuron ?? 1) - 1) });
  else if (key === "a" && names.length) app.select({ a: names[(names.indexOf(s.a) + 1) % names.length]! });
  else if (key === "b" && names.length > 1) {
    const others = ["", ...names.filter((n) => n !== s.a)];
    app.select({ b: others[(others.indexOf(s.b) + 1) % others.length]! });
  } else if (key === "x" && s.b) app.select({ a: s.b, b: s.a });
  else if (key === "m") app.select({ family: s.family === "mlp.act" ? "attn.head" : "mlp.act" });
  else if (key === "t") app.theme.value = app.theme.value === "dark" ? "light" : "dark";
  else if (key === "?") app.help.value = !app.help.value;
  else if (key === "Escape") {
    if (app.help.value) app.help.value = false;
    else app.select({ neuron: null });
  } else return false;
  return true;
}

/** Keys act on the whole page of the app, and in a report or notebook only inside the view. */
export function useKeys(app: App): void {
  useEffect(() => {
    const heard = (event: KeyboardEvent) => {
      const on = event.target as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (/^(INPUT|TEXTAREA|SELECT)$/.test(on.tagName) && (on as HTMLInputElement).type !== "range") {
        if (event.key === "Escape") on.blur();
        return;
      }
      if (
        /^(ArrowUp|ArrowDown|ArrowLeft|ArrowRight|Home|End)$/.test(event.key) &&
        on.closest("[data-own-keys]")
      )
        return;
      if (app.source.shell !== "app" && !on.closest(".tx")) return;
      if (press(app, event.key)) event.preventDefault();
    };
    document.addEventListener("keydown", heard);
    return () => document.removeEventListener("keydown", heard);
  }, []);
}

export function Help(): JSX.Element {
  const app = useApp();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} class="tx-help" aria-label="Keyboard" onClose={() => (app.help.value = false)}>
      <h2>Keyboard</h2>
      <table>
        <tbody>
          {KEYS.map(([keys, what]) => (
            <tr key={keys}>
              <th scope="row">{keys.split(" ").map((k) => (k === "…" ? " … " : <kbd key={k}>{k}</kbd>))}</th>
              <td>{what}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="tx-quiet">
        Hatched: not computed, which is not zero. Dotted: the null. Bands: 95 % intervals by leaving out
        groups of texts.
      </p>
      <Terms />
      {app.source.shell === "app" && (
        <button type="button" onClick={() => startTour(app)}>
          Tour of six steps
        </button>
      )}{" "}
      <button type="button" onClick={() => (app.help.value = false)}>
        Close
      </button>
    </dialog>
  );
}
