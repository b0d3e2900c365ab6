// Screen 4: where a label lies on a shape — layer × token, each cell with its null and p; a cell opens its
// points.

import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { useApp, useStrip, useTable } from "../app";
import { heat } from "../charts/heat";
import { Choice, Missing, Panel, When } from "../panel";
import { byDepth, layerOf } from "../sites";
import type { Study } from "../source";
import { visible } from "../strip";
import { num, str, told, type Row, type Table } from "../table";
import { mark } from "../words";
import { KINDS, Points, Reading, type Column } from "./cell";

const COMMAND = [
  "transect capture smollm2 birthdays:400 --out runs/days",
  "transect manifold runs/days --label date --control runs/days-random",
].join("\n");
const upper = (text: string): string => text.slice(0, 1).toUpperCase() + text.slice(1);
const caption = (): string =>
  `${upper(mark("above"))}. ${upper(mark("hatched"))}, with the reason on hover. ▸ landmarks. ` +
  "A high score says that the label can be read there, not that the model uses it.";

interface Show {
  value: string;
  label: string;
  bar: string;
}
const SHOWS: Show[] = [
  { value: "value", label: "score", bar: "score" },
  { value: "corrected", label: "score beyond its null", bar: "corrected" },
  { value: "added", label: "what training added", bar: "added" },
  { value: "random", label: "random weights", bar: "random" },
  { value: "p_max", label: "p (max-T)", bar: "p" },
  { value: "share", label: "share of variance", bar: "share" },
];

export function MapScreen(): JSX.Element {
  const app = useApp();
  const study = app.study("manifold");
  const all = app.studies("manifold");
  const table = useTable(study, "map");
  if (!study)
    return (
      <div class="tx-screen">
        <div class="tx-head">
          <h1>Map</h1>
        </div>
        <Missing form="manifold" what="Where a feature lives" command={COMMAND}>
          It fits the labels of the texts, on a shape, to the points of every layer and token.
        </Missing>
      </div>
    );
  return (
    <div class="tx-screen">
      <div class="tx-head">
        <h1>Map</h1>
        <p class="tx-quiet">{study.question}</p>
        {all.length > 1 && (
          <Choice
            label="study"
            value={study.id}
            options={all.map((x) => ({ value: x.id, label: x.path || x.id }))}
            onChange={(v) => app.view("manifold", v)}
          />
        )}
      </div>
      <When loaded={table}>{(t) => <Ready study={study} table={t} />}</When>
    </div>
  );
}

export function columnsOf(rows: Row[]): Column[] {
  const found = new Map<number, Column>();
  for (const r of rows)
    found.set(num(r["column"]) ?? 0, {
      token: str(r["token"]),
      piece: str(r["piece"]) === "…" ? `‹${str(r["landmark"]) || str(r["token"])}›` : str(r["piece"]),
      landmark: str(r["landmark"]),
    });
  return [...found].sort(([p], [q]) => p - q).map(([, c]) => c);
}

function Ready({ study, table }: { study: Study; table: Table }): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const runs = table.values("run"),
    kinds = table.values("kind"),
    shapes = table.values("shape");
  const run = runs.includes(s.a) ? s.a : runs[0]!;
  const kind = kinds.includes(s.view["kind"] ?? "") ? s.view["kind"]! : kinds[0]!;
  const shape = shapes.includes(s.view["shape"] ?? "") ? s.view["shape"]! : shapes[0]!;
  const rows = table.where({ run, kind, shape });
  const shows = SHOWS.filter((o) => rows.some((r) => num(r[o.value]) !== null));
  const show =
    shows.find((o) => o.value === s.view["show"]) ??
    shows.find((o) => o.value === "corrected") ??
    shows[0] ??
    SHOWS[0]!;
  const columns = useMemo(() => columnsOf(table.rows.filter((r) => r["run"] === run)), [table, run]);
  useStrip(
    () => ({
      label: "tokens of every text, aligned",
      tokens: columns.map((c) => ({ text: c.piece, note: c.landmark ? `${c.token} (landmark)` : c.token })),
    }),
    [columns],
  );
  const column = columns[Math.min(s.token, columns.length - 1)];
  const sites = [...new Set(rows.map((r) => str(r["site"])))].sort(byDepth);
  const site = sites.find((n) => layerOf(n) === s.layer) ?? sites[sites.length - 1]!;
  const cell = rows.find((r) => r["site"] === site && r["token"] === column?.token);
  return (
    <>
      <div class="tx-tools">
        <Choice
          label="fit"
          value={kind}
          options={kinds.map((k) => ({ value: k, label: KINDS[k] ?? k }))}
          onChange={(v) => app.view("kind", v)}
        />
        {shapes.length > 1 && (
          <Choice label="shape" value={shape} options={shapes} onChange={(v) => app.view("shape", v)} />
        )}
        <Choice label="show" value={show.value} options={shows} onChange={(v) => app.view("show", v)} />
      </div>
      <Grid
        study={study}
        rows={rows}
        columns={columns}
        sites={sites}
        show={show}
        site={site}
        column={column}
      />
      <div class="tx-grid tx-two tx-mapping">
        <Reading
          cell={cell}
          site={site}
          column={column}
          study={study}
          all={table.rows.filter(
            (r) =>
              r["run"] === run && r["shape"] === shape && r["site"] === site && r["token"] === column?.token,
          )}
        />
        <Points
          study={study}
          run={run}
          site={site}
          column={column}
          shape={shape}
          shapes={shapes}
          kind={kind}
        />
      </div>
    </>
  );
}

function Grid({
  study,
  rows,
  columns,
  sites,
  show,
  site,
  column,
}: {
  study: Study;
  rows: Row[];
  columns: Column[];
  sites: string[];
  show: Show;
  site: string;
  column?: Column;
}): JSX.Element {
  const app = useApp();
  const names = new Map(columns.map((c) => [c.token, c]));
  const cells = rows.map((r) => ({
    x: str(r["token"]),
    y: str(r["site"]),
    v: r["status"] === "ok" ? num(r[show.value]) : null,
    tip: [
      `${str(r["site"])}, ${visible(names.get(str(r["token"]))?.piece ?? "")}`,
      r["status"] === "ok" ? `${show.label} ${told(r[show.value])}` : `not computed: ${str(r["status"])}`,
      r["status"] === "ok"
        ? `score ${told(r["value"])} [${told(r["low"])}, ${told(r["high"])}], null ${told(r["null"])}`
        : "",
      num(r["p_max"]) !== null ? `max-T p = ${told(r["p_max"], 2)}` : "",
      `n = ${told(r["n"])}`,
    ]
      .filter(Boolean)
      .join("\n"),
    above:
      show.value !== "p_max" &&
      r["status"] === "ok" &&
      (num(r[show.value === "added" ? "added_p_max" : "p_max"]) ?? 1) <= 0.05,
  }));
  const signed = show.value === "added";
  const unit: [number, number] | undefined = show.value === "share" || signed ? undefined : [0, 1];
  return (
    <Panel
      id="map"
      wide
      title={`${show.label[0]!.toUpperCase()}${show.label.slice(1)}, layer × token`}
      study={study}
      rows={rows}
      onPick={(c) => app.select({ layer: layerOf(c.y), token: columns.findIndex((k) => k.token === c.x) })}
      caption={caption()}
      draw={(width) =>
        heat({
          cells,
          xs: columns.map((c) => c.token),
          ys: [...sites].reverse(),
          width,
          height: Math.min(560, 110 + sites.length * 22),
          square: false,
          kind: signed ? "difference" : "score",
          domain: unit,
          log: false,
          xticks: (t) => {
            const c = names.get(t)!;
            return `${c.landmark ? "▸" : ""}${visible(c.piece).slice(0, 12)}`;
          },
          yticks: (y) => y,
          xlabel: "",
          ylabel: "",
          bar: show.bar,
          selected: { x: column?.token, y: site },
          slanted: true,
          label: `${show.label} of every layer and token`,
        })
      }
    />
  );
}
