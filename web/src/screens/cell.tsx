// One cell of the map: its numbers, fit by fit, and its points in the fitted plane.

import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { useApp, useTable } from "../app";
import { scatter } from "../charts/scatter";
import { reading } from "../live";
import { Missing, Panel, When } from "../panel";
import type { Live, Store, Study } from "../source";
import { visible } from "../strip";
import { num, str, told, type Cell, type Row } from "../table";

export const KINDS: Record<string, string> = { free: "free", orthonormal: "rigid", reuse: "reuse" };
const KEPT =
  "The scatter of this cell is not in the study, and its captured points are not in this folder. The study " +
  "keeps the source's and the best cell's.";

export interface Column {
  token: string;
  piece: string;
  landmark: string;
}

export function Reading({
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
        <table class="tx-reading" tabIndex={0}>
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
  samples: string[];
}

export function Points({
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
        store={store}
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
          sample: c.samples[k] ?? String(k),
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
            store={store}
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
  store,
  title,
  rows,
  label,
  level,
}: {
  study: Study;
  store: Store | null;
  title: string;
  rows: Row[];
  label: string;
  level: number | null;
}): JSX.Element {
  const app = useApp();
  const points = rows.map((r) => ({
    x: num(r["z1"]) ?? 0,
    y: num(r["z2"]) ?? 0,
    ix: num(r["ideal1"]) ?? undefined,
    iy: num(r["ideal2"]) ?? undefined,
    label: num(r["label_value"]) ?? str(r["label_value"]),
    name: str(r["sample"]),
  }));
  const sample = app.selection.value.view["sample"] ?? "";
  const row = rows.find((r) => r["sample"] === sample) ?? rows[0];
  return (
    <Panel
      id="scatter"
      title={title}
      study={study}
      rows={rows}
      onPick={(d) => app.view("sample", d.name)}
      caption={
        `Held-out texts of the first fold in the plane fitted on the others (score ${told(level)}, ` +
        `n = ${rows.length}); rings: where their labels belong, scaled to fit.`
      }
      draw={(width) => scatter({ points, width: Math.min(width, 520), label: title, bar: label })}
    >
      {app.source.live && store && row && (
        <Sample
          live={app.source.live}
          store={store}
          id={str(row["sample"])}
          label={label}
          value={row["label_value"]}
        />
      )}
    </Panel>
  );
}

/** The text of one point of the cell. */
function Sample({
  live,
  store,
  id,
  label,
  value,
}: {
  live: Live;
  store: Store;
  id: string;
  label: string;
  value?: Cell;
}): JSX.Element {
  const app = useApp();
  const loaded = useMemo(
    () => app.once(`${store.id}/text/${id}`, () => live.textOf(store.id, id)),
    [id],
  ).value;
  return (
    <When loaded={loaded}>
      {(t) => (
        <p class="tx-sentence">
          <b>
            {label} {typeof value === "number" ? told(value) : str(value)}
          </b>{" "}
          {t.tokens.join("")}{" "}
          <button
            type="button"
            class="tx-link"
            onClick={() => app.select({ screen: "text", view: { text: String(t.index) } }, false)}
          >
            its tokens
          </button>
        </p>
      )}
    </When>
  );
}
