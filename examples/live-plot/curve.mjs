import { open } from "node:fs/promises";

/** A curve of so many points is a megabyte to send; more than a screen can show. */
const MAX_BYTES = 5_000_000;

/**
 * @typedef {object} Curve
 * @property {number[]} x
 * @property {number[]} y
 * @property {[string, string]} labels What the file's header calls the two columns; empty where it says nothing.
 */

/**
 * Reads two columns, counted from 1, of a text file: what pyFAI and most other programs write (.dat, .xy, .chi).
 *
 * @param {string} path
 * @param {[number, number]} columns
 * @returns {Promise<Curve>}
 */
export async function readCurve(path, columns) {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    if (size > MAX_BYTES) throw new Error(`it has ${size} bytes, more than ${MAX_BYTES}`);
    return parseCurve(await file.readFile("utf8"), columns);
  } finally {
    await file.close();
  }
}

/**
 * Lines that do not begin with a number are the header; its last line may name the columns.
 *
 * @param {string} text
 * @param {[number, number]} columns
 * @returns {Curve}
 */
export function parseCurve(text, columns) {
  const [xColumn, yColumn] = columns;
  /** @type {Curve} */
  const curve = { x: [], y: [], labels: ["", ""] };
  let names = "";
  let width = 0;
  for (const line of text.split("\n")) {
    const fields = line.trim().split(/[\s,;]+/);
    const x = toNumber(fields[xColumn - 1]);
    const y = toNumber(fields[yColumn - 1]);
    if (toNumber(fields[0]) === undefined) {
      if (curve.x.length === 0 && line.trim() !== "") names = line;
    } else if (x !== undefined && y !== undefined) {
      width ||= fields.length;
      curve.x.push(x);
      curve.y.push(y);
    }
  }
  if (curve.x.length === 0) throw new Error(`it has no numbers in columns ${xColumn} and ${yColumn}`);
  const labels = names
    .replace(/^[#%;\s]+/, "")
    .trim()
    .split(/\s+/);
  if (labels.length === width) curve.labels = [labels[xColumn - 1] ?? "", labels[yColumn - 1] ?? ""];
  return curve;
}

/** @param {string | undefined} field */
function toNumber(field) {
  const value = field === undefined || field === "" ? NaN : Number(field);
  return Number.isFinite(value) ? value : undefined;
}
