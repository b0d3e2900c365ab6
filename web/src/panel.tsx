// A panel: one chart with its title, caption, numbers and exports. Loading, failing and being empty look
// designed.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { useApp, type Loaded } from "./app";
import { save, standalone, toPng } from "./exports";
import { num, str, told, toCsv, type Row } from "./table";
import type { Study } from "./source";
import { write } from "./selection";
import { Measure, Worded } from "./terms";

interface PanelProps {
  title: string;
  caption?: ComponentChildren;
  note?: string;
  study: Study | null;
  rows?: Row[];
  draw?: (width: number) => SVGSVGElement;
  /** For views that are no SVG (points): an image with its size. */
  image?: () => { url: string; width: number; height: number } | null;
  onPick?: (datum: any) => void;
  wide?: boolean;
  tools?: ComponentChildren;
  children?: ComponentChildren;
  id: string;
  /** The measure on show: its title explains it. */
  measure?: string;
}

/** Where a figure comes from, in lines: what every export carries. */
export function useOrigin(study: Study | null, title: string): string[] {
  const app = useApp();
  const s = app.selection.value;
  const runs =
    study?.runs.map(
      (r) =>
        `${r.name} (${r.dtype}, weights ${r.weights.slice(0, 8)}) on ${r.texts}, capture ${r.fingerprint}`,
    ) ?? [];
  const facts = Object.entries(study?.provenance ?? {})
    .filter(([, v]) => ["string", "number"].includes(typeof v))
    .map(([k, v]) => `${k} ${v}`);
  return [
    `Transect ${app.ready?.version ?? ""}: ${title}`,
    study ? `${study.name} study ${study.path || study.id}` : "",
    ...runs,
    facts.join(", "),
    write(s),
  ].filter(Boolean);
}

export function Panel(props: PanelProps): JSX.Element {
  const app = useApp();
  const [open, setOpen] = useState(false);
  const chart = useRef<HTMLDivElement>(null);
  const origin = useOrigin(props.study, props.title);
  const name = `${props.study?.name ?? "transect"}-${props.id}`;
  const svg = (): string | null => {
    const own = chart.current?.querySelector("svg");
    if (own) return standalone(own as SVGSVGElement, props.title, origin);
    const picture = props.image?.();
    return picture ? standalone(framed(picture), props.title, origin) : null;
  };
  const png = async () => {
    const s = svg();
    if (s) save(`${name}.png`, await toPng(s, origin));
  };
  const pin = () => {
    const s = svg();
    if (s)
      app.pin({
        key: `${props.id} ${write(app.selection.value)}`,
        title: props.title,
        caption: str(props.note ?? ""),
        origin,
        link: write(app.selection.value),
        svg: s,
        csv: toCsv(props.rows ?? [], origin),
        note: "",
        path: props.study?.path ?? "",
      });
  };
  return (
    <section class={`tx-panel${props.wide ? " tx-wide" : ""}`} aria-label={props.title} data-panel={props.id}>
      <header>
        <h3>{props.measure ? <Measure name={props.measure}>{props.title}</Measure> : props.title}</h3>
        {props.tools}
        <div class="tx-actions" role="group" aria-label={`Export ${props.title}`}>
          {props.rows && (
            <button type="button" aria-expanded={open} onClick={() => setOpen(!open)}>
              numbers
            </button>
          )}
          <button type="button" onClick={pin} title="Keep this view on the Report screen">
            pin
          </button>
          <button
            type="button"
            onClick={() => {
              const s = svg();
              if (s) save(`${name}.svg`, s, "image/svg+xml");
            }}
          >
            svg
          </button>
          <button type="button" onClick={png}>
            png
          </button>
          {props.rows && (
            <button type="button" onClick={() => save(`${name}.csv`, toCsv(props.rows!, origin), "text/csv")}>
              csv
            </button>
          )}
        </div>
      </header>
      {props.draw && <Chart at={chart} draw={props.draw} label={props.title} onPick={props.onPick} />}
      {props.children}
      {props.caption && (
        <p class="tx-caption">
          {typeof props.caption === "string" ? <Worded text={props.caption} /> : props.caption}
        </p>
      )}
      {open && props.rows && <Numbers rows={props.rows} />}
    </section>
  );
}

function framed(picture: { url: string; width: number; height: number }): SVGSVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("width", String(picture.width));
  svg.setAttribute("height", String(picture.height));
  const image = document.createElementNS("http://www.w3.org/2000/svg", "image");
  image.setAttribute("href", picture.url);
  image.setAttribute("width", String(picture.width));
  image.setAttribute("height", String(picture.height));
  svg.append(image);
  return svg;
}

/** Draws an SVG as wide as its place, and again when the place or the drawing changes. */
export function Chart({
  at,
  draw,
  label,
  onPick,
}: {
  at?: { current: HTMLDivElement | null };
  draw: (width: number) => SVGSVGElement;
  label: string;
  onPick?: (datum: any) => void;
}): JSX.Element {
  const own = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const watch = new ResizeObserver((entries) => setWidth(Math.floor(entries[0]!.contentRect.width)));
    watch.observe(own.current!);
    return () => watch.disconnect();
  }, []);
  useLayoutEffect(() => {
    const place = own.current!;
    if (at) at.current = place;
    if (width < 80) return;
    const svg = draw(width);
    // one picture with one name: the parts are told apart for tests and exports, not read out one by one
    svg.querySelectorAll("g[aria-label]").forEach((g) => {
      g.setAttribute("data-mark", g.getAttribute("aria-label")!);
      g.removeAttribute("aria-label");
      g.removeAttribute("aria-description");
    });
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    if (onPick) {
      svg.classList.add("tx-pick");
      svg.addEventListener("click", () => {
        const datum = (svg as any).value;
        if (datum) onPick(datum);
      });
    }
    place.replaceChildren(svg);
  });
  return <div class="tx-chart" ref={own} />;
}

const COLUMNS = [
  "measure",
  "run",
  "run2",
  "site",
  "site2",
  "token",
  "piece",
  "normalise",
  "value",
  "low",
  "high",
  "null",
  "corrected",
  "p",
  "p_holm",
  "p_max",
  "n",
  "n_texts",
  "control",
  "status",
];

/** The rows behind a chart, readable by anyone and anything. */
export function Numbers({ rows, most = 200 }: { rows: Row[]; most?: number }): JSX.Element {
  const extra = [...new Set(rows.slice(0, 50).flatMap((r) => Object.keys(r)))].filter((c) =>
    [
      "kind",
      "shape",
      "series",
      "contrast",
      "panel",
      "skip",
      "order",
      "pole",
      "reproducibility",
      "support",
    ].includes(c),
  );
  const shown = [...COLUMNS, ...extra].filter((c) => rows.some((r) => r[c] !== null && r[c] !== undefined));
  const varying = shown.filter(
    (c) =>
      ["value", "low", "high", "null", "n", "status"].includes(c) || new Set(rows.map((r) => r[c])).size > 1,
  );
  return (
    <div class="tx-numbers" tabIndex={0} role="region" aria-label="numbers">
      <table>
        <thead>
          <tr>
            {varying.map((c) => (
              <th scope="col" key={c}>
                {c}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, most).map((r, k) => (
            <tr key={k}>
              {varying.map((c) => (
                <td key={c} class={num(r[c]) !== null ? "n" : ""}>
                  {num(r[c]) !== null ? (
                    told(r[c], 4)
                  ) : r[c] === null || r[c] === undefined ? (
                    <span class="tx-none">none</span>
                  ) : (
                    str(r[c])
                  )}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > most && <p class="tx-quiet">{rows.length - most} more rows: export the CSV.</p>}
    </div>
  );
}

/** What a view shows while it loads, when it fails, and when there is nothing to show. */
export function When<T>({
  loaded,
  children,
  empty,
}: {
  loaded: Loaded<T | null>;
  children: (value: T) => ComponentChildren;
  empty?: ComponentChildren;
}): JSX.Element {
  if (loaded.state === "loading")
    return (
      <div class="tx-state" role="status">
        <span class="tx-pulse" />
        reading …
      </div>
    );
  if (loaded.state === "failed") return <Failure message={loaded.message} fix={loaded.fix} />;
  if (loaded.value === null) return <>{empty ?? null}</>;
  return <>{children(loaded.value)}</>;
}

export function Failure({ message, fix }: { message: string; fix?: string }): JSX.Element {
  return (
    <div class="tx-state tx-failed" role="alert">
      <b>{message}</b>
      {fix && <span>{fix}</span>}
    </div>
  );
}

/** Nothing of this kind has been computed: what it would answer, and what to type. */
export function Missing({
  what,
  command,
  form,
  children,
}: {
  what: string;
  command?: string;
  /** The command that makes it, by the name of its form: the page can start it. */
  form?: string;
  children?: ComponentChildren;
}): JSX.Element {
  const app = useApp();
  return (
    <div class="tx-missing">
      <div class="tx-hatched" aria-hidden="true" />
      <div>
        <h3>{what}</h3>
        <p class="tx-quiet">Not computed. {children}</p>
        {command && (
          <pre>
            <code>{command}</code>
          </pre>
        )}
        {form && app.source.live && (
          <button
            type="button"
            class="tx-go"
            onClick={() => app.select({ screen: "work", view: { form } }, false)}
          >
            prepare and start
          </button>
        )}
      </div>
    </div>
  );
}

/** Puts a text on the clipboard. */
export function Copy({ text }: { text: string }): JSX.Element {
  const app = useApp();
  return (
    <button
      type="button"
      class="tx-plain"
      onClick={() =>
        void navigator.clipboard.writeText(text).then(
          () => (app.said.value = "Copied."),
          () => (app.said.value = "The browser does not let this page copy: select the text."),
        )
      }
    >
      copy
    </button>
  );
}

export function Choice<T extends string>({
  label,
  value,
  options,
  onChange,
}: {
  label: string;
  value: T;
  options: readonly (T | { value: T; label: string })[];
  onChange: (value: T) => void;
}): JSX.Element {
  return (
    <label class="tx-choice">
      <span>{label}</span>
      <select value={value} onChange={(e) => onChange((e.currentTarget as HTMLSelectElement).value as T)}>
        {options.map((o) =>
          typeof o === "string" ? (
            <option key={o} value={o}>
              {o}
            </option>
          ) : (
            <option key={o.value} value={o.value}>
              {o.label}
            </option>
          ),
        )}
      </select>
    </label>
  );
}
