import { Unavailable } from "../errors.ts";
import { answerLines, fieldsOf } from "../shells/answer-lines.ts";
import { within } from "../shells/bounded-file.ts";
import { expandHostlist } from "./hostlist.ts";
import { FOR_A_WHILE } from "./squeue.ts";

/** What Slurm says of reservations and nodes at one moment. */
export interface SlurmNow {
  /** The controller's clock, by which reservations begin and end; seconds since 1970. */
  at: number;
  reservations: ReadonlyMap<string, SlurmReservation>;
  nodes: ReadonlyMap<string, SlurmNode>;
  /** How many of our jobs of this account wait. */
  pending: number;
}

export interface SlurmReservation {
  name: string;
  partition: string | null;
  nodes: string[];
  /** Seconds since 1970; 0 and Infinity if Slurm does not say it as a number. */
  start: number;
  end: number;
  /** Accounts that may use it, or, each with `-` before it, that alone may not; empty if Slurm names none. */
  users: string[];
}

/** As scontrol's manual says of `Users`: if accounts are denied it, all others are allowed. */
export function isAllowed(account: string, { users }: Pick<SlurmReservation, "users">): boolean {
  if (users.some((user) => user.startsWith("-"))) return !users.includes(`-${account}`);
  return users.length === 0 || users.includes(account);
}

export interface SlurmNode {
  name: string;
  features: string[];
  /** Without any job. */
  isIdle: boolean;
  /** Able to take jobs, now or when others have ended. */
  isUp: boolean;
  idleCpus: number;
}

const OURS_PENDING = "squeue --array --noheader --me --states=PENDING --format=%k";
const COUNT_OURS = "grep -c '^mento:'";

/** Prints how many of our jobs of this account wait. */
export const PENDING_COMMAND = `${FOR_A_WHILE} ${OURS_PENDING} | ${COUNT_OURS}`;

/** Less than a command is let take: it is Slurm then that does not answer, and not the node. */
const SLURM_NOW_SECONDS = 20;

/**
 * One remote call. Times as numbers: the node's time zone is not the worker's, nor its clock the controller's, which says
 * what it is where it says its configuration. A controller that does not answer has no jobs that wait, or many: it is not
 * asked for the rest.
 */
export const SLURM_NOW_COMMAND = within(
  SLURM_NOW_SECONDS,
  `date +@%s
ours=$(${OURS_PENDING}) || exit 1
echo "@pending $(printf '%s\\n' "$ours" | ${COUNT_OURS})"
SLURM_TIME_FORMAT=%s scontrol show config | sed -n 's/^Configuration data as of \\([0-9]*\\)$/@\\1/p'
SLURM_TIME_FORMAT=%s scontrol --oneliner show reservation || exit 1
sinfo --all --noheader --Node --format='%N|%T|%f|%C' && echo @end`,
);

/** More than any cluster has; each is held against each node. */
export const MOST_RESERVATIONS = 1_000;
/** Nodes of all reservations: a short list stands for many, and a maintenance has all. */
export const MOST_RESERVED = 262_144;

/** undefined if the answer is not whole: then nothing is known. */
export function parseSlurmNow(output: string): SlurmNow | undefined {
  const reservations = new Map<string, SlurmReservation>();
  const nodes = new Map<string, SlurmNode>();
  let [at, pending, isWhole, reservedLeft] = [NaN, 0, false, MOST_RESERVED];
  for (const line of answerLines(output)) {
    const [, sign, number] = /^(@|@pending )(\d{1,12})$/.exec(line) ?? [];
    if (sign === "@") at = Number(number);
    else if (sign !== undefined) pending = Number(number);
    else if (line === "@end") isWhole = true;
    else if (!line.startsWith("ReservationName=")) {
      const node = parseNode(line);
      if (node !== undefined) nodes.set(node.name, node);
    } else if (reservations.size < MOST_RESERVATIONS) {
      const reservation = parseReservation(line, reservedLeft);
      reservedLeft -= reservation.nodes.length;
      reservations.set(reservation.name, reservation);
    }
  }
  return isWhole && !Number.isNaN(at) ? { at, reservations, nodes, pending } : undefined;
}

/** The same of jobs that are known. */
export function countPending(jobs: readonly { state: string; comment: string }[]): number {
  return jobs.filter(({ state, comment }) => state === "PENDING" && comment.startsWith("mento:")).length;
}

export function tooManyPending(account: string, limit: number): Unavailable {
  return new Unavailable({
    code: "too-many-pending",
    message: `${limit} jobs of ${account} wait in Slurm already, as many as may (worker.maxPending).`,
    hint: "More are submitted when some have started; more nodes, or jobs that ask for less, start sooner.",
  });
}

/** More than Slurm prints of any reservation or node. */
const [MOST_FIELDS, MOST_USERS, MOST_FEATURES] = [64, 1000, 256];

function parseReservation(line: string, mostNodes: number): SlurmReservation {
  const fields = new Map(
    fieldsOf(line, " ", MOST_FIELDS).map((field) => {
      const at = field.indexOf("=");
      return [field.slice(0, at), field.slice(at + 1)];
    }),
  );
  const text = (name: string) => {
    const value = fields.get(name) ?? "";
    return value === "" || value === "(null)" ? null : value;
  };
  // Where something takes the time's format away, it is in a time zone that is not known here; or it is `Unknown`.
  const time = (name: string) => (/^\d{1,12}$/.test(text(name) ?? "") ? Number(text(name)) : undefined);
  return {
    name: text("ReservationName") ?? "",
    partition: text("PartitionName"),
    nodes: expandHostlist(text("Nodes") ?? "", { most: mostNodes }),
    start: time("StartTime") ?? 0,
    end: time("EndTime") ?? Infinity,
    users: fieldsOf(text("Users") ?? "", ",", MOST_USERS).filter((user) => user !== ""),
  };
}

/**
 * States of nodes that take no jobs (sinfo(1), NODE STATE CODES). Any other state, and any suffix, may pass or be
 * allowed for the reservation: there Slurm itself waits. So it does with `unknown`, which every node is in when the
 * controller has just started.
 */
const DOWN = /^(down|drain|fail|error|inval|future|blocked)/i;
const IDLE = /^(idle|reserved|planned|maint)/i;

function parseNode(line: string): SlurmNode | undefined {
  const [name, state, features, cpus] = fieldsOf(line, "|", 4);
  const idleCpus = /^\d+\/(\d+)\/\d+\/\d+$/.exec(cpus ?? "")?.[1];
  if (name === undefined || state === undefined || idleCpus === undefined) return undefined;
  return {
    name,
    features: fieldsOf(features ?? "", ",", MOST_FEATURES).filter(
      (feature) => feature !== "" && feature !== "(null)",
    ),
    isIdle: IDLE.test(state),
    isUp: !DOWN.test(state),
    idleCpus: Number(idleCpus),
  };
}
