import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { describe, expect, it } from "vitest";

const WEB = join(import.meta.dirname, "..");
const files = (folder: string): string[] =>
  readdirSync(join(WEB, folder), { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((name) => /\.(tsx?|css)$/.test(name));

/** What a file imports of ours, types included. */
function imports(file: string, known: Set<string>): string[] {
  const text = readFileSync(join(WEB, file), "utf8");
  const found = [...text.matchAll(/^(?:import|export)\b[^;"]*?from "(\.[^"]+)"/gm)].map((m) => m[1]!);
  const named = found.map((path) => relative(WEB, join(WEB, dirname(file), path)));
  return named.flatMap((path) => [path, `${path}.ts`, `${path}.tsx`].filter((name) => known.has(name)));
}

describe("the sources", () => {
  it("import each other in no circle", () => {
    const all = files("src").filter((name) => !name.endsWith(".css"));
    const known = new Set(all);
    const left = new Map(all.map((name) => [name, imports(name, known)]));
    expect([...left.values()].flat().length).toBeGreaterThan(all.length);
    for (let before = -1; before !== left.size; ) {
      before = left.size;
      for (const [name, others] of [...left]) if (!others.some((o) => left.has(o))) left.delete(name);
    }
    expect([...left.keys()]).toEqual([]);
  });
  it("have lines of at most 110 characters", () => {
    const long = [...files("src"), ...files("tests")].flatMap((name) =>
      readFileSync(join(WEB, name), "utf8")
        .split("\n")
        .flatMap((text, k) => (text.length > 110 ? [`${name}:${k + 1}`] : [])),
    );
    expect(long).toEqual([]);
  });
});
