import { describe, expect, it } from "vitest";
import { capturesOf, runsOf } from "../src/runs";
import type { Catalog, Run, Store, Study } from "../src/source";

const run = (name: string, more: Partial<Run> = {}): Run =>
  ({ name, texts: "days", control: "", families: {}, fingerprint: `${name} ${more.texts}`, ...more }) as Run;
const catalog = (stores: Run[], studies: Run[][] = []): Catalog =>
  ({ stores: stores as Store[], studies: studies.map((runs) => ({ runs }) as Study) }) as Catalog;
const keys = (c: Catalog): string[] => runsOf(capturesOf(c)).map((r) => r.key);

describe("runs", () => {
  it("come trained first, then by what was computed, controls after", () => {
    const twin = run("a, random weights", { control: "random weights" });
    expect(keys(catalog([twin, run("b"), run("c")], [[run("c"), twin]]))).toEqual([
      "c",
      "b",
      "a, random weights",
    ]);
  });
  it("of one name are told apart by their texts, and only then", () => {
    const stores = [run("a"), run("a", { texts: "words" }), run("b"), run("b", { fingerprint: "other" })];
    expect(keys(catalog(stores))).toEqual(["a · days", "a · words", "b"]);
    expect(capturesOf(catalog(stores)).map((r) => r.name)).toEqual(["a", "a", "b", "b"]);
  });
});
