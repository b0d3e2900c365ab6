// One neuron: where it is, what it is close to, where it is largest — from the study, and from captured
// points on demand.

import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { useApp, useTable } from "../app";
import { Examples, type Hit } from "../examples";
import { reading } from "../live";
import { When } from "../panel";
import { layerOf } from "../sites";
import type { Study } from "../source";
import { num, str, told, type Row } from "../table";
import { stressLine, type Layout } from "../points/layout";

interface Reading {
  site: string;
  neuron: number;
  n: number;
  n_texts: number;
  mean: number;
  sd: number;
  kurtosis: number | null;
  zero: number;
  head: number | null;
  largest: Hit[];
  smallest: Hit[];
  nearest: { neuron: number; rho: number }[];
}

/** The closest neurons on the map: straight-line distance, which estimates 1 − ρ. */
export function neighbours(
  layout: Layout,
  site: string,
  neuron: number,
  most = 6,
): { neuron: number; distance: number }[] {
  const block = layout.blocks.find((b) => b.site === site);
  if (!block || neuron >= block.count) return [];
  const at = 3 * (block.start + neuron);
  const found = [];
  for (let i = 0; i < block.count; i++) {
    if (i === neuron) continue;
    const j = 3 * (block.start + i);
    found.push({
      neuron: i,
      distance: Math.hypot(
        layout.points[j]! - layout.points[at]!,
        layout.points[j + 1]! - layout.points[at + 1]!,
        layout.points[j + 2]! - layout.points[at + 2]!,
      ),
    });
  }
  return found.sort((p, q) => p.distance - q.distance).slice(0, most);
}

export function NeuronDetails({
  study,
  site,
  layout,
  run,
  fit,
  activation,
}: {
  study: Study | null;
  site: string;
  layout: Layout;
  run: string;
  fit?: Row;
  activation?: { value: number; level: number } | null;
}): JSX.Element {
  const app = useApp();
  const s = app.selection.value;
  const count = layout.blocks.find((b) => b.site === site)?.count ?? 0;
  const neuron = s.neuron !== null && s.neuron < count ? s.neuron : null;
  return (
    <aside class="tx-panel tx-details" aria-label="Neuron">
      <header>
        <h3>
          {neuron === null ? (
            site
          ) : (
            <>
              {site} · {neuron}
            </>
          )}
        </h3>
        <label class="tx-choice">
          <span>neuron</span>
          <input
            type="number"
            min={0}
            max={count - 1}
            value={neuron ?? ""}
            placeholder={`0 … ${count - 1}`}
            onChange={(e) => {
              const v = (e.currentTarget as HTMLInputElement).value;
              app.select({ neuron: v === "" ? null : Math.min(count - 1, Math.max(0, Number(v))) });
            }}
          />
        </label>
      </header>
      {fit && (
        <p class="tx-caption">
          {stressLine(fit)}. {num(fit["constant"]) ? `${told(fit["constant"])} neurons never change.` : ""}
        </p>
      )}
      {activation && (
        <p class="tx-big-number">
          <span
            style={{
              color:
                activation.value === 0
                  ? "inherit"
                  : activation.value < 0
                    ? "var(--tx-negative)"
                    : "var(--tx-positive)",
            }}
          >
            {told(activation.value, 4)}
          </span>
          <span class="tx-quiet"> activation at this token; drawn against {told(activation.level)}</span>
        </p>
      )}
      {neuron === null ? (
        <p class="tx-quiet">Click a point, or type a number. [ and ] step through neurons.</p>
      ) : (
        <>
          <Known study={study} site={site} neuron={neuron} />
          {study && (
            <>
              <h4>
                Closest on the map <span class="tx-quiet">distance ≈ 1 − ρ</span>
              </h4>
              <p class="tx-list">
                {neighbours(layout, site, neuron).map((n) => (
                  <button
                    key={n.neuron}
                    type="button"
                    class="tx-link"
                    onClick={() => app.select({ neuron: n.neuron })}
                  >
                    {n.neuron} <span class="tx-quiet">{told(n.distance, 2)}</span>
                  </button>
                ))}
              </p>
            </>
          )}
          <FromPoints study={study} site={site} neuron={neuron} run={run} />
        </>
      )}
    </aside>
  );
}

/** What the study itself says of this neuron: its card, its pole, whether its block is repeated. */
function Known({ study, site, neuron }: { study: Study | null; site: string; neuron: number }): JSX.Element {
  const cards = useTable(study, "cards"),
    poles = useTable(study, "poles"),
    repeats = useTable(study, "repeats");
  const card =
    cards.state === "ready"
      ? cards.value?.rows.find((r) => r["site"] === site && r["neuron"] === neuron)
      : undefined;
  const pole =
    poles.state === "ready"
      ? poles.value?.rows.find(
          (r, k) => r["site"] === site && poles.value!.list("neurons", k).includes(neuron),
        )
      : undefined;
  const repeat = repeats.state === "ready" ? repeats.value?.rows.find((r) => r["site"] === site) : undefined;
  return (
    <>
      {pole && (
        <p>
          At the {str(pole["pole"])} end of this map's long axis: mean ρ within {told(pole["value"])}, with
          the other end {told(pole["between"])} (n = {told(pole["n"])}).
        </p>
      )}
      {card && (
        <p>
          Top token in context: <q>{str(card["context"])}</q> ({told(card["top"])})
        </p>
      )}
      {repeat && (
        <p class="tx-quiet">
          Neurons of this block are matched in {str(repeat["site2"])} by a mean largest |ρ| of{" "}
          {told(repeat["value"])} (shuffled {told(repeat["null"])}, n = {told(repeat["n"])}).
        </p>
      )}
    </>
  );
}

function FromPoints({
  study,
  site,
  neuron,
  run,
}: {
  study: Study | null;
  site: string;
  neuron: number;
  run: string;
}): JSX.Element {
  const app = useApp();
  const store = app.storeOf(run, study, site);
  const can = app.source.live !== null && store?.sites.includes(site);
  const loaded = useMemo(
    () =>
      can
        ? app.once(`${store!.id}/neuron/${site}/${neuron}`, () =>
            reading<Reading>(app.source.live!, { kind: "neuron", store: store!.id, site, neuron }),
          )
        : null,
    [store?.id, site, neuron, can],
  );
  if (!loaded)
    return (
      <p class="tx-none">
        Its tokens and correlations need the captured points, which{" "}
        {app.source.live ? "this folder does not hold" : "this file does not bring"}.
      </p>
    );
  return (
    <When loaded={loaded.value}>
      {(r) => (
        <>
          <dl class="tx-facts">
            <div>
              <dt>mean ± sd</dt>
              <dd>
                {told(r.mean)} ± {told(r.sd)}
              </dd>
            </div>
            <div>
              <dt>excess kurtosis</dt>
              <dd>{told(r.kurtosis)}</dd>
            </div>
            <div>
              <dt>exactly zero</dt>
              <dd>{(r.zero * 100).toFixed(1)} %</dd>
            </div>
            {r.head !== null && (
              <div>
                <dt>head</dt>
                <dd>{r.head}</dd>
              </div>
            )}
            <div>
              <dt>n</dt>
              <dd>
                {r.n.toLocaleString("en")} tokens, {r.n_texts} texts; no interval
              </dd>
            </div>
          </dl>
          <h4>Largest</h4>
          <Examples hits={r.largest} name="tokens" />
          <h4>Smallest</h4>
          <Examples hits={r.smallest} name="tokens" />
          <h4>Strongest correlations in its block</h4>
          <p class="tx-list">
            {r.nearest.map((n) => (
              <button
                key={n.neuron}
                type="button"
                class="tx-link"
                onClick={() => app.select({ neuron: n.neuron, layer: layerOf(site) })}
              >
                {n.neuron} <span class="tx-quiet">ρ {told(n.rho, 2)}</span>
              </button>
            ))}
          </p>
        </>
      )}
    </When>
  );
}
