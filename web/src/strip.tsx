// The token strip: the tokens of whatever is on show; prompt and generated ones told apart, one selected.

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useApp } from "./app";

/** A token as it can be seen: spaces and line ends have signs. */
export const visible = (text: string): string =>
  text.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "∅";

/** Numbers of the tokens that are drawn: all, or those around the selected one where there are very many. */
export function windowed(count: number, at: number, most = 300): number[] {
  const first = count <= most ? 0 : Math.max(0, Math.min(count - most, at - most / 2));
  return Array.from({ length: Math.min(count, most) }, (_, k) => first + k);
}

const spoken = (t: { text: string; note?: string }): string => (t.note ? `${t.text}, ${t.note}` : t.text);

export function Strip(): JSX.Element {
  const app = useApp();
  const s = app.selection.value;
  const on = app.strip.value;
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const here = list.current?.querySelector<HTMLElement>("[aria-checked=true]");
    if (!here || !list.current) return;
    const left = here.offsetLeft - list.current.offsetLeft;
    if (left < list.current.scrollLeft || left > list.current.scrollLeft + list.current.clientWidth - 130)
      list.current.scrollLeft = left - list.current.clientWidth / 2;
  }, [s.token, on?.tokens.length]);
  return (
    <footer class="tx-strip">
      <span class="tx-strip-label">
        {on
          ? `${on.label}${on.tokens.length > 300 ? `, ${s.token} of ${on.tokens.length}` : ""}`
          : "no tokens on this screen"}
      </span>
      {on && (
        <div class="tx-tokens" ref={list} role="radiogroup" aria-label={on.label}>
          {windowed(on.tokens.length, s.token)
            .map((k) => [on.tokens[k]!, k] as const)
            .map(([t, k]) => (
              <button
                key={k}
                type="button"
                role="radio"
                aria-checked={k === s.token}
                tabIndex={k === s.token ? 0 : -1}
                class={t.generated ? "tx-generated" : ""}
                aria-label={`${t.generated ? "generated " : ""}token ${k}: ${spoken(t)}`}
                title={t.note}
                onClick={() => app.select({ token: k })}
              >
                {visible(t.text)}
              </button>
            ))}
        </div>
      )}
    </footer>
  );
}
