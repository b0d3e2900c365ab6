// Screen 7: work — choose points, a study and its options; see what it costs and how it is typed; start it.

import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { useApp, type Loaded } from "../app";
import { Choice, Copy, Failure, Missing, When } from "../panel";
import type { Live } from "../source";
import * as work from "../work";
import { Tasks } from "./tasks";

export function WorkScreen(): JSX.Element {
  const app = useApp();
  const live = app.source.live;
  if (!live)
    return (
      <div class="tx-screen">
        <div class="tx-head">
          <h1>Work</h1>
        </div>
        <Missing what="Work" command="transect app runs">
          This file holds results only. The app starts captures and studies.
        </Missing>
      </div>
    );
  return (
    <div class="tx-screen">
      <div class="tx-head">
        <h1>Work</h1>
        <p class="tx-quiet">
          Commands run one after the other on this machine and go on when this page is closed.
        </p>
      </div>
      <div class="tx-grid tx-two">
        <Start live={live} />
        <Tasks />
      </div>
    </div>
  );
}

function Start({ live }: { live: Live }): JSX.Element {
  const app = useApp();
  const offer: Loaded<work.Offer> = useMemo(() => app.once("offer", () => live.offer()), []).value;
  return (
    <section class="tx-panel" aria-label="Start">
      <header>
        <h3>Start</h3>
      </header>
      <When loaded={offer}>{(o) => <Filled live={live} offer={o} />}</When>
    </section>
  );
}

function Filled({ live, offer }: { live: Live; offer: work.Offer }): JSX.Element {
  const app = useApp();
  const [draft, setDraft] = useState(work.keptDraft);
  const asked = app.selection.value.view["form"] ?? "";
  const form = offer.forms.find((f) => f.name === asked) ?? offer.forms.find((f) => f.name === "drift")!;
  const stores = app.ready!.stores;
  const known = draft.stores.filter((p) => stores.some((s) => s.path === p));
  const chosen = known.length
    ? known
    : stores[0]
      ? [app.run(app.selection.value.a)?.store?.path ?? stores[0].path]
      : [];
  const filled = { ...draft, stores: chosen, fresh: draft.fresh || !stores.length };
  const change = (to: Partial<work.Draft>) => {
    const next = { ...draft, ...to };
    work.keepDraft(next);
    setDraft(next);
  };
  const place = work.placeOf(form);
  const points = form.name !== "capture" && place?.name !== "model" && place?.name !== "adapter";
  const own = draft.values[form.name] ?? {};
  const setOwn = (values: work.Values) => change({ values: { ...draft.values, [form.name]: values } });
  const model = form.name === "capture" || (points && filled.fresh);
  const hidden = new Set(form.name === "capture" ? ["model", "texts"] : points ? [place!.name] : []);
  const fields = form.fields.filter((f) => !hidden.has(f.name));
  return (
    <form class="tx-form" onSubmit={(e) => e.preventDefault()}>
      <Choice
        label="what"
        value={form.name}
        options={offer.forms.map((f) => ({ value: f.name, label: f.words.join(" ") }))}
        onChange={(v) => app.view("form", v)}
      />
      <p class="tx-quiet">{form.help}</p>
      {points && (
        <fieldset>
          <legend>points</legend>
          <label>
            <input
              type="radio"
              name="tx-points"
              checked={!filled.fresh}
              disabled={!stores.length}
              onChange={() => change({ fresh: false })}
            />
            captured here
          </label>
          <label>
            <input
              type="radio"
              name="tx-points"
              checked={filled.fresh}
              onChange={() => change({ fresh: true })}
            />
            capture first
          </label>
          {!filled.fresh && (
            <Stores several={place!.several} chosen={chosen} change={(paths) => change({ stores: paths })} />
          )}
        </fieldset>
      )}
      {model && (
        <div class="tx-fields">
          {(["model", "texts"] as const).map((name) => (
            <label key={name} class="tx-field">
              <span>{name}</span>
              <input
                list={`tx-${name}`}
                value={String(draft.capture[name] ?? "")}
                placeholder={offer[name === "model" ? "models" : "texts"][0]}
                onInput={(e) => change({ capture: { ...draft.capture, [name]: e.currentTarget.value } })}
              />
              <datalist id={`tx-${name}`}>
                {offer[name === "model" ? "models" : "texts"].map((v) => (
                  <option key={v} value={v} />
                ))}
              </datalist>
            </label>
          ))}
        </div>
      )}
      <Fields fields={fields.filter((f) => f.required)} values={own} change={setOwn} />
      <details>
        <summary>options ({fields.filter((f) => !f.required).length})</summary>
        <Fields fields={fields.filter((f) => !f.required)} values={own} change={setOwn} />
      </details>
      <label class="tx-field">
        <span>folder</span>
        <input
          value={draft.out}
          placeholder="named after the points"
          onInput={(e) => change({ out: e.currentTarget.value })}
        />
      </label>
      <Plan key={form.name} live={live} offer={offer} wanted={work.wantedOf(form, filled)} />
    </form>
  );
}

function Stores({
  several,
  chosen,
  change,
}: {
  several: boolean;
  chosen: string[];
  change: (paths: string[]) => void;
}): JSX.Element {
  const app = useApp();
  return (
    <div class="tx-stores">
      {app.ready!.stores.map((s) => (
        <label key={s.path}>
          <input
            type={several ? "checkbox" : "radio"}
            name="tx-store"
            checked={chosen.includes(s.path)}
            onChange={(e) => {
              const others = several ? chosen.filter((p) => p !== s.path) : [];
              change(e.currentTarget.checked ? [...others, s.path] : others);
            }}
          />
          {s.path}{" "}
          <span class="tx-quiet">
            {s.texts}, {s.rows.toLocaleString("en")} points
          </span>
        </label>
      ))}
    </div>
  );
}

function Fields({
  fields,
  values,
  change,
}: {
  fields: work.Field[];
  values: work.Values;
  change: (values: work.Values) => void;
}): JSX.Element {
  return (
    <div class="tx-fields">
      {fields.map((f) => {
        // Python's words for a flag: what its default is compared with
        const usual =
          f.default === null
            ? ""
            : typeof f.default === "boolean"
              ? f.default
                ? "True"
                : "False"
              : String(f.default);
        const given = values[f.name];
        const text = Array.isArray(given) ? given.join(", ") : String(given ?? "");
        const set = (v: string) =>
          change({
            ...values,
            [f.name]: f.several
              ? v
                  .split(",")
                  .map((p) => p.trim())
                  .filter(Boolean)
              : v,
          });
        const common = {
          value: text,
          placeholder: usual || (f.required ? "needed" : "by default"),
          onInput: (e: { currentTarget: HTMLInputElement }) => set(e.currentTarget.value),
        };
        return (
          <label key={f.name} class="tx-field" title={f.help}>
            <span>{f.name.replaceAll("_", " ")}</span>
            {f.shape === "choice" || f.shape === "flag" ? (
              <select value={text || usual} onChange={(e) => set(e.currentTarget.value)}>
                {usual === "" && <option value="">by default</option>}
                {(f.shape === "flag" ? ["True", "False"] : f.choices).map((c) => (
                  <option key={c} value={c}>
                    {f.shape === "flag" ? (c === "True" ? "yes" : "no") : c}
                  </option>
                ))}
              </select>
            ) : f.shape === "text" ? (
              <input type="text" {...common} />
            ) : (
              <input
                type="number"
                step={f.shape === "whole" ? 1 : "any"}
                min={f.least ?? undefined}
                max={f.most ?? undefined}
                {...common}
              />
            )}
            <small>{f.help}</small>
          </label>
        );
      })}
    </div>
  );
}

/** What would run, what it costs and how it is typed; asked for a moment after the last change. */
function Plan({ live, offer, wanted }: { live: Live; offer: work.Offer; wanted: work.Wanted }): JSX.Element {
  const app = useApp();
  const [plan, setPlan] = useState<Loaded<work.Step[]>>({ state: "loading" });
  const [busy, setBusy] = useState(false);
  const said = JSON.stringify(wanted);
  const needs = work.lacking(offer.forms, wanted);
  useEffect(() => {
    if (needs.length) return;
    let current = true;
    const later = setTimeout(() => {
      live.plan(wanted).then(
        (value) => current && setPlan({ state: "ready", value }),
        (error) => current && setPlan({ state: "failed", message: error.message, fix: error.fix ?? "" }),
      );
    }, 250);
    return () => {
      current = false;
      clearTimeout(later);
    };
  }, [said]);
  const start = async () => {
    setBusy(true);
    try {
      await live.start(wanted);
      app.said.value = "In line.";
      await app.line!.look();
    } catch (error) {
      setPlan({ state: "failed", message: (error as Error).message, fix: "" });
    }
    setBusy(false);
  };
  if (needs.length) return <p class="tx-quiet">Still needed: {needs.join(", ")}.</p>;
  if (plan.state === "failed") return <Failure message={plan.message} fix={plan.fix} />;
  if (plan.state === "loading") return <p class="tx-quiet">…</p>;
  const typed = [`cd ${offer.folder}`, ...plan.value.map((s) => s.command)].join("\n");
  return (
    <div class="tx-plan">
      <dl class="tx-facts">
        {plan.value.map((s) => (
          <div key={s.out}>
            <dt>
              {s.name} → {s.out}
            </dt>
            <dd>
              <b>{s.seconds === null ? "time not known" : `about ${work.duration(s.seconds)}`}</b>
              {s.bytes !== null && `, ${work.bytes(s.bytes)}`} <span class="tx-quiet">({s.why})</span>
            </dd>
          </div>
        ))}
      </dl>
      <pre class="tx-command" tabIndex={0} aria-label="the same on the command line">
        <code>{typed}</code>
      </pre>
      <div class="tx-actions">
        <button type="button" class="tx-go" disabled={busy} onClick={() => void start()}>
          start
        </button>
        <Copy text={typed} />
      </div>
    </div>
  );
}
