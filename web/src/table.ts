// Tables as the server sends them: columns of numbers or coded texts. Missing is null and never zero.

export type Cell = number | string | boolean | null;
export type Row = Record<string, Cell>;
interface Coded {
  codes: number[];
  values: string[];
}
interface Plain {
  data: Cell[];
}
interface Lists {
  lists: (number[] | null)[];
}
export interface Wire {
  rows: number;
  columns: Record<string, Coded | Plain | Lists>;
}

export class Table {
  readonly rows: Row[];
  readonly columns: string[];
  private readonly lists: Record<string, (number[] | null)[]> = {};

  constructor(wire: Wire) {
    const { columns } = wire;
    this.columns = Object.keys(columns).filter((name) => !("lists" in columns[name]!));
    for (const [name, column] of Object.entries(columns))
      if ("lists" in column) this.lists[name] = column.lists;
    const read = this.columns.map((name) => {
      const column = columns[name] as Coded | Plain;
      return "codes" in column
        ? (i: number) => (column.codes[i]! < 0 ? null : column.values[column.codes[i]!]!)
        : (i: number) => column.data[i] ?? null;
    });
    this.rows = Array.from({ length: wire.rows }, (_, i) => {
      const row: Row = {};
      this.columns.forEach((name, k) => (row[name] = read[k]!(i)));
      return row;
    });
  }

  where(equal: Record<string, Cell | undefined>): Row[] {
    const wanted = Object.entries(equal).filter(([, v]) => v !== undefined);
    return this.rows.filter((row) => wanted.every(([k, v]) => !(k in row) || row[k] === v));
  }

  /** The whole numbers that a row has in a column of lists. */
  list(name: string, row: number): number[] {
    return this.lists[name]?.[row] ?? [];
  }

  values(name: string): string[] {
    const seen = new Set<string>();
    for (const row of this.rows)
      if (row[name] !== null && row[name] !== undefined) seen.add(String(row[name]));
    return [...seen];
  }
}

export const num = (v: Cell | undefined): number | null =>
  typeof v === "number" && Number.isFinite(v) ? v : null;
export const str = (v: Cell | undefined): string => (v === null || v === undefined ? "" : String(v));

/** A number for people: four digits, exponents only where they are shorter. */
export function told(v: Cell | undefined, digits = 3): string {
  const x = num(v);
  if (x === null) return "–";
  if (x === 0) return "0";
  if (Number.isInteger(x) && Math.abs(x) < 1e6) return String(x);
  const size = Math.abs(x);
  if (size >= 1e5 || size < 1e-3) return x.toExponential(2).replace("-", "−").replace("e+", "e");
  return x.toPrecision(Math.max(digits, Math.ceil(Math.log10(size)))).replace("-", "−");
}

/** Value, interval, null, p, n: what stands beside a number, nothing of it left out. */
function facts(row: Row, value: string): string[] {
  const at = value === "value" ? ["low", "high"] : [`${value}_low`, `${value}_high`];
  const parts = [told(row[value])];
  if (num(row[at[0]!]) !== null) parts.push(`[${told(row[at[0]!])}, ${told(row[at[1]!])}]`);
  else parts.push("no interval");
  if (value === "value") parts.push(num(row["null"]) !== null ? `null ${told(row["null"])}` : "no null");
  for (const name of ["p", "p_holm", "p_max"]) {
    if (num(row[name]) !== null) parts.push(`${name.replace("_", " ")} = ${told(row[name], 2)}`);
  }
  if (num(row["n"]) !== null) parts.push(`n = ${told(row["n"])}`);
  if (num(row["n_texts"]) !== null) parts.push(`${told(row["n_texts"])} texts`);
  if (row["status"] && row["status"] !== "ok") parts.push(str(row["status"]));
  return parts;
}

/** The facts of a number in one line. */
export const line = (row: Row, value = "value"): string => facts(row, value).join(" · ");
/** The facts of a number, one a line: for tips. */
export const lines = (row: Row, value = "value"): string => facts(row, value).join("\n");

/** CSV with its origin in comment lines; text that a spreadsheet would run gets an apostrophe. */
export function toCsv(rows: Row[], origin: string[]): string {
  const names = [...new Set(rows.flatMap((r) => Object.keys(r)))];
  const cell = (v: Cell | undefined) => {
    if (v === null || v === undefined) return "";
    if (typeof v !== "string") return String(v);
    const safe = /^[=+\-@\t\r]/.test(v) ? `'${v}` : v;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const head = origin.map((o) => `# ${o.replace(/[\r\n]+/g, " ")}`);
  return (
    [...head, names.join(","), ...rows.map((r) => names.map((n) => cell(r[n])).join(","))].join("\n") + "\n"
  );
}
