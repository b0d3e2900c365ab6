// Screen 6: the tokens behind the points — a cloud of every token, the sentence of the selected one, its
// neighbours in the original space, what moves most, and a search.

import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useApp, useStrip, type Loaded } from "../app";
import { Examples, Reading, type Hit } from "../examples";
import { reading } from "../live";
import { Choice, Missing, Panel, When } from "../panel";
import { CloudView } from "../points/cloud";
import { litValues, tints, unpackCloud, type Cloud, type Lit } from "../points/clouds";
import { layerOf, parse } from "../sites";
import type { Live, Store, Text } from "../source";
import { told } from "../table";

/** The captured tokens of run A, or B. */
function useStore(which: "a" | "b"): Store | null {
  const app = useApp();
  const run = app.run(app.selection.value[which]);
  const found = run?.store ?? (run ? app.storeOf(run.name, null) : null);
  return found && !found.pooled ? found : null;
}

export function TextScreen(): JSX.Element {
  const app = useApp();
  const live = app.source.live;
  const a = useStore("a"),
    b = useStore("b");
  return (
    <div class="tx-screen">
      <div class="tx-head">
        <h1>Text</h1>
        <p class="tx-quiet">The tokens behind the points. Choose a run B to see two side by side.</p>
      </div>
      {!live && (
        <Missing what="The tokens behind the points" command="transect app DIR">
          They are read from captured points, which this file does not hold.
        </Missing>
      )}
      {live && !a && (
        <Missing
          what="The tokens behind the points"
          form="capture"
          command="transect capture MODEL TEXTS --out DIR"
        >
          The points of run A are not in this folder.
        </Missing>
      )}
      {live && a && <Ready live={live} a={a} b={b && b.id !== a.id ? b : null} />}
    </div>
  );
}

/** The site of the selected layer: of the family that was asked for, where it was captured. */
function siteOf(store: Store, family: string, layer: number): string {
  const kin = (f: string) => store.sites.filter((s) => parse(s).family === f);
  const own = kin(family).length ? kin(family) : kin("resid").length ? kin("resid") : store.sites;
  return own.find((s) => layerOf(s) === layer) ?? own[own.length - 1]!;
}

function Ready({ live, a, b }: { live: Live; a: Store; b: Store | null }): JSX.Element {
  const app = useApp();
  const s = app.selection.value;
  const site = siteOf(a, s.family, s.layer);
  const both = b?.sites.includes(site) ? b : null;
  const unit = s.view["norm"] !== "raw";
  const at: Lit = { text: Math.min(Number(s.view["text"] ?? 0) || 0, a.texts_held - 1), position: s.token };
  const [hits, setHits] = useState<Hit[]>([]);
  return (
    <>
      <div class="tx-tools">
        <Choice
          label="points"
          value={unit ? "unit" : "raw"}
          options={[
            { value: "unit", label: "unit norm" },
            { value: "raw", label: "raw" },
          ]}
          onChange={(v) => app.view("norm", v)}
        />
        {a.labels.length > 0 && (
          <Choice
            label="colour by"
            value={s.view["label"] ?? ""}
            options={[{ value: "", label: "position" }, ...a.labels.map((l) => ({ value: l, label: l }))]}
            onChange={(v) => app.select({ view: { label: v, value: "" } })}
          />
        )}
      </div>
      <div class="tx-beside">
        <div>
          <Clouds live={live} stores={both ? [a, both] : [a]} site={site} unit={unit} at={at} hits={hits} />
          <Sentence live={live} store={a} at={at} />
        </div>
        <aside class="tx-panel tx-details" aria-label="Examples">
          <Search live={live} store={a} found={setHits} />
          <Reading
            title={`Closest to the selected token at ${site}`}
            job={{
              kind: "nearest",
              store: a.id,
              site,
              unit,
              text: at.text,
              position: Math.max(1, at.position),
            }}
            live={live}
            note={(r) =>
              `distance among ${told(r.n)} tokens in all ${r.width} dimensions, other texts only; ` +
              "one token: no interval"
            }
          />
          <Reading
            title={`Tokens that move most from ${site}`}
            job={{ kind: "moved", store: a.id, site, unit }}
            live={live}
            note={(r) =>
              `distance to ${r.site2}; median of ${r.n.toLocaleString("en")} tokens ${told(r.median)}`
            }
          />
        </aside>
      </div>
    </>
  );
}

function Clouds({
  live,
  stores,
  site,
  unit,
  at,
  hits,
}: {
  live: Live;
  stores: Store[];
  site: string;
  unit: boolean;
  at: Lit;
  hits: Hit[];
}): JSX.Element {
  const app = useApp();
  const ids = stores.map((x) => x.id);
  const key = `cloud/${ids.join("/")}/${site}/${unit}`;
  const loaded: Loaded<Cloud> = useMemo(
    () =>
      app.once(key, async () => {
        const job = await live.submit({ kind: "cloud", stores: ids, site, unit });
        await finished(live, job.id);
        return unpackCloud(await live.file(job.id));
      }),
    [key],
  ).value;
  return (
    <When loaded={loaded}>
      {(c) => <Drawn live={live} store={stores[0]!} cloud={c} at={at} hits={hits} />}
    </When>
  );
}

const finished = (live: Live, id: string): Promise<void> =>
  new Promise((done, fail) => {
    const stop = live.follow(id, (event) => {
      if (event.type === "done") done();
      else if (event.type === "failed" || event.type === "cancelled") {
        stop();
        fail(new Error(event["message"] ?? "Cancelled."));
      }
    });
  });

function Drawn({
  live,
  store,
  cloud,
  at,
  hits,
}: {
  live: Live;
  store: Store;
  cloud: Cloud;
  at: Lit;
  hits: Hit[];
}): JSX.Element {
  const app = useApp();
  const { label = "", value = "" } = app.selection.value.view;
  const tint = useMemo(() => tints(cloud, label), [cloud, label]);
  const values = useMemo(() => litValues(cloud, hits, label, value), [cloud, hits, label, value]);
  const take = useRef<(() => { url: string; width: number; height: number } | null) | null>(null);
  const shares = cloud.runs.map(
    (r) => `${r.run} ${r.share.map((v) => `${Math.round(100 * v)} %`).join(", ")}`,
  );
  const left = cloud.runs
    .filter((r) => r.n < r.all)
    .map((r) => `${r.n.toLocaleString("en")} of ${r.all} drawn`);
  const turned = cloud.runs.some((r) => r.turned) ? " B is turned onto A by the tokens they share." : "";
  return (
    <Panel
      id="cloud"
      wide
      title={`Every token at ${cloud.site}, ${cloud.unit ? "unit norm" : "raw"}`}
      study={null}
      image={() => take.current?.() ?? null}
      caption={
        `First three principal axes of each run, with their share of variance (${shares.join("; ")}).` +
        `${turned} ` +
        `A picture and no test: distances on it are not those of the list. ${left.join("; ")}`
      }
    >
      <CloudView
        cloud={cloud}
        tint={tint}
        values={values}
        selected={at}
        onSelect={(to) => app.select({ token: to.position, view: { text: String(to.text) } })}
        card={(to, run) => <Card live={live} store={store} at={to} run={run} />}
        grab={(t) => {
          take.current = t;
        }}
      />
    </Panel>
  );
}

/** Twenty texts, as the server sends them; kept. */
function useText(live: Live, store: Store, text: number): Text | null {
  const app = useApp();
  const page = Math.floor(text / 20) * 20;
  const loaded = useMemo(
    () => app.once(`${store.id}/texts/${page}`, () => live.texts(store.id, page)),
    [store.id, page],
  ).value;
  return loaded.state === "ready" ? (loaded.value.texts.find((t) => t.index === text) ?? null) : null;
}

function Card({ live, store, at, run }: { live: Live; store: Store; at: Lit; run: string }): JSX.Element {
  const found = useText(live, store, at.text);
  const tokens = found?.tokens ?? [];
  return (
    <>
      <b>{run}</b>{" "}
      <span class="tx-quiet">
        text {at.text}, token {at.position}
      </span>
      <br />
      {tokens.slice(Math.max(0, at.position - 10), at.position).join("")}
      <mark>{tokens[at.position] ?? "…"}</mark>
      {tokens.slice(at.position + 1, at.position + 6).join("")}
    </>
  );
}

/** The whole text of the selected token; its tokens are the strip below. */
function Sentence({ live, store, at }: { live: Live; store: Store; at: Lit }): JSX.Element {
  const app = useApp();
  const text = useText(live, store, at.text);
  useStrip(
    () => (text ? { label: `text ${at.text}`, tokens: text.tokens.map((t) => ({ text: t })) } : null),
    [text],
  );
  useEffect(() => {
    if (text && at.position >= text.tokens.length) app.select({ token: text.tokens.length - 1 });
  }, [text]);
  return (
    <section class="tx-panel" aria-label="Selected text">
      <header>
        <h3>
          Text {at.text} <span class="tx-quiet">{text?.id}</span>
        </h3>
        <div class="tx-actions">
          {[-1, 1].map((by) => (
            <button
              key={by}
              type="button"
              disabled={at.text + by < 0 || at.text + by >= store.texts_held}
              onClick={() => app.view("text", String(at.text + by))}
            >
              {by < 0 ? "text before" : "next text"}
            </button>
          ))}
        </div>
      </header>
      {text && (
        <p class="tx-said-text tx-sentence" tabIndex={0} role="region" aria-label="text">
          {text.tokens.slice(0, at.position).join("")}
          <mark>{text.tokens[at.position]}</mark>
          {text.tokens.slice(at.position + 1).join("")}
        </p>
      )}
    </section>
  );
}

function Search({
  live,
  store,
  found,
}: {
  live: Live;
  store: Store;
  found: (hits: Hit[]) => void;
}): JSX.Element {
  const app = useApp();
  const { find = "", label = "", value = "" } = app.selection.value.view;
  const values = useMemo(() => app.once(`${store.id}/labels`, () => live.labels(store.id)), [store.id]).value;
  const [result, setResult] = useState<Loaded<{ count: number; texts: number; hits: Hit[] }> | null>(null);
  useEffect(() => {
    if (!find.trim() && !(label && value)) {
      setResult(null);
      found([]);
      return;
    }
    let current = true;
    const later = setTimeout(() => {
      setResult({ state: "loading" });
      const asked = { kind: "search", store: store.id, words: find, label: value ? label : "", value };
      reading<{ count: number; texts: number; hits: Hit[] }>(live, asked).then(
        (answer) => {
          if (!current) return;
          setResult({ state: "ready", value: answer });
          found(find.trim() ? answer.hits : []);
        },
        (error) => current && setResult({ state: "failed", message: error.message, fix: error.fix ?? "" }),
      );
    }, 300);
    return () => {
      current = false;
      clearTimeout(later);
    };
  }, [find, label, value, store.id]);
  return (
    <section aria-label="Search">
      <label class="tx-field">
        <span>search tokens and texts</span>
        <input
          type="search"
          value={find}
          placeholder="a word, or the beginning of one"
          onInput={(e) => app.view("find", e.currentTarget.value)}
        />
      </label>
      {label && values.state === "ready" && values.value[label] && (
        <Choice
          label={`texts whose ${label} is`}
          value={value}
          options={[{ value: "", label: "anything" }, ...values.value[label]]}
          onChange={(v) => app.view("value", v)}
        />
      )}
      {result && (
        <When loaded={result}>
          {(r) => (
            <>
              <p class="tx-quiet" role="status">
                {r.count.toLocaleString("en")} {find.trim() ? "places" : "texts"} in{" "}
                {r.texts.toLocaleString("en")} texts
                {r.hits.length < r.count && `, the first ${r.hits.length} listed and lit`}
              </p>
              <Examples hits={r.hits.slice(0, 40)} name="found" />
            </>
          )}
        </When>
      )}
    </section>
  );
}
