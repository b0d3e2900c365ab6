// A PDF of pictures: one A4 page each, written by hand — a few objects and a table of where they begin.

import { picture } from "./exports";

const [WIDTH, HEIGHT, MARGIN] = [595.28, 841.89, 42];

/** Bytes of a PDF with one picture a page, each as wide as fits. */
export function pdf(
  pictures: { jpeg: Uint8Array; width: number; height: number }[],
  title: string,
): Uint8Array {
  const parts: Uint8Array[] = [];
  const offsets: number[] = [];
  let at = 0;
  const put = (piece: string | Uint8Array) => {
    const bytes = typeof piece === "string" ? new TextEncoder().encode(piece) : piece;
    parts.push(bytes);
    at += bytes.length;
  };
  const object = (head: string, stream?: Uint8Array) => {
    offsets.push(at);
    put(`${offsets.length} 0 obj\n`);
    if (!stream) put(`<<${head}>>\nendobj\n`);
    else {
      put(`<<${head} /Length ${stream.length}>>\nstream\n`);
      put(stream);
      put("\nendstream\nendobj\n");
    }
  };
  put("%PDF-1.4\n%\u00e9\u00e9\n");
  const first = 4;
  const kids = pictures.map((_, k) => `${first + 3 * k} 0 R`).join(" ");
  object(" /Type /Catalog /Pages 2 0 R ");
  object(` /Type /Pages /Kids [${kids}] /Count ${pictures.length} `);
  object(` /Producer (Transect) /Title <${utf16(title)}> `);
  pictures.forEach((p, k) => {
    const id = first + 3 * k;
    const scale = Math.min((WIDTH - 2 * MARGIN) / p.width, (HEIGHT - 2 * MARGIN) / p.height);
    const [w, h] = [p.width * scale, p.height * scale];
    const foot = HEIGHT - MARGIN - h;
    const content = `q ${w.toFixed(2)} 0 0 ${h.toFixed(2)} ${MARGIN} ${foot.toFixed(2)} cm /I Do Q`;
    object(
      ` /Type /Page /Parent 2 0 R /MediaBox [0 0 ${WIDTH} ${HEIGHT}] /Contents ${id + 1} 0 R ` +
        `/Resources <</XObject <</I ${id + 2} 0 R>>>> `,
    );
    object("", new TextEncoder().encode(content));
    object(
      ` /Type /XObject /Subtype /Image /Width ${p.width} /Height ${p.height} /ColorSpace /DeviceRGB ` +
        "/BitsPerComponent 8 /Filter /DCTDecode",
      p.jpeg,
    );
  });
  const table = at;
  put(`xref\n0 ${offsets.length + 1}\n0000000000 65535 f \n`);
  for (const o of offsets) put(`${String(o).padStart(10, "0")} 00000 n \n`);
  put(`trailer\n<</Size ${offsets.length + 1} /Root 1 0 R /Info 3 0 R>>\nstartxref\n${table}\n%%EOF\n`);
  const out = new Uint8Array(at);
  let to = 0;
  for (const p of parts) {
    out.set(p, to);
    to += p.length;
  }
  return out;
}

function utf16(text: string): string {
  const units = [0xfeff, ...Array.from({ length: text.length }, (_, k) => text.charCodeAt(k))];
  return units.map((u) => u.toString(16).padStart(4, "0")).join("");
}

/** Views as a PDF, each with its note. */
export async function toPdf(views: { svg: string; note: string }[], title: string): Promise<Uint8Array> {
  const pictures = [];
  for (const view of views) {
    const canvas = await picture(view.svg, 3, view.note);
    const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/jpeg", 0.93));
    if (!blob) throw new Error("no image");
    const jpeg = new Uint8Array(await blob.arrayBuffer());
    pictures.push({ jpeg, width: canvas.width, height: canvas.height });
  }
  return pdf(pictures, title);
}
