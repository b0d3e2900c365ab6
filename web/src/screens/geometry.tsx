// Token geometry on the Depth screen: curves of the token study through depth, and of checkpoints through
// training.

import type { JSX } from "preact";
import { useApp, useTable } from "../app";
import { curve } from "../charts/curve";
import { everyLayer, heat } from "../charts/heat";
import { Choice, Panel, When } from "../panel";
import { layerOf } from "../sites";
import type { Study } from "../source";
import { visible } from "../strip";
import { line, lines, num, str, told, type Row, type Table } from "../table";
import { Readings, useSeries } from "../readings";
import { named, words } from "../words";

const TABLES: [string, string][] = [
  ["within", "Tokens of one text beside each other"],
  ["layers", "All tokens of a layer"],
  ["centred", "All tokens, centred"],
  ["updates", "What each layer adds"],
  ["gradients", "Gradients"],
  ["paths", "Paths through depth"],
];
const VARIANTS = ["normalise", "about"];

/** A token study: one small curve for each measure and variant. */
export function TokenGeometry({ study }: { study: Study }): JSX.Element {
  return (
    <>
      {TABLES.filter(([name]) => study.tables.some((t) => t.name === name)).map(([name, title]) => (
        <Section key={name} study={study} name={name} title={title} />
      ))}
      <Heatmaps study={study} />
    </>
  );
}

function Section({ study, name, title }: { study: Study; name: string; title: string }): JSX.Element {
  const loaded = useTable(study, name);
  return (
    <When loaded={loaded}>
      {(table) => {
        const kinds = [
          ...new Map(
            table.rows.map((r) => [JSON.stringify(["measure", ...VARIANTS].map((c) => r[c] ?? null)), r]),
          ).values(),
        ];
        return (
          <>
            <h2>{title}</h2>
            <div class="tx-grid">
              {kinds.map((k) => (
                <Small
                  key={`${str(k["measure"])} ${str(k["normalise"])} ${str(k["about"])}`}
                  study={study}
                  table={table}
                  like={k}
                  name={name}
                />
              ))}
            </div>
          </>
        );
      }}
    </When>
  );
}

function Small({
  study,
  table,
  like,
  name,
}: {
  study: Study;
  table: Table;
  like: Row;
  name: string;
}): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const rows = table.rows.filter(
    (r) => r["measure"] === like["measure"] && VARIANTS.every((c) => r[c] === like[c]),
  );
  const series = useSeries(study, rows);
  const measure = str(like["measure"]);
  const about =
    like["about"] === "mean" || name === "centred"
      ? "centred"
      : like["about"] === "zero"
        ? "about zero"
        : str(like["normalise"]) === "unit"
          ? "unit norm"
          : "";
  const title = (measure === "anisotropy" ? "mean cosine" : named(measure)) + (about ? `, ${about}` : "");
  return (
    <Panel
      id={`${name}-${measure}-${about || "raw"}`}
      title={title}
      study={study}
      rows={rows}
      onPick={(d) => app.select({ layer: d.x })}
      draw={(width) =>
        curve({
          series,
          width,
          height: 150,
          xlabel: "layer",
          ylabel: "",
          selected: s.layer,
          legend: false,
          label: `${title} through depth`,
        })
      }
      caption={
        <Readings
          rows={rows.filter(
            (r) => layerOf(str(r["site"])) === s.layer && (r["run"] === s.a || r["run"] === s.b),
          )}
          layer={s.layer}
        />
      }
    />
  );
}

/** Cosines between the tokens of the study's own prompts, at the selected layer. */
function Heatmaps({ study }: { study: Study }): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const loaded = useTable(study, "similarity");
  return (
    <When loaded={loaded}>
      {(table) => {
        const runs = table.values("run");
        const run = runs.includes(s.a) ? s.a : runs[0]!;
        const prompts = table.values("prompt");
        const prompt = prompts.includes(s.view["prompt"] ?? "") ? s.view["prompt"]! : prompts[0]!;
        const shown = s.b && runs.includes(s.b) ? [run, s.b] : [run];
        return (
          <>
            <h2>Tokens of a prompt at layer {s.layer}</h2>
            {prompts.length > 1 && (
              <div class="tx-tools">
                <Choice
                  label="prompt"
                  value={prompt}
                  options={prompts}
                  onChange={(v) => app.view("prompt", v)}
                />
              </div>
            )}
            <div class="tx-grid tx-two">
              {shown.map((r) => (
                <Heat
                  key={r}
                  study={study}
                  run={r}
                  rows={table.rows.filter(
                    (x) =>
                      x["run"] === r && str(x["prompt"]) === prompt && layerOf(str(x["site"])) === s.layer,
                  )}
                />
              ))}
            </div>
          </>
        );
      }}
    </When>
  );
}

function Heat({ study, run, rows }: { study: Study; run: string; rows: Row[] }): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const pieces = new Map(rows.map((r) => [num(r["i"]) ?? 0, str(r["piece"])]));
  const keys = [...pieces.keys()].sort((p, q) => p - q).map(String);
  const cells = rows.map((r) => ({
    x: str(r["j"]),
    y: str(r["i"]),
    v: num(r["value"]),
    tip: [
      `${visible(str(r["piece"]))} × ${visible(pieces.get(num(r["j"]) ?? 0) ?? "")}`,
      lines(r),
      `centred ${told(r["centred"])}`,
    ].join("\n"),
  }));
  const name = (k: string) => visible(pieces.get(Number(k)) ?? k).slice(0, 12);
  if (!rows.length)
    return (
      <p class="tx-none">
        Nothing computed for {run} at layer {s.layer}.
      </p>
    );
  return (
    <Panel
      id={`prompt-${run}`}
      title={`Cosine between tokens, ${run}`}
      study={study}
      rows={rows}
      onPick={(c) => app.select({ token: Number(c.y) })}
      caption={`One text: no interval. Null: ${told(rows[0]!["null"])}.`}
      draw={(width) =>
        heat({
          cells,
          xs: keys,
          ys: keys,
          xticks: name,
          yticks: name,
          width: Math.min(width, 620),
          kind: "difference",
          domain: [-1, 1],
          xlabel: "",
          ylabel: "",
          bar: "cosine",
          selected: { y: String(s.token) },
          slanted: true,
          label: `cosine between the tokens of a prompt, ${run}`,
        })
      }
    />
  );
}

/** Checkpoints: every curve against the step at the selected layer, and step × layer of one curve. */
export function Evolution({ study }: { study: Study }): JSX.Element {
  const loaded = useTable(study, "evolution");
  return <When loaded={loaded}>{(table) => <Steps study={study} table={table} />}</When>;
}

function Steps({ study, table }: { study: Study; table: Table }): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const curves = table.values("curve");
  const layers = [...new Set(table.rows.map((r) => num(r["layer"]) ?? 0))].sort((p, q) => p - q);
  const layer = layers.includes(s.layer) ? s.layer : layers[layers.length - 1]!;
  const shown = curves.includes(s.view["curve"] ?? "") ? s.view["curve"]! : curves[0]!;
  const own = table.where({ curve: shown });
  const steps = [...new Set(own.map((r) => num(r["step"]) ?? 0))].sort((p, q) => p - q).map(String);
  const cells = own.map((r) => ({
    x: str(r["step"]),
    y: str(r["layer"]),
    v: num(r["value"]),
    tip: `step ${str(r["step"])}, layer ${str(r["layer"])}\n${lines(r)}`,
  }));
  const ys = layers.map(String).reverse();
  return (
    <>
      <div class="tx-tools">
        <Choice label="curve" value={shown} options={curves} onChange={(v) => app.view("curve", v)} />
      </div>
      <Panel
        id="steps"
        wide
        title={`${shown}: step × layer`}
        study={study}
        rows={own}
        onPick={(c) => app.select({ layer: Number(c.y) })}
        draw={(width) =>
          heat({
            cells,
            xs: steps,
            ys,
            width,
            height: 80 + 26 * ys.length,
            square: false,
            xlabel: "training step",
            ylabel: "layer",
            bar: shown.slice(0, 12),
            yticks: everyLayer(Number, 20, ys.length),
            selected: { y: String(layer) },
            label: `${shown} by step and layer`,
          })
        }
      />
      <h2>Layer {layer} through training</h2>
      <div class="tx-grid">
        {curves.map((c, k) => {
          const rows = table.where({ curve: c, layer });
          return (
            <Panel
              key={c}
              id={`step-${c}`}
              title={c}
              study={study}
              rows={rows}
              caption={
                rows.length ? (
                  <>Last: {line(rows[rows.length - 1]!)}</>
                ) : (
                  <span class="tx-none">none at this layer</span>
                )
              }
              draw={(width) =>
                curve({
                  series: [
                    {
                      name: c,
                      colour: words.value.colours[k % words.value.colours.length]!,
                      rows,
                      strong: true,
                    },
                  ],
                  x: "step",
                  width,
                  height: 150,
                  xlabel: "training step",
                  ylabel: "",
                  selected: null,
                  legend: false,
                  label: `${c} through training at layer ${layer}`,
                })
              }
            />
          );
        })}
      </div>
    </>
  );
}
