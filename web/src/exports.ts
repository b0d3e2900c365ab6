// Files a reader takes along: SVG, PNG and CSV, each with where it came from inside.

const STYLE = "font-family:system-ui,sans-serif";

/** A chart as a file of its own: light paper, variables replaced, origin in <metadata> and below. */
export function standalone(svg: SVGSVGElement, title: string, origin: string[]): string {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  copy.querySelectorAll("style").forEach((s) => s.remove());
  copy.querySelectorAll("[data-mark=tip],[aria-label=tip]").forEach((t) => t.remove());
  const [w, h] = [Number(svg.getAttribute("width")), Number(svg.getAttribute("height"))];
  const lines = wrap(origin.join(" · "), Math.floor((w - 16) / 4.6));
  const full = h + 10 + lines.length * 11;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("height", String(full + 18));
  copy.setAttribute("viewBox", `0 -18 ${w} ${full + 18}`);
  // not by attribute: the page's policy refuses those
  copy.style.cssText = `${STYLE};background:#fff;color:#15181d`;
  const add = (name: string, text: string, attributes: Record<string, string | number> = {}) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    made.textContent = text;
    for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, String(v));
    return made;
  };
  const paper = add("rect", "", { x: 0, y: -18, width: w, height: full + 18, fill: "#fff" });
  copy.prepend(add("title", title), add("metadata", origin.join("\n")), paper);
  copy.append(
    add("text", title, {
      x: 8,
      y: -4,
      "text-anchor": "start",
      "font-size": 12,
      "font-weight": 600,
      fill: "#15181d",
    }),
  );
  lines.forEach((text, k) =>
    copy.append(
      add("text", text, {
        x: 8,
        y: h + 12 + k * 11,
        "text-anchor": "start",
        "font-size": 8,
        fill: "#5b6470",
      }),
    ),
  );
  return new XMLSerializer().serializeToString(copy).replace(/var\(--tx-[a-z]+, ?([^)]+)\)/g, "$1");
}

function wrap(text: string, most: number): string[] {
  const out: string[] = [];
  let at = "";
  for (const word of text.split(" ")) {
    if (at && at.length + word.length + 1 > most) {
      out.push(at);
      at = word;
    } else at = at ? `${at} ${word}` : word;
  }
  return at ? [...out, at] : out;
}

/** An SVG drawn on a canvas of its own, a note below it. */
export async function picture(svg: string, scale: number, note = ""): Promise<HTMLCanvasElement> {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  await image.decode();
  const lines = note ? wrap(note, Math.floor(image.naturalWidth / 6.4)) : [];
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth * scale;
  canvas.height = (image.naturalHeight + 17 * lines.length) * scale;
  const context = canvas.getContext("2d")!;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, image.naturalHeight * scale);
  context.fillStyle = "#15181d";
  context.font = `${12 * scale}px system-ui, sans-serif`;
  lines.forEach((text, k) => context.fillText(text, 8 * scale, (image.naturalHeight + 13 + 17 * k) * scale));
  return canvas;
}

export async function toPng(svg: string, origin: string[], scale = 2): Promise<Blob> {
  const canvas = await picture(svg, scale);
  const plain = await new Promise<Blob>((done, fail) =>
    canvas.toBlob((b) => (b ? done(b) : fail(new Error("no image"))), "image/png"),
  );
  return new Blob(
    [withText(new Uint8Array(await plain.arrayBuffer()), "Description", origin.join("\n")) as BlobPart],
    { type: "image/png" },
  );
}

/** A PNG with an international text chunk before its end. */
export function withText(png: Uint8Array, keyword: string, text: string): Uint8Array {
  const coded = new TextEncoder();
  const body = new Uint8Array([
    ...coded.encode("iTXt"),
    ...coded.encode(keyword),
    0,
    0,
    0,
    0,
    0,
    ...coded.encode(text),
  ]);
  const chunk = new Uint8Array(body.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, body.length - 4);
  chunk.set(body, 4);
  view.setUint32(body.length + 4, crc(body));
  const out = new Uint8Array(png.length + chunk.length);
  out.set(png.subarray(0, png.length - 12));
  out.set(chunk, png.length - 12);
  out.set(png.subarray(png.length - 12), png.length - 12 + chunk.length);
  return out;
}

function crc(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (const b of bytes) {
    c ^= b;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  }
  return (c ^ 0xffffffff) >>> 0;
}

export function save(name: string, content: Blob | string, type = "text/plain"): void {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const a = document.createElement("a");
  a.href = url;
  a.download = name.replace(/[^\w.-]+/g, "-");
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
