// The frame around every screen: runs and screens above, layers left, tokens below, help and messages over
// it.

import { effect } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { App, Context, useApp } from "./app";
import { studyHere } from "./kinds";
import { Help, useKeys } from "./keys";
import { Failure } from "./panel";
import { Rail } from "./rail";
import { Compare } from "./screens/compare";
import { Depth } from "./screens/depth";
import { MapScreen } from "./screens/map";
import { Neurons } from "./screens/neurons";
import { Report } from "./screens/report";
import { StudyScreen } from "./screens/study";
import { TextScreen } from "./screens/text";
import { WorkScreen } from "./screens/work";
import { SCREENS, type Screen } from "./selection";
import { Strip } from "./strip";
import { Note } from "./terms";
import { Tour } from "./tour";

const VIEWS: Record<Screen, () => JSX.Element> = {
  study: StudyScreen,
  depth: Depth,
  compare: Compare,
  map: MapScreen,
  neurons: Neurons,
  text: TextScreen,
  work: WorkScreen,
  report: Report,
};
const NAMES: Record<Screen, string> = {
  study: "Study",
  depth: "Depth",
  compare: "Compare",
  map: "Map",
  neurons: "Neurons",
  text: "Text",
  work: "Work",
  report: "Report",
};

export function Shell({ app }: { app: App }): JSX.Element {
  const root = useRef<HTMLDivElement>(null);
  useTheme(app, root);
  return (
    <Context.Provider value={app}>
      <div class="tx-frame" ref={root} tabIndex={-1}>
        <Frame />
      </div>
    </Context.Provider>
  );
}

function Frame(): JSX.Element {
  const app = useApp();
  const s = app.selection.value;
  const View = VIEWS[s.screen];
  useKeys(app);
  useEffect(() => {
    if (app.source.shell === "app") document.title = `${NAMES[s.screen]} · Transect`;
  }, [s.screen]);
  const catalog = app.catalog.value;
  return (
    <>
      <Top />
      <Rail />
      <main class="tx-main" id="tx-main" tabIndex={-1} aria-label={NAMES[s.screen]}>
        {catalog.state === "loading" && (
          <div class="tx-state" role="status">
            <span class="tx-pulse" />
            opening …
          </div>
        )}
        {catalog.state === "failed" && <Failure message={catalog.message} fix={catalog.fix} />}
        {catalog.state === "ready" && <View key={s.screen} />}
      </main>
      <Strip />
      <div class="tx-said" role="status" aria-live="polite">
        {app.said.value}
      </div>
      <Note />
      <Tour />
      {app.help.value && <Help />}
    </>
  );
}

function Top(): JSX.Element {
  const app = useApp();
  const s = app.selection.value;
  const runs = app.runs.value;
  const pick = (which: "a" | "b") => (
    <label class="tx-run">
      <span
        class="tx-swatch"
        style={{ background: s[which] ? app.colour(app.shown.value[which], studyHere(app)) : "transparent" }}
        aria-hidden="true"
      />
      <span class="tx-letter">{which.toUpperCase()}</span>
      <select
        value={s[which]}
        aria-label={`Run ${which.toUpperCase()}`}
        onChange={(e) => app.select({ [which]: (e.currentTarget as HTMLSelectElement).value })}
      >
        {which === "b" && <option value="">none</option>}
        {which === "a" && !runs.length && <option value="">none</option>}
        {runs
          .filter((r) => which === "a" || r.key !== s.a)
          .map((r) => (
            <option key={r.key} value={r.key}>
              {r.control && !r.key.includes(r.control) ? `${r.key} (${r.control})` : r.key}
            </option>
          ))}
      </select>
    </label>
  );
  return (
    <header class="tx-top">
      <span class="tx-mark" aria-label="Transect">
        <svg width="20" height="20" viewBox="0 0 32 32" aria-hidden="true">
          <path d="M3 24c6 0 6-16 13-16s7 16 13 16" fill="none" stroke="currentColor" stroke-width="2.6" />
          <path d="M16 3v26" stroke="#ffa90e" stroke-width="2.4" />
        </svg>
        Transect
      </span>
      <nav aria-label="Screens">
        {SCREENS.map((name, k) => {
          if (!app.source.live && (name === "text" || name === "work")) return null;
          return (
            <button
              key={name}
              type="button"
              aria-current={s.screen === name ? "page" : undefined}
              onClick={() => app.select({ screen: name })}
            >
              <kbd aria-hidden="true">{k + 1}</kbd>
              {NAMES[name]}
              {name === "work" && app.busy.value > 0 && (
                <span class="tx-count" title="in line or running">
                  {app.busy.value}
                </span>
              )}
              {name === "report" && app.pins.value.length > 0 && (
                <span class="tx-count">{app.pins.value.length}</span>
              )}
            </button>
          );
        })}
      </nav>
      <div class="tx-runs">
        {pick("a")}
        {pick("b")}
      </div>
      <button
        type="button"
        class="tx-plain"
        onClick={() => (app.theme.value = app.theme.value === "dark" ? "light" : "dark")}
        aria-label={`Switch to ${app.theme.value === "dark" ? "light" : "dark"} colours`}
      >
        {app.theme.value === "dark" ? "☀" : "☾"}
      </button>
      <button
        type="button"
        class="tx-plain"
        onClick={() => (app.help.value = !app.help.value)}
        aria-label="Keyboard help"
      >
        ?
      </button>
    </header>
  );
}

/** Dark or light: the reader's choice if one was made, else the system's. */
function useTheme(app: App, root: { current: HTMLDivElement | null }): void {
  useEffect(() => {
    const system = matchMedia("(prefers-color-scheme: dark)");
    let chosen: string | null = null;
    try {
      chosen = localStorage.getItem("transect-theme");
    } catch {
      /* no storage: the system decides */
    }
    app.theme.value = chosen === "dark" || chosen === "light" ? chosen : system.matches ? "dark" : "light";
    const follow = () => {
      if (!chosen) app.theme.value = system.matches ? "dark" : "light";
    };
    system.addEventListener("change", follow);
    const first = app.theme.value;
    const stop = effect(() => {
      const theme = app.theme.value;
      root.current?.parentElement?.setAttribute("data-theme", theme);
      if (app.source.shell === "app") document.documentElement.setAttribute("data-theme", theme);
      if (theme !== first || chosen) {
        chosen = theme;
        try {
          localStorage.setItem("transect-theme", theme);
        } catch {
          /* forgotten at the next visit */
        }
      }
    });
    return () => {
      stop();
      system.removeEventListener("change", follow);
    };
  }, []);
}
