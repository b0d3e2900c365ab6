// The words, colours and marks that Python sends with every catalogue: one table for print and page.

import { signal } from "@preact/signals";
import type { Words } from "./source";

export const words = signal<Words>({
  colours: ["#3f90da"],
  grey: "#737373",
  marks: {},
  nulls: {},
  terms: [],
  measures: {},
});

/** A measure as its declaration calls it. */
export const named = (measure: string): string =>
  words.value.measures[measure]?.label ?? measure.replaceAll("_", " ");
/** A null as printed legends call it. */
export const nullName = (control: string): string => words.value.nulls[control] ?? (control || "null");
/** What a mark means, as print says it. */
export const mark = (name: string): string => words.value.marks[name] ?? name;
