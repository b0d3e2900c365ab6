import { describe, expect, it } from "vitest";
import { withText } from "../src/exports";
import { fresh, heard, type Run } from "../src/live";
import { lattice, pick, project, rotation, spread, START } from "../src/points/camera";
import { stamp } from "../src/points/canvas";
import { larger, levels, relative } from "../src/points/values";
import { grown } from "../src/points/paint";
import { read, START as SELECTION, write } from "../src/selection";
import { layerOf, parse, siteAt } from "../src/sites";
import { unpack } from "../src/source";
import { windowed } from "../src/strip";
import { cut } from "../src/terms";
import { budget, shuffled } from "../src/points/clouds";
import { line, Table, told, toCsv } from "../src/table";
import { scaleOf } from "../src/charts/curve";
import { rangeOf } from "../src/charts/heat";
import { differences } from "../src/screens/differences";
import { diverging } from "../src/colours";

describe("the address", () => {
  it("brings back what it was written from", () => {
    const s = {
      screen: "map" as const,
      a: "a & b=c#1",
      b: "ü/%20",
      family: "attn.head",
      layer: 12,
      token: 37,
      neuron: 0,
      view: { kind: "free", show: "added" },
    };
    expect(read(write(s))).toEqual(s);
  });
  it("keeps its start where it says nothing, or nonsense", () => {
    expect(read("")).toEqual(SELECTION);
    expect(read("#nonsense?layer=-3&token=1e9&neuron=NaN&site=<b>")).toEqual(SELECTION);
  });
});

describe("tables", () => {
  const table = new Table({
    rows: 3,
    columns: {
      value: { data: [0, null, 2.5] },
      status: { codes: [0, 1, -1], values: ["ok", "not converged"] },
    },
  });
  it("keep null apart from zero", () => {
    expect(table.rows.map((r) => r["value"])).toEqual([0, null, 2.5]);
    expect(table.rows.map((r) => r["status"])).toEqual(["ok", "not converged", null]);
    expect(told(table.rows[0]!["value"])).toBe("0");
    expect(told(table.rows[1]!["value"])).toBe("–");
  });
  it("say what is missing beside a number", () => {
    expect(
      line({ value: 1.23456, low: 1, high: 2, null: 0.5, p: 0.012, n: 10, n_texts: 3, status: "ok" }),
    ).toBe("1.23 · [1, 2] · null 0.500 · p = 0.012 · n = 10 · 3 texts");
    expect(line({ value: null, n: 10, status: "failed" })).toBe(
      "– · no interval · no null · n = 10 · failed",
    );
  });
  it("write CSV that no spreadsheet runs", () => {
    const csv = toCsv([{ a: "=1+1", b: 'x"y,z', c: null, d: 0 }], ["from\nhere"]);
    expect(csv).toBe('# from here\na,b,c,d\n\'=1+1,"x""y,z",,0\n');
  });
  it("show large and small numbers briefly", () => {
    expect([told(1e-9), told(-0.25), told(123456.7), told(1234.5), told(12)]).toEqual([
      "1.00e−9",
      "−0.250",
      "1.23e5",
      "1235",
      "12",
    ]);
  });
});

describe("sites", () => {
  it("are read and spelled", () => {
    expect(parse("attn.3.head")).toEqual({ family: "attn.head", layer: 3 });
    expect(parse("encoder.resid.12")).toEqual({ family: "encoder.resid", layer: 12 });
    expect(parse("final_norm")).toEqual({ family: "final_norm", layer: null });
    expect(["resid", "mlp.act", "encoder.attn.head"].map((f) => siteAt(f, 4))).toEqual([
      "resid.4",
      "mlp.4.act",
      "encoder.attn.4.head",
    ]);
    expect(layerOf("final_norm")).toBe(0);
  });
});

describe("a live run", () => {
  const events = [
    { type: "queued" },
    { type: "loading" },
    {
      type: "started",
      sites: [
        { site: "mlp.0.act", width: 3 },
        { site: "mlp.1.act", width: 2 },
      ],
      width: 5,
      weights: "abc",
    },
    { type: "token", text: "a", id: 1, position: 0, generated: false, largest: 1 },
    { type: "token", text: "b", id: 2, position: 1, generated: true, largest: 2 },
  ];
  it("is the same however often its events are heard from the first on", () => {
    const run = (n: number): Run => events.slice(0, n).reduce(heard, fresh("job-1"));
    expect(run(2).state).toBe("loading");
    expect(run(5)).toMatchObject({
      state: "running",
      width: 5,
      sites: [
        { site: "mlp.0.act", start: 0, count: 3 },
        { site: "mlp.1.act", start: 3, count: 2 },
      ],
    });
    expect(run(5).tokens.map((t) => t.generated)).toEqual([false, true]);
    expect(heard(run(5), { type: "failed", message: "m", fix: "f" })).toMatchObject({
      state: "failed",
      message: "m",
      fix: "f",
    });
  });
});

describe("the strip", () => {
  it("draws all tokens of a short text and those around the selected one of a long one", () => {
    expect(windowed(3, 2)).toEqual([0, 1, 2]);
    expect(windowed(1000, 500, 10)).toEqual([495, 496, 497, 498, 499, 500, 501, 502, 503, 504]);
    expect(windowed(1000, 999, 4)).toEqual([996, 997, 998, 999]);
    expect(windowed(0, 0)).toEqual([]);
  });
});

describe("points", () => {
  const view = { x: 100, y: 50, width: 200, height: 100, start: 1, count: 3, key: "k", big: true };
  const points = new Float32Array([9, 9, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0]);
  it("are found where they are drawn, in their own view only", () => {
    const turn = rotation({ ...START, yaw: 0.7, pitch: -0.4 });
    for (let i = 1; i < 4; i++) {
      const [x, y] = project(points, i, view, turn, START, 2);
      expect(pick(points, view, turn, START, 2, x, y)).toBe(i);
    }
    expect(pick(points, view, turn, START, 2, 101, 51)).toBeNull();
  });
  it("turn without a change of length", () => {
    const t = rotation({ ...START, yaw: 1.1, pitch: 0.3 });
    for (const r of [0, 3, 6]) expect(Math.hypot(t[r]!, t[r + 1]!, t[r + 2]!)).toBeCloseTo(1, 12);
    expect(t[0]! * t[3]! + t[1]! * t[4]! + t[2]! * t[5]!).toBeCloseTo(0, 12);
  });
  it("stand about the centre of their block, axes of one scale", () => {
    const made = spread(new Float32Array([1, 1, 3, 1, 10, 0, 10, 8]), 2, [
      { start: 0, count: 2 },
      { start: 2, count: 2 },
    ]);
    expect([...made.points]).toEqual([-1, 0, 0, 1, 0, 0, 0, -4, 0, 0, 4, 0]);
    expect(made.radius).toBe(4);
    expect(lattice(5).length).toBe(15);
  });
});

describe("activations", () => {
  const blocks = [
    { start: 0, count: 4 },
    { start: 4, count: 2 },
  ];
  const values = new Float32Array([0, -1, 2, 4, 0, 0]);
  it("keep sign and a true zero, each block against its own level", () => {
    const level = levels(values, blocks),
      into = new Float32Array(6);
    relative(values, blocks, level, into);
    expect([...into]).toEqual([0, -0.25, 0.5, 1, 0, 0]);
    expect([...larger(new Float32Array([9, 1]), new Float32Array([2, 3]))]).toEqual([9, 3]);
    const many = Float32Array.from({ length: 1536 }, (_, i) => ((i * 7919) % 1536) * (i % 2 ? 1 : -1));
    expect([...levels(many, [{ start: 0, count: 1536 }])]).toEqual([1528]);
    expect([...larger(null, new Float32Array([2, 3]))]).toEqual([2, 3]);
  });
  it("are stamped whole and round, with edges by coverage", () => {
    for (const r of [0.5, 1.25, 3.75, 7]) {
      const { half, cover } = stamp(r);
      const area = cover.reduce((n, c) => n + c / 255, 0);
      expect(Math.abs(area - Math.PI * r * r)).toBeLessThan(0.9);
      expect(cover[half * (2 * half + 1) + half]).toBe(255);
      expect([...cover].reverse()).toEqual([...cover]);
    }
  });
  it("grow in area with |a|, and stop at the level", () => {
    expect(grown(0)).toBeLessThan(grown(0.01));
    expect(grown(-0.25)).toBe(grown(0.25));
    expect(grown(7)).toBe(grown(1));
    expect((grown(0.5) - grown(0)) ** 2 / (grown(1) - grown(0)) ** 2).toBeCloseTo(0.5, 9);
  });
});

describe("charts", () => {
  it("take a logarithm only where it helps", () => {
    expect(scaleOf([1, 2, 3, 4])).toBe("linear");
    expect(scaleOf([1, 1, 1, 1000])).toBe("log");
    expect(scaleOf([-1, 1, 1, 1000])).toBe("symlog");
    expect(scaleOf([1e-12, 1, 1, 1000])).toBe("symlog");
  });
  it("put zero in the middle of differences", () => {
    expect(rangeOf([-1, 3], "difference")).toEqual([-3, 3]);
    expect(rangeOf([2, 2], "score")).toEqual([1.5, 2.5]);
    expect(rangeOf([], "score")).toEqual([0, 1]);
    expect(diverging(0.5)).toBe("rgb(242, 239, 238)");
  });
  it("subtract run by run, and make up no interval", () => {
    const rows = (run: string, value: number | null) => ({
      measure: "m",
      run,
      site: "resid.1",
      site2: null,
      token: "all",
      normalise: "unit",
      design: "single",
      value,
      low: 0,
      high: 1,
      n: 5,
    });
    const table = new Table({ rows: 3, columns: {} });
    table.rows.splice(0, 3, rows("a", 3), rows("b", 1), { ...rows("a", 2), site: "resid.2" });
    const made = differences(table, "a", "b", {});
    expect(made).toHaveLength(1);
    expect(made[0]).toMatchObject({ value: 2, low: null, high: null, left: 3, right: 1, status: "ok" });
    table.rows[1] = rows("b", null);
    expect(differences(table, "a", "b", {})[0]!["value"]).toBeNull();
  });
});

describe("files", () => {
  it("positions are unpacked as they were packed", () => {
    const header = new TextEncoder().encode(JSON.stringify({ run: "r", dim: 2, sites: [] }).padEnd(40));
    const bytes = new Uint8Array(4 + 40 + 8);
    new DataView(bytes.buffer).setUint32(0, 40, true);
    bytes.set(header, 4);
    bytes.set(new Uint8Array(new Float32Array([1.5, -2]).buffer), 44);
    expect(unpack(bytes.buffer)).toMatchObject({ run: "r", dim: 2 });
    expect([...unpack(bytes.buffer).points]).toEqual([1.5, -2]);
  });
  it("a PNG takes its origin along, with a right checksum", () => {
    const end = [0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96, 130];
    const made = withText(new Uint8Array([1, 2, 3, ...end]), "Description", "ü");
    expect([...made.slice(-12)]).toEqual(end);
    expect(new DataView(made.buffer).getUint32(3)).toBe("Description".length + 5 + 2);
    expect(new TextDecoder().decode(made.slice(7, 11))).toBe("iTXt");
    expect(withText(new Uint8Array([...end]), "IEND", "").length).toBeGreaterThan(12);
  });
});

describe("terms", () => {
  const term = (name: string) => ({ name, meaning: "m", formula: "f", source: "s" });
  const parts = (text: string) =>
    cut(text, ["null", "excess", "max-T p", "block", "unit norm"].map(term)).map((p) =>
      typeof p === "string" ? p : `[${p.term.name}|${p.text}]`,
    );
  it("are marked once each, as whole words, and everyday words never", () => {
    expect(parts("Excess over the null, the null again; a nullity in a block").join("")).toBe(
      "[excess|Excess] over the [null|null], the null again; a nullity in a block",
    );
    expect(parts("max-T p = 0.01, unit-norm").join("")).toBe(
      "[max-T p|max-T] p = 0.01, [unit norm|unit-norm]",
    );
    expect(cut("no terms", [])).toEqual(["no terms"]);
  });
});

describe("clouds", () => {
  it("are drawn in a random order that is the same for every run, and never lose a point", () => {
    const order = shuffled(1000);
    expect([...order].sort((p, q) => p - q)).toEqual(Array.from({ length: 1000 }, (_, k) => k));
    expect([...shuffled(1000)]).toEqual([...order]);
    const early = [...order.slice(0, 100)].filter((k) => k < 500).length;
    expect(early).toBeGreaterThan(30);
    expect(early).toBeLessThan(70);
  });
  it("draw as many points as a frame's time allows", () => {
    expect(budget(1e6, 1e6, 240)).toBe(100_000);
    expect(budget(1e6, 1e5, 12)).toBe(200_000);
    expect(budget(5000, 5000, 1)).toBe(5000);
    expect(budget(1e6, 1e4, 1e6)).toBe(2000);
  });
});
