// Runs against what is captured and computed, and what the rest would cost.

import type { JSX } from "preact";
import { GOES, useApp } from "../app";
import type { Estimate } from "../source";
import { bytes, duration } from "../work";

const KINDS = ["drift", "compare", "manifold", "neurons", "tokens", "evolve"] as const;

/** Runs against what is captured and computed; what is not is hatched and says what it would cost. */
export function Runs(): JSX.Element {
  const app = useApp();
  const c = app.ready!;
  const runs = app.captures.value;
  const families = [...new Set(runs.flatMap((r) => Object.keys(r.families)))];
  const kinds = KINDS.filter((k) => (k !== "tokens" && k !== "evolve") || app.studies(k).length);
  const cost = (store: string | undefined, study: string): Estimate | undefined =>
    c.estimates.find((e) => e.store === store && e.study === study);
  return (
    <section class="tx-panel" aria-label="Runs">
      <header>
        <h3>Runs: what is captured, what is computed</h3>
      </header>
      <div class="tx-numbers tx-still" tabIndex={0} role="region" aria-label="Runs table">
        <table class="tx-runs-table">
          <thead>
            <tr>
              <th scope="col">run</th>
              <th scope="col">model</th>
              <th scope="col">texts</th>
              <th scope="col">points</th>
              {families.map((f) => (
                <th scope="col" key={f}>
                  {f}
                </th>
              ))}
              {kinds.map((k) => (
                <th scope="col" key={k}>
                  {k}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {runs.map((r) => (
              <tr key={r.fingerprint} aria-current={r.key === app.selection.value.a ? "true" : undefined}>
                <th scope="row">
                  <button
                    type="button"
                    class="tx-link"
                    onClick={() =>
                      app.select({
                        a: r.key,
                        b: app.selection.value.b === r.key ? "" : app.selection.value.b,
                      })
                    }
                  >
                    <span class="tx-swatch" style={{ background: app.colour(r.name) }} />
                    {r.key}
                  </button>
                </th>
                <td>
                  {r.spec}
                  <span class="tx-quiet"> {r.weights.slice(0, 8)}</span>
                </td>
                <td>
                  {r.texts}
                  {r.control && ` (${r.control})`}
                </td>
                <td class="n">
                  {r.store ? (
                    <>
                      {r.store.rows.toLocaleString("en")}
                      <span class="tx-quiet"> {bytes(r.store.bytes)}</span>
                    </>
                  ) : (
                    <span class="tx-none">not in this {app.source.shell === "app" ? "folder" : "file"}</span>
                  )}
                </td>
                {families.map((f) => (
                  <td key={f} class={r.families[f] ? "" : "tx-hatch-cell"}>
                    {r.families[f] ? (
                      `${r.families[f]!.sites} × ${r.families[f]!.width}`
                    ) : (
                      <span class="tx-none">not captured</span>
                    )}
                  </td>
                ))}
                {kinds.map((k) => {
                  const done = app
                    .studies(k)
                    .find((x) => x.runs.some((y) => y.fingerprint === r.fingerprint));
                  if (done)
                    return (
                      <td key={k}>
                        <button
                          type="button"
                          class="tx-link"
                          onClick={() =>
                            app.select({
                              screen: GOES[k]!,
                              a: r.key,
                              view: { [k]: done.id, ...(GOES[k] === "depth" && { depth: k }) },
                            })
                          }
                        >
                          computed
                        </button>
                      </td>
                    );
                  const e = cost(r.store?.id, k);
                  return (
                    <td
                      key={k}
                      class="tx-hatch-cell"
                      title={e ? [e.why, e.fix, e.command].filter(Boolean).join("\n") : ""}
                    >
                      <span class="tx-none">
                        {e?.seconds && app.source.live && (
                          <button
                            type="button"
                            class="tx-link"
                            aria-label={`start ${k} of ${r.key}`}
                            onClick={() => app.select({ screen: "work", a: r.key, view: { form: k } }, false)}
                          >
                            start
                          </button>
                        )}{" "}
                        {e?.seconds ? `about ${duration(e.seconds)}` : e ? e.why : "not computed"}
                      </span>
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="tx-caption">
        Hatched: not captured or not computed, with a rough cost on one core. Hover for the command.
      </p>
    </section>
  );
}
