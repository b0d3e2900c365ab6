// Words that explain themselves: a term shows its meaning, formula and source on hover and focus.

import { signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import type { Term as Entry } from "./source";
import { words } from "./words";

interface Shown {
  title: string;
  meaning: string;
  formula: string;
  source: string;
  x: number;
  y: number;
  above: boolean;
}
const shown = signal<Shown | null>(null);

const hide = (): void => {
  shown.value = null;
};
function show(on: HTMLElement, what: Omit<Shown, "x" | "y" | "above">): void {
  const box = on.getBoundingClientRect();
  const above = box.bottom > innerHeight - 190;
  const x = Math.max(8, Math.min(box.left, innerWidth - 340));
  shown.value = { ...what, x, y: above ? innerHeight - box.top + 4 : box.bottom + 4, above };
}

/** Ways of writing a term in a sentence, where they are not its name. */
const SPELLED: Record<string, string[]> = {
  "max-T p": ["max-T"],
  "Holm p": ["Holm's p", "p holm"],
  "unit norm": ["unit-norm", "unit norm"],
};
/** Terms that are everyday words too: marked only where a view says so. */
const PLAIN = new Set(["reference", "control", "block", "added", "share", "resid", "design"]);

/** Pieces of a text: the first of each term apart. */
export function cut(text: string, terms: Entry[]): (string | { term: Entry; text: string })[] {
  const known = terms
    .filter((t) => !PLAIN.has(t.name))
    .flatMap((t) =>
      (SPELLED[t.name] ?? [t.name]).map((spelling) => ({ spelling: spelling.toLowerCase(), t })),
    );
  if (!known.length) return [text];
  const any = known
    .map((k) => k.spelling.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
    .sort((p, q) => q.length - p.length)
    .join("|");
  const out: (string | { term: Entry; text: string })[] = [];
  const seen = new Set<string>();
  let at = 0;
  for (const m of text.matchAll(new RegExp(`(?<![\\w-])(?:${any})(?![\\w-])`, "gi"))) {
    const term = known.find((k) => k.spelling === m[0].toLowerCase())!.t;
    if (seen.has(term.name)) continue;
    seen.add(term.name);
    if (m.index > at) out.push(text.slice(at, m.index));
    out.push({ term, text: m[0] });
    at = m.index + m[0].length;
  }
  if (at < text.length) out.push(text.slice(at));
  return out;
}

/** A text whose terms explain themselves. */
export function Worded({ text }: { text: string }): JSX.Element {
  return (
    <>
      {cut(text, words.value.terms).map((part, k) =>
        typeof part === "string" ? part : <Term key={k} name={part.term.name} text={part.text} />,
      )}
    </>
  );
}

export function Term({ name, text }: { name: string; text?: string }): JSX.Element {
  const term = words.value.terms.find((t) => t.name === name);
  if (!term) return <>{text ?? name}</>;
  return <Noted what={{ ...term, title: term.name }}>{text ?? name}</Noted>;
}

/** The name of a measure, with what it is and where from. */
export function Measure({ name, children }: { name: string; children: ComponentChildren }): JSX.Element {
  const m = words.value.measures[name];
  if (!m) return <>{children}</>;
  const more = m.more ? `larger means ${m.more}` : "";
  return (
    <Noted what={{ title: m.label, meaning: m.about, formula: more, source: m.source }}>{children}</Noted>
  );
}

function Noted({
  what,
  children,
}: {
  what: Omit<Shown, "x" | "y" | "above">;
  children: ComponentChildren;
}): JSX.Element {
  return (
    <span
      class="tx-term"
      tabIndex={0}
      role="note"
      aria-describedby={shown.value?.title === what.title ? "tx-note" : undefined}
      onMouseEnter={(e) => show(e.currentTarget, what)}
      onMouseLeave={hide}
      onFocus={(e) => show(e.currentTarget, what)}
      onBlur={hide}
      onKeyDown={(e) => {
        if (e.key !== "Escape" || !shown.value) return;
        hide();
        e.stopPropagation();
      }}
    >
      {children}
    </span>
  );
}

/** The one note of a page: of the term under the pointer or the focus. */
export function Note(): JSX.Element | null {
  const s = shown.value;
  if (!s) return null;
  const place = { left: `${s.x}px`, [s.above ? "bottom" : "top"]: `${s.y}px` };
  return (
    <div class="tx-note" id="tx-note" role="tooltip" style={place}>
      <b>{s.title}</b> {s.meaning}
      {s.formula && <code>{s.formula}</code>}
      <small>{s.source}</small>
    </div>
  );
}

/** Every term, one below the other: for the help. */
export function Terms(): JSX.Element {
  return (
    <details class="tx-terms">
      <summary>{words.value.terms.length} terms</summary>
      <dl tabIndex={0}>
        {words.value.terms.map((t) => (
          <div key={t.name}>
            <dt>{t.name}</dt>
            <dd>
              {t.meaning} <code>{t.formula}</code> <small>{t.source}</small>
            </dd>
          </div>
        ))}
      </dl>
    </details>
  );
}
