// Screen 4: where a label lies on a shape — layer × token, each cell with its null and p; a cell opens its
// points.

import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { useApp, useStrip, useTable } from "../app";
import { heat } from "../charts/heat";
import { scatter } from "../charts/scatter";
import { reading } from "../live";
import { Choice, Missing, Panel, When } from "../panel";
import { byDepth, layerOf } from "../sites";
import type { Study } from "../source";
import { visible } from "../strip";
import { num, str, told, type Cell, type Row, type Table } from "../table";

const KINDS: Record<string, string> = { free: "free", orthonormal: "rigid", reuse: "reuse" };
const COMMAND = [
  "transect capture smollm2 birthdays:400 --out runs/days",
  "transect manifold runs/days --label date --control runs/days-random",
].join("\n");
const CAPTION =
  "Filled dot: above the null, max-T p ≤ 0.05 over the whole map. Hatched: not computed, with the reason " +
  "on hover. ▸ landmarks. A high score says that the label can be read there, not that the model uses it.";
const KEPT =
  "The scatter of this cell is not in the study, and its captured points are not in this folder. The study " +
  "keeps the source's and the best cell's.";

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
        <Missing what="Where a feature lives" command={COMMAND}>
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

interface Column {
  token: string;
  piece: string;
  landmark: string;
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
    above: show.value !== "p_max" && r["status"] === "ok" && (num(r["p_max"]) ?? 1) <= 0.05,
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
      caption={CAPTION}
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

function Reading({
  cell,
  site,
  column,
  study,
  all,
}: {
  cell?: Row;
  site: string;
  column?: Column;
  study: Study;
  all: Row[];
}): JSX.Element {
  const what = `${site}, ${visible(column?.piece ?? "")}`;
  return (
    <section class="tx-panel" aria-label="Selected cell">
      <header>
        <h3>
          {what} <span class="tx-quiet">{column?.token}</span>
        </h3>
      </header>
      {!cell || cell["status"] !== "ok" ? (
        <p class="tx-none">Not computed{cell ? `: ${str(cell["status"])}` : ""}.</p>
      ) : (
        <table class="tx-reading">
          <thead>
            <tr>
              <th scope="col">fit</th>
              <th scope="col">score</th>
              <th scope="col">interval</th>
              <th scope="col">null</th>
              <th scope="col">beyond null</th>
              <th scope="col">random weights</th>
              <th scope="col">added</th>
              <th scope="col">max-T p</th>
              <th scope="col">variance</th>
            </tr>
          </thead>
          <tbody>
            {all
              .filter((r) => r["status"] === "ok")
              .map((r) => (
                <tr key={str(r["kind"])}>
                  <th scope="row">{KINDS[str(r["kind"])] ?? str(r["kind"])}</th>
                  <td class="n">{told(r["value"])}</td>
                  <td class="n">
                    {told(r["low"])} … {told(r["high"])}
                  </td>
                  <td class="n">{told(r["null"])}</td>
                  <td class="n">{told(r["corrected"])}</td>
                  <td class="n">
                    {num(r["random"]) === null ? <span class="tx-none">no control</span> : told(r["random"])}
                  </td>
                  <td class="n">
                    {num(r["added"]) === null ? (
                      <span class="tx-none">–</span>
                    ) : (
                      `${told(r["added"])} [${told(r["added_low"])}, ${told(r["added_high"])}]`
                    )}
                  </td>
                  <td class="n">{told(r["p_max"], 2)}</td>
                  <td class="n">
                    {num(r["share"]) === null
                      ? "–"
                      : `${percent(r["share"])} (null ${percent(r["null_share"])})`}
                  </td>
                </tr>
              ))}
          </tbody>
        </table>
      )}
      <p class="tx-caption">
        n = {told(cell?.["n"])} texts; {str(cell?.["design"])}; label {str(cell?.["label"])}.{" "}
        {study.warnings[0] ?? ""}
      </p>
    </section>
  );
}

const percent = (v: Cell | undefined): string => `${told(100 * (num(v) ?? NaN), 2)} %`;

interface Cloud {
  site: string;
  token: string;
  n: number;
  value: number;
  points: Record<string, number[]>;
}

function Points({
  study,
  run,
  site,
  column,
  shape,
  shapes,
  kind,
}: {
  study: Study;
  run: string;
  site: string;
  column?: Column;
  shape: string;
  shapes: string[];
  kind: string;
}): JSX.Element {
  const app = useApp();
  const kept = useTable(study, "scatter");
  const rows =
    kept.state === "ready" && kind !== "orthonormal"
      ? (kept.value?.where({ run, site, token: column?.token, shape }) ?? [])
      : [];
  const store = app.storeOf(run, study, site);
  const asked =
    !rows.length &&
    kept.state === "ready" &&
    column &&
    app.source.live &&
    store?.sites.includes(site) &&
    shape === shapes[0];
  const loaded = useMemo(
    () =>
      asked
        ? app.once(`${study.id}/scatter/${site}/${column.token}/${kind}`, () =>
            reading<Cloud>(app.source.live!, {
              kind: "scatter",
              study: study.id,
              store: store!.id,
              site,
              token: column.token,
              orthonormal: kind === "orthonormal",
            }),
          )
        : null,
    [study.id, site, column?.token, kind, Boolean(asked)],
  );
  const title = `Texts at ${site}, ${visible(column?.piece ?? "")}`;
  if (kept.state === "loading") return <When loaded={kept}>{() => null}</When>;
  if (rows.length)
    return (
      <Cloudy
        study={study}
        title={title}
        rows={rows}
        label={str(rows[0]!["label"])}
        level={num(rows[0]!["value"])}
      />
    );
  if (!loaded)
    return <Missing what={title}>{store ? "Points are drawn for the first shape." : KEPT}</Missing>;
  return (
    <When loaded={loaded.value}>
      {(c) => {
        const made: Row[] = c.points["label_value"]!.map((l, k) => ({
          sample: String(k),
          label_value: l,
          z1: c.points["z1"]![k]!,
          z2: c.points["z2"]?.[k] ?? 0,
          ideal1: c.points["ideal1"]?.[k] ?? null,
          ideal2: c.points["ideal2"]?.[k] ?? null,
          site: c.site,
          token: c.token,
          value: c.value,
          n: c.n,
          status: "ok",
        }));
        return (
          <Cloudy
            study={study}
            title={title}
            rows={made}
            label={String((study.provenance["label"] as string[] | undefined)?.join("/") ?? "label")}
            level={c.value}
          />
        );
      }}
    </When>
  );
}

function Cloudy({
  study,
  title,
  rows,
  label,
  level,
}: {
  study: Study;
  title: string;
  rows: Row[];
  label: string;
  level: number | null;
}): JSX.Element {
  const points = rows.map((r) => ({
    x: num(r["z1"]) ?? 0,
    y: num(r["z2"]) ?? 0,
    ix: num(r["ideal1"]) ?? undefined,
    iy: num(r["ideal2"]) ?? undefined,
    label: num(r["label_value"]) ?? str(r["label_value"]),
    name: str(r["sample"]),
  }));
  return (
    <Panel
      id="scatter"
      title={title}
      study={study}
      rows={rows}
      caption={
        `Held-out texts of the first fold in the plane fitted on the others (score ${told(level)}, ` +
        `n = ${rows.length}); rings: where their labels belong, scaled to fit.`
      }
      draw={(width) => scatter({ points, width: Math.min(width, 520), label: title, bar: label })}
    />
  );
}
