// Tokens in their sentences, top ones first; a click selects the token in every view.

import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { useApp } from "./app";
import { reading } from "./live";
import { When } from "./panel";
import type { Live } from "./source";
import { told } from "./table";

export interface Hit {
  text: number;
  position: number;
  before: string;
  token: string;
  after: string;
  value: number | null;
}

export function Examples({ hits, name }: { hits: Hit[]; name: string }): JSX.Element {
  const app = useApp();
  const s = app.selection.value;
  const here = (h: Hit) => s.view["text"] === String(h.text) && s.token === h.position;
  return (
    <ul class="tx-contexts tx-examples" aria-label={name}>
      {hits.map((h) => (
        <li key={`${h.text} ${h.position}`}>
          <button
            type="button"
            aria-pressed={here(h)}
            title={`text ${h.text}, token ${h.position}`}
            onClick={() => app.select({ token: h.position, view: { text: String(h.text) } })}
          >
            {h.value !== null && <span class="n">{told(h.value)}</span>}
            <span>
              {h.before}
              <mark>{h.token || "∅"}</mark>
              {h.after}
            </span>
          </button>
        </li>
      ))}
    </ul>
  );
}

interface Answer {
  hits: Hit[];
  n: number;
  [more: string]: any;
}

/** A list of tokens that the worker reads from a store. */
export function Reading({
  title,
  job,
  live,
  note,
}: {
  title: string;
  job: Record<string, unknown>;
  live: Live;
  note: (answer: Answer) => string;
}): JSX.Element {
  const app = useApp();
  const key = JSON.stringify(job);
  const loaded = useMemo(() => app.once(key, () => reading<Answer>(live, job)), [key]).value;
  return (
    <section aria-label={title}>
      <h4>{title}</h4>
      <When loaded={loaded}>
        {(r) => (
          <>
            <p class="tx-quiet">{note(r)}</p>
            <Examples hits={r.hits} name={title} />
          </>
        )}
      </When>
    </section>
  );
}
