import { Random } from "./random.mjs";

/**
 * @typedef {"quick" | "nap" | "wrong"} Technique each is a trigger of its own
 * @typedef {{ id: string, at: number, technique: Technique, seconds: number }} PlannedMessage
 *   at: milliseconds from the beginning; seconds: how long the job's program runs
 * @typedef {keyof typeof FAULTS} FaultKind
 * @typedef {{ kind: FaultKind, at: number, worker: number, everybody: boolean, end: "broker" | "ssh" | "detector",
 *   share: number, seconds: number, isCrash: boolean }} PlannedFault
 */

/**
 * How often each fault comes in a pack of 23, and how long it lasts at least and at most, in seconds. A pack is
 * shuffled and dealt, one fault a second, then the next: so each kind comes about every 23 seconds. What takes
 * everything down for long comes rarely, else nothing would run in between.
 */
const FAULTS = {
  "kill-worker": { cards: 3, seconds: [0, 2] },
  "restart-broker": { cards: 1, seconds: [0, 1] },
  "close-connections": { cards: 2, seconds: [0, 0] },
  "restart-slurmctld": { cards: 1, seconds: [0, 1] },
  "break-sbatch": { cards: 1, seconds: [1, 3] },
  "stop-sshd": { cards: 2, seconds: [1, 6] },
  "break-ssh": { cards: 3, seconds: [0, 0] },
  // Beyond two heartbeats of 10 s RabbitMQ gives a client up, and delivers what it held to others.
  "freeze-worker": { cards: 1, seconds: [22, 32] },
  stall: { cards: 2, seconds: [1, 8] },
  "half-open": { cards: 2, seconds: [5, 30] },
  delay: { cards: 2, seconds: [3, 10] },
  duplicates: { cards: 3, seconds: [0, 0] },
};

export const FAULT_KINDS = /** @type {FaultKind[]} */ (Object.keys(FAULTS));

/**
 * What happens in a run, all of it from the seed: the same options give the same messages and faults. When each of them
 * meets the work is up to the machine.
 *
 * @param {{ seed: number, messages: number, workers: number, rate: number, faults: readonly FaultKind[] }} options
 *   rate: messages a second
 */
export function scheduleOf({ seed, messages, workers, rate, faults }) {
  const random = new Random(seed);
  const planned = Array.from({ length: messages }, (_, index) =>
    planMessage(random, seed, index, (Math.floor(index / rate) + 1) * 1000),
  );
  const count = faults.length === 0 ? 0 : Math.floor(messages / rate);
  const pack = faults.flatMap((kind) => Array.from({ length: FAULTS[kind].cards }, () => kind));
  /** @type {FaultKind[]} */
  const kinds = [];
  while (kinds.length < count) kinds.push(...random.shuffled(pack));
  return {
    messages: planned,
    faults: kinds.slice(0, count).map((kind, index) => planFault(random, kind, (index + 1) * 1000, workers)),
  };
}

/**
 * Most programs end at once, some while a fault lasts, and some fail. Messages come just before a fault, so that it
 * finds work under way: a worker is done with one in some hundredths of a second.
 *
 * @param {Random} random
 * @param {number} seed
 * @param {number} index
 * @param {number} faultAt
 * @returns {PlannedMessage}
 */
function planMessage(random, seed, index, faultAt) {
  const share = random.share();
  const technique = share < 0.6 ? "quick" : share < 0.9 ? "nap" : "wrong";
  const seconds = random.integer(1, 8);
  const at = faultAt - random.integer(0, 150);
  return { id: `${seed}-${index + 1}`, at, technique, seconds: technique === "nap" ? seconds : 0 };
}

/**
 * Draws as many numbers for every kind, so that one kind's meaning can change without changing all others.
 *
 * @param {Random} random
 * @param {FaultKind} kind
 * @param {number} at
 * @param {number} workers
 * @returns {PlannedFault}
 */
function planFault(random, kind, at, workers) {
  const [least = 0, most = 0] = FAULTS[kind].seconds;
  const end = random.share();
  return {
    kind,
    at,
    worker: random.integer(1, workers),
    everybody: random.share() < 0.3,
    end: end < 0.45 ? "broker" : end < 0.9 ? "ssh" : "detector",
    share: random.share(),
    seconds: least + random.share() * (most - least),
    isCrash: random.share() < 0.5,
  };
}
