// Entry of the bundle. The app and the report mount themselves; a notebook calls `render` of the default
// export.

import { render as draw } from "preact";
import { App } from "./app";
import { Shell } from "./shell";
import { Inline, Server, type Brought, type Source } from "./source";
import "./style.css";

function mount(place: HTMLElement, source: Source, address: boolean, start = ""): App {
  const app = new App(source, address, start);
  place.classList.add("tx", `tx-${source.shell}`);
  place.replaceChildren();
  draw(<Shell app={app} />, place);
  return app;
}

const place = typeof document === "undefined" ? null : document.getElementById("transect");
if (place) {
  const data = document.getElementById("transect-data");
  const source = data ? new Inline(JSON.parse(data.textContent ?? "") as Brought, "report") : new Server();
  mount(place, source, true);
}

/** anywidget's contract: `model` brings the data, `el` is the cell's output. */
export default {
  render({ model, el }: { model: { get(name: string): any }; el: HTMLElement }): () => void {
    const inner = document.createElement("div");
    el.replaceChildren(inner);
    mount(inner, new Inline(model.get("data") as Brought, "widget"), false, String(model.get("at") ?? ""));
    return () => draw(null, inner);
  },
};
