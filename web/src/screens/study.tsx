// Screen 1: what is here — runs, what is captured and computed, provenance, problems, and what the rest would
// cost.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { GOES, useApp } from "../app";
import { Choice } from "../panel";
import type { Run, Study } from "../source";
import { Worded } from "../terms";
import { startTour, taken } from "../tour";
import { Runs } from "./captured";

export function StudyScreen(): JSX.Element {
  const app = useApp();
  const c = app.ready!;
  if (!c.studies.length && !c.stores.length)
    return (
      <div class="tx-screen">
        <div class="tx-head">
          <h1>{c.root || "Studies"}</h1>
        </div>
        {c.problems.length > 0 && <Problems />}
        <Nothing />
      </div>
    );
  return (
    <div class="tx-screen">
      <div class="tx-head">
        <h1>{c.root || "Studies"}</h1>
        <p class="tx-quiet">
          {c.studies.length} {c.studies.length === 1 ? "study" : "studies"},{" "}
          {app.source.shell === "app" &&
            `${c.stores.length} captured ${c.stores.length === 1 ? "run" : "runs"};`}{" "}
          Transect {c.version}
          {app.source.live && (
            <button
              type="button"
              class="tx-link"
              onClick={() => {
                app.forget();
                void app.load();
              }}
            >
              look again
            </button>
          )}
          {app.source.shell === "app" && !taken() && (
            <button type="button" class="tx-link" onClick={() => startTour(app)}>
              new here? a tour of six steps
            </button>
          )}
        </p>
      </div>
      {c.problems.length > 0 && <Problems />}
      {c.left_out.length > 0 && (
        <p class="tx-warn">Left out of this file to keep it small: {c.left_out.join(", ")}.</p>
      )}
      {c.studies.length > 0 && <Findings />}
      <Runs />
      <Provenance />
    </div>
  );
}

function Nothing(): JSX.Element {
  const app = useApp();
  return (
    <div class="tx-missing">
      <div class="tx-hatched" aria-hidden="true" />
      <div>
        <h3>Nothing here yet</h3>
        <p class="tx-quiet">This folder holds no study and no captured run.</p>
        <pre>
          <code>
            transect capture smollm2 gsm-test:60 --out runs/smol --sites resid,mlp.act{"\n"}transect drift
            runs/smol --out runs/drift
          </code>
        </pre>
        {app.source.live && (
          <button
            type="button"
            class="tx-go"
            onClick={() => app.select({ screen: "work", view: { form: "drift" } }, false)}
          >
            prepare and start
          </button>
        )}
      </div>
    </div>
  );
}

function Problems(): JSX.Element {
  const app = useApp();
  return (
    <section class="tx-panel tx-problems" aria-label="Problems">
      <header>
        <h3>Problems</h3>
      </header>
      <ul>
        {app.ready!.problems.map((p) => (
          <li key={p.path}>
            <b>{p.path || "."}</b> {p.message} <span class="tx-quiet">{p.fix}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Findings(): JSX.Element {
  const app = useApp();
  return (
    <div class="tx-cards">
      {app.ready!.studies.map((study) => (
        <StudyCard key={study.id} study={study} />
      ))}
    </div>
  );
}

function StudyCard({ study }: { study: Study }): JSX.Element {
  const app = useApp();
  const goes = GOES[study.name];
  const rows = study.tables.reduce((sum, t) => sum + t.rows, 0);
  return (
    <section class="tx-panel" aria-label={`${study.name} study ${study.path}`}>
      <header>
        <h3>
          <span class="tx-kind">{study.name}</span> {study.path}
        </h3>
        {goes && (
          <div class="tx-actions">
            <button type="button" class="tx-go" onClick={() => app.openStudy(study)}>
              open
            </button>
          </div>
        )}
      </header>
      <p class="tx-question">{study.question}</p>
      <Headline study={study} />
      {study.findings.length > 1 && (
        <details>
          <summary>
            {study.findings.length - 1} more {study.findings.length === 2 ? "finding" : "findings"}
          </summary>
          <ul class="tx-findings">
            {study.findings.slice(1).map((f) => (
              <li key={f}>
                <Worded text={f} />
              </li>
            ))}
          </ul>
        </details>
      )}
      {study.warnings.length > 0 && (
        <details class="tx-warnings">
          <summary>
            {study.warnings.length} {study.warnings.length === 1 ? "limit" : "limits"} to know of
          </summary>
          <ul>
            {study.warnings.map((w) => (
              <li key={w}>
                <Worded text={w} />
              </li>
            ))}
          </ul>
        </details>
      )}
      <p class="tx-chips">
        {study.runs.map((r) => (
          <span key={r.name} class="tx-chip">
            <span class="tx-swatch" style={{ background: app.colour(r.name, study) }} />
            {r.name}
          </span>
        ))}
        <span class="tx-quiet">
          {study.tables.length} tables, {rows.toLocaleString("en")} rows
        </span>
      </p>
    </section>
  );
}

/** The first finding of a study with the first of its printed figures. */
function Headline({ study }: { study: Study }): JSX.Element {
  const app = useApp();
  const [failed, setFailed] = useState(false);
  const figure = app.source.shell === "app" ? study.figures[0] : undefined;
  const finding = study.findings[0] ?? "No finding: read the tables.";
  if (!figure || failed)
    return (
      <p class="tx-finding">
        <Worded text={finding} />
      </p>
    );
  return (
    <figure class="tx-headline">
      <figcaption class="tx-finding">
        <Worded text={finding} />
      </figcaption>
      <img
        src={`api/study/${study.id}/figure/${encodeURIComponent(figure.name)}`}
        alt={`${figure.title}. ${figure.caption}`}
        loading="lazy"
        onError={() => setFailed(true)}
      />
    </figure>
  );
}

/** Where a run comes from, in one line. */
function originOf(r: Run): string {
  const more = Object.entries(r.origin).map(([k, v]) => `${k} ${v}`);
  return [
    `${r.spec}, weights ${r.weights}, ${r.dtype}`,
    `${r.texts} (${r.count} texts)`,
    `capture ${r.fingerprint}, ${r.created}`,
    more.join(", "),
  ].join("; ");
}

function Provenance(): JSX.Element {
  const app = useApp();
  const c = app.ready!;
  if (!c.studies.length) return <></>;
  const at = app.selection.value.view["about"] ?? c.studies[0]!.id;
  const study = c.studies.find((s) => s.id === at) ?? c.studies[0]!;
  return (
    <section class="tx-panel" aria-label="Provenance">
      <header>
        <h3>Provenance and methods</h3>
        <div class="tx-actions">
          <Choice
            label="study"
            value={study.id}
            options={c.studies.map((s) => ({ value: s.id, label: `${s.name} ${s.path}` }))}
            onChange={(v) => app.view("about", v)}
          />
        </div>
      </header>
      {study.methods.map((m) => (
        <p key={m} class="tx-method">
          {m}
        </p>
      ))}
      <dl class="tx-facts">
        {Object.entries(study.provenance).map(([k, v]) => (
          <div key={k}>
            <dt>{k}</dt>
            <dd>{typeof v === "object" ? JSON.stringify(v) : String(v)}</dd>
          </div>
        ))}
        {study.runs.map((r) => (
          <div key={r.name}>
            <dt>run {r.name}</dt>
            <dd>{originOf(r)}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
