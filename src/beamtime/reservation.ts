import { isAllowed, type SlurmNode, type SlurmNow, type SlurmReservation } from "../slurm/slurm-now.ts";
import { slurmSeconds, slurmTime } from "../slurm/slurm-time.ts";
import { fitsConstraint } from "./constraint.ts";
import type { SessionReservation } from "./online-analysis.ts";

/** What a job asks of its reservation. */
export interface ReservationRequirements {
  /** Slurm's form of a duration. */
  time: string;
  /** The least time that will do, if `time` may be shortened. */
  timeMin?: string | undefined;
  nodes?: number | undefined;
  constraint?: string | undefined;
  partition?: string | undefined;
  /** By its name, or by its number: 0 is `<session id>`, 1 is `<session id>_1`. */
  reservation?: string | number | undefined;
}

/** Where a job is to run. */
export interface Allocation {
  /** null for a job outside any reservation. */
  reservation: string | null;
  /** null: Slurm's default. */
  partition: string | null;
  /** The time limit, fitted into what is left of the reservation. */
  time: string;
  /** Why each other reservation of the session was not taken, in sentences; absent: there was none. */
  passedOver?: readonly string[] | undefined;
}

export type Choice = { allocation: Allocation } | { reasons: string[] };

/** A job that starts a moment later must still end in time. */
const MARGIN_SECONDS = 60;

/**
 * Among a session's reservations the one that fits the job and has the most idle nodes; or, for each, why it does not
 * fit. Reservations of more than one kind are named `<session id>`, `<session id>_1`, … (docs.desy.de/asap3,
 * "Online Analysis Resources"); one that Slurm has and the metadata file does not name counts too.
 */
export function chooseReservation(
  requirements: ReservationRequirements,
  session: SessionResources,
  now: SlurmNow,
): Choice {
  const fitting: { allocation: Allocation; idleNodes: number; idleCpus: number }[] = [];
  const reasons: string[] = [];
  const first = session.reservations[0]?.name ?? "";
  const isKnown = [...now.nodes.values()].some((node) => !lacks(node, requirements));
  for (const one of reservationsNow(session, now)) {
    const { name } = one;
    const looked =
      name === null
        ? unreserved(one, requirements)
        : look({ ...one, name }, { first, isKnown }, requirements, now);
    if (typeof looked === "string") reasons.push(looked);
    else fitting.push(looked);
  }
  // A stable sort: of equals, the metadata file's first.
  const [best, ...others] = fitting.sort((a, b) => b.idleNodes - a.idleNodes || b.idleCpus - a.idleCpus);
  if (best === undefined) return { reasons };
  if (requirements.reservation !== undefined) return { allocation: best.allocation };
  const fuller = others.map(({ allocation, idleNodes, idleCpus }) =>
    idleNodes === best.idleNodes && idleCpus === best.idleCpus
      ? `${allocation.reservation ?? "the partition"} fits as well`
      : `${allocation.reservation ?? "the partition"} has ${counted(idleNodes, "idle node")} and ${counted(idleCpus, "idle CPU")}, this one ${best.idleNodes} and ${best.idleCpus}`,
  );
  const passedOver = [...reasons, ...fuller].slice(0, MOST_PASSED_OVER);
  return {
    allocation: { ...best.allocation, ...(passedOver.length > 0 && { passedOver }) },
  };
}

/** Kept with the job. */
export const MOST_PASSED_OVER = 10;

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** A session's account, and the reservations that its metadata file names. */
export interface SessionResources {
  account: string;
  reservations: readonly SessionReservation[];
}

/** A reservation of a session, and what Slurm says of it; undefined if Slurm has none of this name. */
export interface ReservationNow extends SessionReservation {
  slurm: SlurmReservation | undefined;
}

/**
 * The reservations that a session's metadata file names, and those that Slurm has beside them by the rule of names, and
 * that are for its account.
 */
export function reservationsNow(session: SessionResources, now: SlurmNow): ReservationNow[] {
  const { reservations: named, account } = session;
  const [first] = named;
  const known = new Set(named.map(({ name }) => name));
  const more = [...now.reservations.values()]
    .filter(({ name }) => first?.name != null && !known.has(name) && isNumbered(name, first.name))
    .filter((one) => isAllowed(account, one))
    .map((slurm) => ({
      name: slurm.name,
      partition: slurm.partition ?? first?.partition ?? null,
      nodes: slurm.nodes,
      slurm,
    }));
  return [
    ...named.map((one) => ({ ...one, slurm: now.reservations.get(one.name ?? "") })),
    ...more.sort((a, b) => (a.name < b.name ? -1 : 1)),
  ];
}

function isNumbered(name: string, first: string): boolean {
  return name.startsWith(`${first}_`) && /^\d+$/.test(name.slice(first.length + 1));
}

/** A site without reservations: the partition alone. */
function unreserved({ partition }: SessionReservation, requirements: ReservationRequirements) {
  if (requirements.reservation !== undefined)
    return `${partition ?? "the session"} is no reservation, and ${requirements.reservation} is asked for`;
  if (requirements.partition !== undefined && partition !== null && requirements.partition !== partition) {
    return `${partition} is not the partition ${requirements.partition}`;
  }
  return {
    allocation: {
      reservation: null,
      partition: partition ?? requirements.partition ?? null,
      time: requirements.time,
    },
    idleNodes: 0,
    idleCpus: 0,
  };
}

/** How a reservation stands for the job, or a sentence: why it does not fit. */
function look(
  one: ReservationNow & { name: string },
  { first, isKnown }: { first: string; isKnown: boolean },
  requirements: ReservationRequirements,
  now: SlurmNow,
) {
  const { name, slurm } = one;
  if (!isAskedFor(name, first, requirements.reservation)) {
    return `${name} is not the one asked for (${requirements.reservation ?? ""})`;
  }
  if (slurm === undefined) return `Slurm has no reservation ${name}`;
  const partition = slurm.partition ?? one.partition ?? requirements.partition ?? null;
  if (requirements.partition !== undefined && requirements.partition !== partition) {
    return `${name} is in partition ${partition ?? ""}, not in ${requirements.partition}`;
  }
  if (slurm.end <= now.at) return `${name} has ended`;
  if (slurm.start > now.at) return `${name} begins in ${words(slurm.start - now.at)}`;
  const time = fittedTime(requirements, slurm.end - now.at);
  if (time === undefined) {
    const least = requirements.timeMin === undefined ? requirements.time : `${requirements.timeMin} at least`;
    return `${name} ends in ${words(slurm.end - now.at)}, and the job asks for ${least}`;
  }
  const nodes = slurm.nodes.flatMap((node) => nodeFor(node, { isKnown, requirements, now }));
  const wanted = requirements.nodes ?? 1;
  if (nodes.length < wanted) {
    const asked = `${wanted} node${wanted === 1 ? "" : "s"}${requirements.constraint === undefined ? "" : ` with ${requirements.constraint}`}`;
    return `${name} has ${nodes.length === 0 ? "none" : `only ${nodes.length}`} of ${asked} (${slurm.nodes.join(", ") || "no nodes"})`;
  }
  return {
    allocation: { reservation: name, partition, time },
    idleNodes: nodes.filter(({ isIdle }) => isIdle).length,
    idleCpus: nodes.reduce((sum, { idleCpus }) => sum + idleCpus, 0),
  };
}

function isAskedFor(name: string, first: string, asked: string | number | undefined): boolean {
  if (asked === undefined) return true;
  if (typeof asked === "string") return name === asked;
  return name === (asked === 0 ? first : `${first}_${asked}`);
}

/**
 * A node of a reservation, if it is up and may have the features. What only Slurm can judge counts as fitting: a node
 * that this account is not shown, and a constraint that is not understood, or that no node of the cluster meets: sbatch
 * refuses that in its own words.
 */
function nodeFor(
  name: string,
  { isKnown, requirements, now }: { isKnown: boolean; requirements: ReservationRequirements; now: SlurmNow },
): Pick<SlurmNode, "isIdle" | "idleCpus">[] {
  const node = now.nodes.get(name);
  if (node === undefined) return [{ isIdle: false, idleCpus: 0 }];
  return !node.isUp || (isKnown && lacks(node, requirements)) ? [] : [node];
}

function lacks({ features }: SlurmNode, { constraint }: ReservationRequirements): boolean {
  return constraint !== undefined && fitsConstraint(constraint, features) === false;
}

function fittedTime({ time, timeMin }: ReservationRequirements, left: number): string | undefined {
  const wanted = slurmSeconds(time);
  // A form that only Slurm knows.
  if (wanted === undefined || wanted <= left - (timeMin === undefined ? 0 : MARGIN_SECONDS)) return time;
  const least = timeMin === undefined ? Infinity : (slurmSeconds(timeMin) ?? Infinity);
  const fitted = Math.floor((left - MARGIN_SECONDS) / 60) * 60;
  return fitted >= Math.max(least, 60) ? slurmTime(fitted) : undefined;
}

function words(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}
