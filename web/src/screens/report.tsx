// Screen 8: what was pinned — a page to arrange, annotate and export, each view with its origin.

import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import { useApp, type Pin } from "../app";
import { save, toPng } from "../exports";
import { toPdf } from "../pdf";
import { read } from "../selection";

const dataUrl = (svg: string): string => `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;

export function Report(): JSX.Element {
  const app = useApp();
  const pins = app.pins.value;
  if (!pins.length)
    return (
      <div class="tx-screen">
        <div class="tx-head">
          <h1>Report</h1>
          <Sessions />
        </div>
        <div class="tx-missing">
          <div class="tx-hatched" aria-hidden="true" />
          <div>
            <h3>Nothing pinned yet</h3>
            <p class="tx-quiet">
              Press <b>pin</b> on any view: it comes here with its caption, its numbers and where they are
              from.
            </p>
          </div>
        </div>
      </div>
    );
  const change = (key: string, to: Partial<Pin> | null) =>
    app.setPins(
      to ? pins.map((p) => (p.key === key ? { ...p, ...to } : p)) : pins.filter((p) => p.key !== key),
    );
  const shift = (k: number, by: number) => {
    const next = [...pins];
    const [one] = next.splice(k, 1);
    next.splice(Math.max(0, k + by), 0, one!);
    app.setPins(next);
  };
  return (
    <div class="tx-screen">
      <div class="tx-head">
        <h1>Report</h1>
        <p class="tx-quiet">
          {pins.length} pinned {pins.length === 1 ? "view" : "views"}, kept in this browser for this address
          {app.source.shell === "app" && " (start with --port to have the same one again)"}
        </p>
        <button
          type="button"
          class="tx-go"
          onClick={() => save("transect-report.html", page(pins), "text/html")}
        >
          export page
        </button>
        <button
          type="button"
          onClick={async () =>
            save(
              "transect-report.pdf",
              new Blob([(await toPdf(pins, "Pinned views")) as BlobPart], { type: "application/pdf" }),
            )
          }
        >
          pdf
        </button>
        <Sessions />
        <button type="button" onClick={() => app.setPins([])}>
          unpin all
        </button>
      </div>
      {pins.map((pin, k) => (
        <section key={pin.key} class="tx-panel tx-pin" aria-label={`Pinned: ${pin.title}`}>
          <header>
            <h3>{pin.title}</h3>
            <div class="tx-actions" role="group" aria-label={`Export ${pin.title}`}>
              <button type="button" onClick={() => app.select(read(pin.link), false)}>
                open
              </button>
              <button
                type="button"
                disabled={k === 0}
                aria-label={`Move ${pin.title} up`}
                onClick={() => shift(k, -1)}
              >
                ↑
              </button>
              <button
                type="button"
                disabled={k === pins.length - 1}
                aria-label={`Move ${pin.title} down`}
                onClick={() => shift(k, 1)}
              >
                ↓
              </button>
              <button type="button" onClick={() => save(`${pin.title}.svg`, pin.svg, "image/svg+xml")}>
                svg
              </button>
              <button
                type="button"
                onClick={async () => save(`${pin.title}.png`, await toPng(pin.svg, pin.origin))}
              >
                png
              </button>
              <button type="button" onClick={() => save(`${pin.title}.csv`, pin.csv, "text/csv")}>
                csv
              </button>
              <button
                type="button"
                onClick={async () =>
                  save(
                    `${pin.title}.pdf`,
                    new Blob([(await toPdf([pin], pin.title)) as BlobPart], { type: "application/pdf" }),
                  )
                }
              >
                pdf
              </button>
              <button type="button" onClick={() => save(`${pin.title}.html`, page([pin]), "text/html")}>
                html
              </button>
              <button
                type="button"
                onClick={() => save(`${pin.title}.ipynb`, notebook(pin), "application/json")}
              >
                notebook
              </button>
              <button type="button" onClick={() => change(pin.key, null)}>
                unpin
              </button>
            </div>
          </header>
          <img src={dataUrl(pin.svg)} alt={pin.title} />
          <label class="tx-choice tx-grow">
            <span>note</span>
            <textarea
              rows={1}
              value={pin.note}
              placeholder="what this shows"
              onChange={(e) => change(pin.key, { note: (e.currentTarget as HTMLTextAreaElement).value })}
            />
          </label>
          <p class="tx-caption">{pin.origin.slice(1, -1).join(" · ")}</p>
        </section>
      ))}
    </div>
  );
}

/** This view and the pins, to a file and back. */
function Sessions(): JSX.Element {
  const app = useApp();
  const file = useRef<HTMLInputElement>(null);
  return (
    <>
      <button
        type="button"
        onClick={() => save("transect-session.json", JSON.stringify(app.session()), "application/json")}
      >
        save session
      </button>
      <button type="button" onClick={() => file.current?.click()}>
        load session
      </button>
      <input
        ref={file}
        type="file"
        accept=".json,application/json"
        hidden
        aria-label="session file"
        onChange={async (e) => {
          const chosen = e.currentTarget.files?.[0];
          e.currentTarget.value = "";
          if (chosen) app.resume(await chosen.text());
        }}
      />
    </>
  );
}

/** A notebook of one cell that shows this view. */
export function notebook(pin: Pin): string {
  const source = [
    'from transect.page import widget  # pip install "transect[notebook]"\n',
    "\n",
    ...pin.origin.map((o) => `# ${o.replace(/[\r\n]+/g, " ")}\n`),
    `widget(${JSON.stringify(pin.path || "STUDY")}, at=${JSON.stringify(pin.link)})`,
  ];
  const cell = { cell_type: "code", execution_count: null, id: "view", metadata: {}, outputs: [], source };
  return JSON.stringify({ cells: [cell], metadata: {}, nbformat: 4, nbformat_minor: 5 }, null, 1);
}

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

const HEAD =
  `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; ` +
  `style-src 'unsafe-inline'"><title>Transect: pinned views</title>` +
  `<style>body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}` +
  `img{max-width:100%}figure{margin:2rem 0}small{color:#5b6470}</style>`;

/** Pinned views as one page without scripts. */
export function page(pins: Pin[]): string {
  const parts = pins.map(
    (p) =>
      `<figure><img alt="${escaped(p.title)}" src="${dataUrl(p.svg)}">` +
      `<figcaption><b>${escaped(p.title)}.</b> ${escaped(p.note)}<br>` +
      `<small>${escaped(p.origin.join(" · "))}</small></figcaption></figure>`,
  );
  return `<!doctype html><html lang="en"><head><meta charset="utf-8">${HEAD}</head>
<body><h1>Pinned views</h1>${parts.join("\n")}</body></html>\n`;
}
