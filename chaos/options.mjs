import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { FAULT_KINDS } from "./schedule.mjs";

export const HELP = `npm run chaos -- [options]

Runs messages through workers on a facility of its own while a fault a second happens to it, and counts: each message
must have become exactly one job, and each job exactly one end. Exit status: 0 so it is · 1 not · 2 wrong usage.

  --messages N   how many messages (default: 300)
  --workers N    how many workers (default: 3)
  --seed N       decides messages and faults; the same seed gives the same (default: a random one, which is printed)
  --rate N       messages a second; faults happen as long as messages are published (default: 3)
  --faults LIST  only these, with commas between them, or none:
                 ${FAULT_KINDS.slice(0, 6).join(", ")},
                 ${FAULT_KINDS.slice(6).join(", ")}
  --json         print one JSON object instead of a table
  --keep         leave the facility's directory, with everybody's logs; a run that fails leaves it anyway`;

/**
 * @typedef {{ messages: number, workers: number, seed: number, rate: number, json: boolean, keep: boolean,
 *   help: boolean, faults: import("./schedule.mjs").FaultKind[] }} Options
 */

/** What is wrong with the options, in a sentence. */
export class WrongUsage extends Error {}

/**
 * @param {string[]} args
 * @returns {Options}
 * @throws WrongUsage
 */
export function parseOptions(args) {
  const { values } = parsed(args);
  return {
    messages: wholeNumber("--messages", values.messages ?? "300", 1, 100_000),
    workers: wholeNumber("--workers", values.workers ?? "3", 1, 20),
    seed: wholeNumber("--seed", values.seed ?? String(randomInt(1_000_000)), 0, 2 ** 32 - 1),
    rate: wholeNumber("--rate", values.rate ?? "3", 1, 100),
    faults: faultKinds(values.faults),
    json: values.json === true,
    keep: values.keep === true,
    help: values.help === true,
  };
}

/** @param {string[]} args */
function parsed(args) {
  try {
    return parseArgs({
      args,
      options: {
        messages: { type: "string" },
        workers: { type: "string" },
        seed: { type: "string" },
        rate: { type: "string" },
        faults: { type: "string" },
        json: { type: "boolean" },
        keep: { type: "boolean" },
        help: { type: "boolean" },
      },
    });
  } catch (error) {
    throw new WrongUsage(/** @type {Error} */ (error).message);
  }
}

/**
 * @param {string} option
 * @param {string} text
 * @param {number} least
 * @param {number} most
 */
function wholeNumber(option, text, least, most) {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new WrongUsage(`${option} must be a whole number from ${least} to ${most}, not "${text}".`);
}

/**
 * @param {string | undefined} list
 * @returns {import("./schedule.mjs").FaultKind[]}
 */
function faultKinds(list) {
  if (list === undefined) return [...FAULT_KINDS];
  if (list === "none") return [];
  const names = list.split(",");
  const unknown = names.find((name) => !FAULT_KINDS.some((kind) => kind === name));
  if (unknown !== undefined) {
    throw new WrongUsage(`--faults: there is no "${unknown}". There are none, ${FAULT_KINDS.join(", ")}.`);
  }
  return FAULT_KINDS.filter((kind) => names.includes(kind));
}
