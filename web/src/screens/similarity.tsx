// Cosine between the tokens of one captured text at the selected layer: computed on demand, in the worker.

import type { JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import { useApp, useStrip, type Loaded } from "../app";
import { heat } from "../charts/heat";
import { reading } from "../live";
import { Choice, Missing, Panel, When } from "../panel";
import { siteAt } from "../sites";
import type { Store, Text } from "../source";
import { visible } from "../strip";
import { told, type Row } from "../table";

interface Answer {
  site: string;
  text: number;
  tokens: string[];
  cosine: number[][];
  mean: number;
  n: number;
  centred: boolean;
}

export function TokenSimilarity(): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const drift = s.screen === "depth" ? app.study("drift") : null;
  const found = app.storeOf(s.a, drift?.runs.some((r) => r.name === s.a) ? drift : null);
  const store = found?.sites.some((n) => n.startsWith("resid")) && !found.pooled ? found : null;
  if (!app.source.live)
    return (
      <Missing what="Similarity of one text's tokens">
        It is computed from captured points, which this file does not hold. Open the folder with transect app.
      </Missing>
    );
  if (!store)
    return (
      <Missing
        what="Similarity of one text's tokens"
        form="capture"
        command="transect capture MODEL TEXTS --sites resid --out DIR"
      >
        The residual stream of run {s.a || "A"} is not in this folder.
      </Missing>
    );
  return <Ready store={store} />;
}

function Ready({ store }: { store: Store }): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const live = app.source.live!;
  const text = Math.min(Number(s.view["text"] ?? 0) || 0, store.texts_held - 1);
  const page = Math.floor(text / 20) * 20;
  const texts = useMemo(
    () => app.once(`${store.id}/texts/${page}`, () => live.texts(store.id, page)),
    [store.id, page],
  ).value;
  const layers = store.sites.filter((n) => n.startsWith("resid"));
  const site = layers.includes(siteAt("resid", s.layer))
    ? siteAt("resid", s.layer)
    : layers[layers.length - 1]!;
  const centred = s.view["centred"] !== "0";
  const loaded: Loaded<Answer> = useMemo(
    () =>
      app.once(`${store.id}/${site}/${text}/${centred}`, () =>
        reading<Answer>(live, { kind: "similarity", store: store.id, site, text, centred }),
      ),
    [store.id, site, text, centred],
  ).value;
  const shown: Text | undefined =
    texts.state === "ready" ? texts.value.texts.find((t) => t.index === text) : undefined;
  useStrip(
    () =>
      shown ? { label: `text ${text}`, tokens: shown.tokens.slice(0, 161).map((t) => ({ text: t })) } : null,
    [shown],
  );
  useEffect(() => {
    if (shown && s.token >= shown.tokens.length) app.select({ token: shown.tokens.length - 1 });
  }, [shown]);
  return (
    <>
      <h2>Tokens of one text at {site}</h2>
      <div class="tx-tools">
        <Choice
          label="text"
          value={String(text)}
          options={Array.from({ length: store.texts_held }, (_, k) => ({
            value: String(k),
            label:
              texts.state === "ready" && texts.value.texts[k - page]
                ? `${k}: ${texts.value.texts[k - page]!.tokens.slice(0, 8).join("").slice(0, 40)}`
                : String(k),
          }))}
          onChange={(v) => app.view("text", v)}
        />
        <Choice
          label="cosine"
          value={centred ? "1" : "0"}
          options={[
            { value: "1", label: "centred on the mean of all tokens" },
            { value: "0", label: "raw" },
          ]}
          onChange={(v) => app.view("centred", v)}
        />
      </div>
      <When loaded={loaded}>{(a) => <Heat a={a} store={store} />}</When>
    </>
  );
}

function Heat({ a, store }: { a: Answer; store: Store }): JSX.Element {
  const app = useApp();
  const s = app.shown.value;
  const most = Math.min(a.tokens.length, 72);
  const keys = a.tokens.slice(0, most).map((_, k) => String(k + 1));
  const cells = keys.flatMap((y, i) =>
    keys.map((x, j) => ({
      x,
      y,
      v: i === j ? null : a.cosine[i]![j]!,
      tip:
        i === j
          ? `${visible(a.tokens[i]!)} with itself`
          : `${visible(a.tokens[i]!)} (${y}) × ${visible(a.tokens[j]!)} (${x})\n` +
            `cosine ${told(a.cosine[i]![j]!)}\none text: no interval`,
    })),
  );
  const rows: Row[] = cells
    .filter((c) => c.v !== null)
    .map((c) => ({
      measure: "cosine",
      site: a.site,
      text: a.text,
      token: Number(c.y),
      token2: Number(c.x),
      value: c.v,
      n: a.n,
      centred: a.centred,
      status: "ok",
    }));
  const at = s.token >= 1 && s.token <= most ? String(s.token) : undefined;
  const step = most > 40 ? 2 : 1;
  const name = (k: string, i: number) => (i % step ? null : visible(a.tokens[Number(k) - 1]!).slice(0, 12));
  const reading_ = at
    ? a.cosine[Number(at) - 1]!.map((v, j) => ({ v, j }))
        .filter((d) => d.j !== Number(at) - 1)
        .sort((p, q) => q.v - p.v)
        .slice(0, 5)
    : [];
  return (
    <Panel
      id="token-similarity"
      wide
      title={`Cosine between tokens, ${store.name}, ${a.site}, text ${a.text}`}
      study={null}
      rows={rows}
      onPick={(c) => app.select({ token: Number(c.y) })}
      caption={
        <>
          Mean off the diagonal {told(a.mean)} (n = {a.n} tokens of one text; no interval, no null). The first
          token is left out{a.tokens.length > most ? `, and tokens after ${most} are in the CSV only` : ""};
          hatched: a token with itself.{" "}
          {at && (
            <>
              Closest to <b>{visible(a.tokens[Number(at) - 1]!)}</b>:{" "}
              {reading_.map((d) => `${visible(a.tokens[d.j]!)} ${told(d.v)}`).join(", ")}.
            </>
          )}
        </>
      }
      draw={(width) =>
        heat({
          cells,
          xs: keys,
          ys: keys,
          xticks: name,
          yticks: name,
          width: Math.min(width, 900),
          kind: "difference",
          domain: [-1, 1],
          xlabel: "",
          ylabel: "",
          bar: "cosine",
          selected: { y: at },
          slanted: true,
          label: `cosine between the tokens of text ${a.text} at ${a.site}`,
        })
      }
    />
  );
}
