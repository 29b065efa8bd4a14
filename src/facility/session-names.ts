import { readdirSync } from "node:fs";
import { join } from "node:path";
import { placesOf } from "./state.ts";
import { wrongUsage } from "./wrong-usage.ts";

/** It becomes part of paths, of an account's name and of a reservation's name. */
export function requireGoodId(beamtimeId: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9_-]{0,19}$/.test(beamtimeId)) return;
  throw wrongUsage(`${JSON.stringify(beamtimeId)} cannot be a beamtime's id.`, "It looks like 11010000.");
}

/** The name as paths have it; DESY's pages write it in capitals too (`--beamline P9999`). */
export function goodBeamline(typed: string): string {
  const beamline = typed.toLowerCase();
  if (/^[a-z][a-z0-9]*(\.[a-z0-9]+)*$/.test(beamline) && beamline.length <= 12) return beamline;
  throw wrongUsage(`${JSON.stringify(typed)} cannot be a beamline's name.`, "It looks like p11 or p02.1.");
}

export function requireGoodTag(tag: string): void {
  if (/^[A-Za-z0-9_-]{1,8}$/.test(tag)) return;
  throw wrongUsage(
    `${JSON.stringify(tag)} cannot be a commissioning run's tag.`,
    "It has at most 8 letters, digits, _ and -, such as apr22.",
  );
}

/** `<core>/petra3/gpfs/p11/2026/data/11010000`, or `…/commissioning/c20260404_000_apr22` */
export function corePathOf(
  dir: string,
  folder: "data" | "commissioning",
  beamline: string,
  id: string,
  now: Date,
): string {
  return join(beamlinesOf(dir), beamline, String(now.getFullYear()), folder, id);
}

/** `c<YYYYMMDD>_<NNN>_<tag>`, with the number after the highest that any commissioning run of this day has. */
export function nextCommissioningId(dir: string, tag: string, now: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const day = `c${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  const runs = namesIn(beamlinesOf(dir)).flatMap((beamline) => {
    return namesIn(corePathOf(dir, "commissioning", beamline, "", now));
  });
  const numbers = runs.map((id) => (id.startsWith(`${day}_`) ? Number(id.split("_")[1]) : NaN));
  return `${day}_${String(Math.max(-1, ...numbers.filter(Number.isInteger)) + 1).padStart(3, "0")}_${tag}`;
}

function beamlinesOf(dir: string): string {
  return join(placesOf(dir).core, "petra3/gpfs");
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
