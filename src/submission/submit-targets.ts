import { chooseReservation, type Allocation } from "../beamtime/reservation.ts";
import { requireOnline, type OnlineSession, type Session } from "../beamtime/session.ts";
import { type SiteFolders, cancelRequestsDirectory, jobsDirectoryOf } from "../jobs/site-folders.ts";
import { Deferred, Rejected, Unavailable, type MentoError } from "../errors.ts";
import { lastLines } from "../shells/answer-lines.ts";
import { parseSlurmNow, SLURM_NOW_COMMAND, tooManyPending, type SlurmNow } from "../slurm/slurm-now.ts";
import { MOST_BYTES, readCommand, readScript, valueOf } from "./sbatch-script.ts";
import { slurmSeconds } from "../slurm/slurm-time.ts";
import { requirePrivateFolder } from "../jobs/private-folder.ts";
import type { SubmitTarget, TargetSlurm, UserScript } from "./method.ts";
import { overRest } from "./slurm-rest.ts";
import type { SessionShells } from "./session-shells.ts";
import type { Shell } from "../shells/shell.ts";
import type { SlurmRest } from "../slurm/rest/slurm-rest.ts";
import { dataHereOf } from "./data-here.ts";
import { tokenOfAnother } from "../slurm/rest/token.ts";
import { AS_WORKER } from "../triggers/plan.ts";
import type { Trigger, TriggerSlurm } from "../triggers/trigger-config.ts";

/** Slurm is asked for its reservations and nodes at most so often, whatever number of jobs there is. */
const ASK_EVERY_MS = 3000;

/** So long a message waits for a reservation that fits. */
const WAIT_FOR_RESERVATION_SECONDS = 24 * 3600;

/** What a trigger says of the place where its job runs. */
export type Requirements = Pick<Trigger, "method" | "slurm" | "destination"> & {
  /** The program, if it may be a user's own sbatch script. */
  program?: string | undefined;
  /** How long it takes where neither it nor its script says so; default: an hour. */
  otherwise?: Pick<TriggerSlurm, "timeMin"> & { time: string };
  /** How many jobs are to be submitted together; default 1. */
  jobs?: number;
};

interface SubmitTargetsDeps {
  /** A shell on this host. */
  here: Shell;
  rest?: SlurmRest | null;
  maxPending?: number;
  /** Throws if others could write to a folder that this account writes to. */
  requirePrivateFolder?: (folder: string) => void;
}

/** Where a session's jobs can run, by what Slurm says of its reservations now. */
export class SubmitTargets {
  readonly #site: SiteFolders;
  readonly #shells: SessionShells;
  readonly #here: Shell;
  readonly #rest: SlurmRest | null;
  readonly #maxPending: number;
  readonly #requirePrivateFolder: (folder: string) => void;
  readonly #asked = new WeakMap<Shell, Asked>();
  readonly #scripts = new WeakMap<Shell, Map<string, { at: number; script: Promise<UserScript | null> }>>();

  constructor(
    site: SiteFolders,
    shells: SessionShells,
    { here, rest = null, maxPending = Infinity, ...own }: SubmitTargetsDeps,
  ) {
    this.#requirePrivateFolder = own.requirePrivateFolder ?? requirePrivateFolder;
    this.#here = here;
    this.#rest = rest;
    this.#site = site;
    this.#shells = shells;
    this.#maxPending = maxPending;
  }

  /**
   * @param notBefore milliseconds: what Slurm said earlier does not count
   * @throws Deferred `no-online-resources`, `private-key-unreadable`, `private-key-format`, `ssh-login-refused`
   * @throws Unavailable `ssh-unreachable`, `ssh-lost`, `slurm-unavailable`, `too-many-pending`
   */
  async targetFor(
    session: Session | null,
    { method, slurm: wanted, destination, program, jobs = 1, otherwise }: Requirements,
    notBefore = 0,
  ): Promise<SubmitTarget> {
    const none = { slurm: withDefaults(wanted, null, otherwise), userScript: null, rest: this.#rest };
    const dataHere = AS_WORKER.includes(method) ? { dataHere: dataHereOf(this.#site, session) } : {};
    const common = { ...none, maxPending: null, notice: null, ...dataHere };
    const { shell, jobsDirectory: directory } = await this.jobsOf(session, { method, destination });
    if (session === null || method === "local-bash-script") {
      return { ...common, shell, corePath: null, jobsDirectory: directory, allocation: null };
    }
    const folders = { corePath: session.roots.core, jobsDirectory: directory };
    if (method === "remote-command") {
      const hosts = [shell.host, ...(destination === undefined ? requireOnline(session).online.nodes : [])];
      return { ...common, ...folders, shell, allocation: null, hosts };
    }
    if (method === "local-sbatch-script" && session.online === null) {
      const userScript = await this.#userScript(program, this.#here);
      const slurm = withDefaults(wanted, userScript, otherwise);
      const asked = (name: string) => valueOf(userScript, name) ?? null;
      const partition = slurm.partition ?? asked("partition");
      const allocation = mistakeIn(userScript) ?? {
        reservation: asked("reservation"),
        partition,
        time: slurm.time,
      };
      return { ...common, ...folders, userScript, slurm, shell, allocation };
    }
    if (method === "slurm-rest-api") {
      const target = { ...common, ...folders, shell, cancelRequests: cancelRequestsDirectory(this.#site) };
      return { ...target, ...(await this.#overRest(session, target, program, notBefore)) };
    }
    const online = requireOnline(session);
    const [now, userScript] = await Promise.all([
      this.slurmNow(online, notBefore, shell),
      this.#userScript(program, shell),
    ]);
    const slurm = withDefaults(wanted, userScript, otherwise);
    const target = {
      ...folders,
      ...dataHere,
      rest: this.#rest,
      userScript,
      slurm,
      shell,
      maxPending: this.#pendingAllowed(online, now, shell, jobs),
      notice: null,
    };
    const mistake = mistakeIn(userScript);
    if (mistake !== null) return { ...target, allocation: mistake };
    return {
      ...target,
      ...allocationIn(online, { ...slurm, nodes: slurm.nodes ?? leastNodes(userScript) }, now),
    };
  }

  /** Slurm's REST API is asked: at the session's nodes there may be no shell. */
  async #overRest(
    session: Session,
    { shell, slurm }: Pick<SubmitTarget, "shell" | "slurm">,
    program: string | undefined,
    notBefore: number,
  ): Promise<Pick<SubmitTarget, "allocation" | "notice" | "maxPending">> {
    if (this.#rest === null) throw new Error("the configuration has no slurmRest");
    const most = this.#maxPending;
    const account = session.online?.account ?? null;
    const user = await this.#rest.account();
    // The session's account owns the folders above: it could lead another's writing anywhere.
    if (account !== null && user !== account) throw tokenOfAnother(user, account);
    const [now, userScript] = await Promise.all([
      this.#rest.now(notBefore),
      this.#userScript(program, shell),
    ]).catch((error: unknown) => {
      throw error instanceof Unavailable ? overRest(error) : error;
    });
    if (now.pending >= most) throw overRest(tooManyPending(await this.#rest.account(), most));
    const maxPending = most === Infinity ? null : most;
    if (userScript !== null && userScript.options.length > 0) {
      return { allocation: notOverRest(userScript), notice: null, maxPending };
    }
    const { online } = session;
    if (online !== null) return { ...allocationIn({ ...session, online }, slurm, now), maxPending };
    const allocation = { reservation: null, partition: slurm.partition ?? null, time: slurm.time };
    return { allocation, notice: null, maxPending };
  }

  /** Where a trigger's job directories are. Asks Slurm nothing; throws as {@link placeFor}, and Deferred `jobs-folder-unsafe`. */
  async jobsOf(
    session: Session | null,
    { method, destination }: Pick<Trigger, "method" | "destination">,
  ): Promise<Pick<SubmitTarget, "shell" | "jobsDirectory">> {
    const of = session === null ? null : { id: session.id, corePath: session.roots.core };
    const directory = jobsDirectoryOf(this.#site, method, of);
    if (session === null || AS_WORKER.includes(method)) {
      this.#requirePrivateFolder(directory);
      return { shell: this.#here, jobsDirectory: directory };
    }
    // It is written by its jobs alone.
    if (method === "slurm-rest-api") return { shell: this.#here, jobsDirectory: directory };
    const online = requireOnline(session);
    const shell =
      method === "remote-command"
        ? await this.#shells.openNode(online, destination)
        : await this.#shells.open(online, destination);
    return { shell, jobsDirectory: directory };
  }

  /** The program, if it is a user's own sbatch script; what it was seconds ago will do. */
  async #userScript(program: string | undefined, shell: Shell): Promise<UserScript | null> {
    if (program?.startsWith("/") !== true) return null;
    const seen =
      this.#scripts.get(shell) ?? new Map<string, { at: number; script: Promise<UserScript | null> }>();
    this.#scripts.set(shell, seen);
    const known = seen.get(program);
    if (known !== undefined && Date.now() - known.at < ASK_EVERY_MS) return known.script;
    for (const [path, { at }] of seen) if (Date.now() - at >= ASK_EVERY_MS) seen.delete(path);
    const script = shell.run(readCommand(program)).then(({ stdout }) => {
      const read = readScript(stdout.toString("utf8", 0, MOST_BYTES));
      return read === undefined ? null : { path: program, ...read };
    });
    seen.set(program, { at: Date.now(), script });
    // A failure is not kept.
    script.catch(() => seen.delete(program));
    return script;
  }

  /** Throws what keeps jobs of the session from being submitted at all: nothing of this moment is taken from memory. */
  async probe(session: Session): Promise<void> {
    const online = requireOnline(session);
    const { pending } = await this.slurmNow(online, Date.now());
    if (pending >= this.#maxPending) throw tooManyPending(online.online.account, this.#maxPending);
  }

  /**
   * What Slurm says of reservations and nodes; the last answer if it is but seconds old, and was asked for not before
   * this time (milliseconds).
   */
  async slurmNow(session: OnlineSession, notBefore = 0, by?: Shell): Promise<SlurmNow> {
    const shell = by ?? (await this.#shells.open(session));
    const known = this.#asked.get(shell);
    const isFresh = known !== undefined && Date.now() - known.at < ASK_EVERY_MS && known.at >= notBefore;
    if (isFresh) return known.answer;
    const asked = { at: Date.now(), answer: ask(shell), submits: 0 };
    this.#asked.set(shell, asked);
    // A failure is not kept.
    asked.answer.catch(() => {
      if (this.#asked.get(shell) === asked) this.#asked.delete(shell);
    });
    return asked.answer;
  }

  /**
   * Only Slurm knows how many jobs wait: other workers submit too. While there are few, its last word will do; from a
   * quarter of the limit on each submit looks for itself.
   */
  #pendingAllowed(
    { online: { account } }: OnlineSession,
    now: SlurmNow,
    shell: Shell,
    jobs: number,
  ): number | null {
    if (now.pending >= this.#maxPending) throw tooManyPending(account, this.#maxPending);
    const asked = this.#asked.get(shell);
    if (asked !== undefined) asked.submits += jobs;
    const few = now.pending + (asked?.submits ?? 0) < this.#maxPending / 4;
    return few ? null : this.#maxPending;
  }
}

/** The session's reservation that fits, or what is to be done without. */
function allocationIn(
  session: OnlineSession,
  slurm: TargetSlurm,
  now: SlurmNow,
): Pick<SubmitTarget, "allocation" | "notice"> {
  const choice = chooseReservation(slurm, session.online, now);
  if ("allocation" in choice) return { allocation: choice.allocation, notice: null };
  const { reservations } = session.online;
  const hasNone = reservations.every(({ name }) => name !== null && !now.reservations.has(name));
  if (hasNone && !session.isOpen) return { allocation: ended(session), notice: null };
  return otherwise(slurm, session, choice.reasons);
}

/** Slurm reads `#SBATCH` lines of a script that `sbatch` is given. */
function notOverRest({ path }: UserScript): Rejected {
  return new Rejected({
    code: "submit-refused",
    message: `${path} is an sbatch script, and over Slurm's REST API nobody reads its #SBATCH lines.`,
    hint: "Run it with remote-sbatch-script; or say in its trigger's slurm what they say, and leave them out.",
  });
}

const DEFAULT_TIME = "01:00:00";

/**
 * What the trigger asks of Slurm; where it says nothing, what the user's script asks for, as far as the place depends on it;
 * and where that says nothing either, the default.
 */
function withDefaults(
  wanted: TriggerSlurm,
  script: UserScript | null,
  otherwise: NonNullable<Requirements["otherwise"]> = { time: DEFAULT_TIME },
): TargetSlurm {
  const asked = (name: string) => valueOf(script, name) || undefined;
  const asks = wanted.time ?? asked("time");
  const time = asks ?? otherwise.time;
  const least =
    wanted.timeMin ??
    (wanted.time === undefined ? asked("time-min") : undefined) ??
    (asks === undefined ? otherwise.timeMin : undefined);
  // Of a trigger and a script that do not know of each other.
  const isLonger = (slurmSeconds(least ?? "0") ?? 0) > (slurmSeconds(time) ?? Infinity);
  const timeMin = isLonger ? undefined : least;
  const constraint = wanted.constraint ?? asked("constraint");
  const [whole] = /^\d{1,6}$/.exec(asked("nodes") ?? "") ?? [];
  const nodes = wanted.nodes ?? (Number(whole ?? 0) || undefined);
  return { ...wanted, time, timeMin, constraint, nodes };
}

/** Of `--nodes=2-4` the job starts with two. */
function leastNodes(script: UserScript | null): number | undefined {
  const [, least = ""] = /^(\d{1,6})-/.exec(valueOf(script, "nodes") ?? "") ?? [];
  return Number(least) || undefined;
}

function mistakeIn(script: UserScript | null): Rejected | null {
  if (script?.mistake == null) return null;
  const { what, hint } = script.mistake;
  return new Rejected({ code: "submit-refused", message: `${script.path} ${what}.`, hint });
}

interface Asked {
  at: number;
  answer: Promise<SlurmNow>;
  /** How many jobs may have been submitted since. */
  submits: number;
}

async function ask(shell: Shell): Promise<SlurmNow> {
  const end = await shell.run(SLURM_NOW_COMMAND);
  const now = end.code === 0 ? parseSlurmNow(end.stdout.toString("utf8")) : undefined;
  if (now !== undefined) return now;
  const { host } = shell;
  // Slurm's programs say in several lines what they have tried, and the reason in the last one.
  const said = lastLines(end.stderr).at(-1) ?? "";
  // Slurm may be away, or only this node's part of it.
  shell.leaveHost?.();
  throw new Unavailable({
    code: "slurm-unavailable",
    message: `Slurm on ${host} does not say how its reservations stand: ${said || "no answer"}.`,
    hint: `A worker asks again; \`scontrol show reservation\` on ${host} says more.`,
  });
}

/** Closed at the beamline, and its reservations are deleted: nothing will come of waiting. */
function ended({ id }: Session): Rejected {
  return new Rejected({
    code: "beamtime-ended",
    message: `${id} has ended: it is not open at the beamline, and Slurm has none of its reservations.`,
    hint: "Analyse its data outside Mento, or have it started again and replay the message.",
  });
}

/** No reservation fits: what the trigger wants then. */
function otherwise(
  slurm: TargetSlurm,
  session: Session,
  reasons: readonly string[],
): Pick<SubmitTarget, "allocation" | "notice"> {
  const { fallback } = slurm;
  const details = {
    code: "no-reservation-fits",
    message: `No reservation of ${session.id} fits the job: ${reasons.join("; ")}.`,
  } as const;
  if (typeof fallback === "object") {
    const allocation: Allocation = { reservation: null, partition: fallback.partition, time: slurm.time };
    const hint = `The job runs in partition ${fallback.partition} instead, as its trigger says (slurm.fallback).`;
    return { allocation, notice: { ...details, hint } };
  }
  const error: MentoError =
    fallback === "fail"
      ? new Rejected({ ...details, hint: "The trigger does not wait for one (slurm.fallback: fail)." })
      : new Deferred({
          ...details,
          hint: "The message waits for one; ask for less time or other nodes, or set slurm.fallback.",
          giveUpAfterSeconds: WAIT_FOR_RESERVATION_SECONDS,
        });
  return { allocation: error, notice: null };
}
