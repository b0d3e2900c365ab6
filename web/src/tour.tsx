// A tour of six steps, on whatever results are here: each shows a screen and says what to look at.

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useApp, type App } from "./app";
import type { Selection } from "./selection";

interface Step {
  title: string;
  says: string;
  to: Partial<Selection>;
  /** What is framed. */
  at: string;
}
const STEPS: Step[] = [
  {
    title: "What was found",
    says: "Each study answers one question: a sentence with its numbers, and the figure it is read from.",
    to: { screen: "study" },
    at: ".tx-cards",
  },
  {
    title: "A number and its null",
    says:
      "The curve is how far a layer moves; dotted, its null: two halves of the texts at one layer. What " +
      "lies above is movement. Dashed is a control with random weights.",
    to: { screen: "depth", view: { depth: "drift" } },
    at: "[data-panel=drift]",
  },
  {
    title: "Layers on the left",
    says: "Choose one with ↑ and ↓: every view follows. ◆ marks a jump. Dotted words explain themselves.",
    to: { screen: "depth" },
    at: ".tx-rail",
  },
  {
    title: "The text behind a point",
    says: "Every point is a token: point at it to read it. Neighbours are those of the original space.",
    to: { screen: "text" },
    at: ".tx-main",
  },
  {
    title: "Start your own",
    says: "Choose a model, texts and a study. Time, bytes and the command are shown before it runs.",
    to: { screen: "work" },
    at: ".tx-main",
  },
  {
    title: "Take it along",
    says: "Pin any view: it comes here with its origin, to export as a page, SVG, PDF or notebook cell.",
    to: { screen: "report" },
    at: ".tx-main",
  },
];
const KEY = "transect-tour";
const step = signal<number | null>(null);

export const taken = (): boolean => {
  try {
    return localStorage.getItem(KEY) !== null;
  } catch {
    return true;
  }
};

export function startTour(app: App): void {
  app.help.value = false;
  go(app, 0);
}

function go(app: App, k: number): void {
  if (k >= STEPS.length) {
    end();
    app.select({ screen: "study" }, false);
    return;
  }
  step.value = k;
  app.select(STEPS[k]!.to, false);
}

function end(): void {
  step.value = null;
  try {
    localStorage.setItem(KEY, "1");
  } catch {
    /* offered again next time */
  }
}

export function Tour(): JSX.Element | null {
  const app = useApp();
  const k = step.value;
  const next = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (k === null) return;
    next.current?.focus();
    const framed = document.querySelector(STEPS[k]!.at);
    framed?.classList.add("tx-framed");
    return () => framed?.classList.remove("tx-framed");
  });
  if (k === null) return null;
  const s = STEPS[k]!;
  return (
    <section
      class="tx-tour"
      role="dialog"
      aria-label={`Tour, step ${k + 1} of ${STEPS.length}`}
      onKeyDown={(e) => {
        if (e.key !== "Escape") return;
        end();
        e.stopPropagation();
      }}
    >
      <b>
        {k + 1}/{STEPS.length} {s.title}
      </b>
      <p>{s.says}</p>
      <div class="tx-actions">
        <button type="button" disabled={k === 0} onClick={() => go(app, k - 1)}>
          back
        </button>
        <button type="button" onClick={end}>
          leave
        </button>
        <button type="button" class="tx-go" ref={next} onClick={() => go(app, k + 1)}>
          {k + 1 === STEPS.length ? "done" : "next"}
        </button>
      </div>
    </section>
  );
}
