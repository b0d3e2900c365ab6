// Screen 5: neurons laid out by what they do — Visualise, and Run: the live model's activations on the same
// maps.

import type { JSX } from "preact";
import { useMemo, useRef } from "preact/hooks";
import { useApp, useDrawn, useTable } from "../app";
import { Choice, Missing, Panel, When } from "../panel";
import { FAMILIES, layoutOf } from "../points/layout";
import { StageView } from "../points/stage";
import { layerOf, parse, siteAt } from "../sites";
import type { Positions, Study } from "../source";
import { told, type Row } from "../table";
import { NeuronDetails } from "./neuron";
import { RunView } from "./run";

export function Neurons(): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const mode = s.view["mode"] === "run" ? "run" : "visualise";
  const family = s.family in FAMILIES ? s.family : "mlp.act";
  const studies = app.studies("neurons").filter((x) => x.tables.some((t) => t.packed));
  const study = pickStudy(studies, family, s.a, s.view["neurons"]);
  const held = app.ready!.stores.find((x) => x.families[family]);
  return (
    <div class="tx-screen tx-neurons">
      <div class="tx-head">
        <h1>Neurons</h1>
        <div class="tx-tabs" role="tablist" aria-label="Mode">
          {(["visualise", "run"] as const).map((m) => (
            <button
              key={m}
              type="button"
              role="tab"
              aria-selected={mode === m}
              onClick={() => app.view("mode", m)}
            >
              {m === "run" ? "Run" : "Visualise"}
            </button>
          ))}
        </div>
        <div class="tx-tabs" role="group" aria-label="Neurons of">
          {Object.entries(FAMILIES).map(([f, name]) => (
            <button
              key={f}
              type="button"
              aria-pressed={family === f}
              onClick={() => app.select({ family: f })}
            >
              {name}
            </button>
          ))}
        </div>
        {studies.length > 1 && (
          <Choice
            label="map"
            value={study?.id ?? ""}
            options={[
              ...(study ? [] : [{ value: "", label: "none" }]),
              ...studies.map((x) => ({ value: x.id, label: x.path || x.id })),
            ]}
            onChange={(v) => app.view("neurons", v)}
          />
        )}
      </div>
      {mode === "run" ? (
        <RunView family={family} study={study} />
      ) : study ? (
        <Visualise study={study} family={family} />
      ) : (
        <Missing
          form="neurons"
          what={`A map of the ${FAMILIES[family]} neurons`}
          command={`transect neurons map ${held?.path ?? "STORE"} --sites ${family} --out DIR`}
        >
          Neurons are placed so that distance is 1 − correlation. Run works without one, in order of index.
        </Missing>
      )}
    </div>
  );
}

/** The study whose map holds this family: asked for, of run A, or any. */
function pickStudy(studies: Study[], family: string, run: string, asked: string | undefined): Study | null {
  const has = (x: Study) =>
    x.figures.some((f) =>
      ((f.options["sites"] as string[] | undefined) ?? []).some((n) => parse(n).family === family),
    );
  const fit = studies.filter(has);
  return (
    fit.find((x) => x.id === asked) ?? fit.find((x) => x.runs.some((r) => r.name === run)) ?? fit[0] ?? null
  );
}

function Visualise({ study, family }: { study: Study; family: string }): JSX.Element {
  const app = useApp();
  const loaded = app.positions(study).value;
  return <When loaded={loaded}>{(p) => <Ready study={study} positions={p} family={family} />}</When>;
}

function Ready({
  study,
  positions,
  family,
}: {
  study: Study;
  positions: Positions;
  family: string;
}): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const layout = useMemo(() => layoutOf(positions, study), [positions]);
  const maps = useTable(study, "maps");
  useDrawn(layout.blocks.map((b) => b.site));
  const take = useRef<(() => { url: string; width: number; height: number } | null) | null>(null);
  const site =
    layout.blocks.find((b) => b.site === siteAt(family, s.layer))?.site ??
    layout.blocks[layout.blocks.length - 1]!.site;
  const rows = maps.state === "ready" ? (maps.value?.rows ?? []) : [];
  const fit = rows.find((r) => r["site"] === site);
  const total = layout.blocks.reduce((n, b) => n + b.count, 0);
  const size = `${layout.blocks.length} blocks, ${total.toLocaleString("en")} neurons`;
  return (
    <>
      <div class="tx-beside">
        <Panel
          id="neurons"
          wide
          title={`${FAMILIES[family]} neurons of ${positions.run}: ${size}`}
          study={study}
          rows={rows}
          image={() => take.current?.() ?? null}
          caption={
            <>
              <span class="tx-scalekey" aria-hidden="true" />
              Distance: 1 − ρ; axes of equal scale in every block; colour:{" "}
              {positions.dim > 2 ? "third" : "second"} coordinate, low to high. Drag turns all views, wheel
              zooms the large one.
            </>
          }
        >
          <StageView
            {...layout}
            values={null}
            version={0}
            site={site}
            neuron={s.neuron}
            label={FAMILIES[family]!}
            grab={(t) => {
              take.current = t;
            }}
            onSelect={(name, neuron) => app.select({ layer: layerOf(name), neuron })}
            card={(name, neuron) => (
              <Hover site={name} neuron={neuron} fit={rows.find((r) => r["site"] === name)} />
            )}
          />
        </Panel>
        <NeuronDetails study={study} site={site} layout={layout} run={positions.run} fit={fit} />
      </div>
    </>
  );
}

function Hover({ site, neuron, fit }: { site: string; neuron: number; fit?: Row }): JSX.Element {
  return (
    <>
      <b>
        {site} · {neuron}
      </b>
      <br />
      {fit ? (
        <>
          stress {told(fit["value"])} (texts permuted by neuron {told(fit["null"])}), halves agree to{" "}
          {told(fit["reproducibility"])}, n = {told(fit["n"])}
        </>
      ) : (
        "no stress known"
      )}
      <br />
      <span class="tx-quiet">click to select</span>
    </>
  );
}
