import { randomUUID } from "node:crypto";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { Announcer, LIBRARY_SOURCE } from "./announcer.ts";
import { argumentsOf, type ArgumentList } from "./argument-list.ts";
import { Sessions, type Session } from "../beamtime/session.ts";
import type { BrokerClient } from "../broker/client.ts";
import { requestFromHere } from "../cancel/cancel-at.ts";
import { cancelKnown } from "../cancel/cancel-jobs.ts";
import type { MentoConfig } from "../config/config.ts";
import { Deferred, MentoError, Misconfigured } from "../errors.ts";
import type { TrackingRecord } from "../tracking/tracking-record.ts";
import type { SessionOptions } from "./find-session.ts";
import { Job } from "./job.ts";
import { libraryConfig } from "./library-config.ts";
import type { Log } from "../log.ts";
import type { CancelOutcome } from "../messages/job-cancel.ts";
import {
  jobEvent,
  toCloudEvent,
  type JobEventData,
  type JobMethod,
  type OutgoingEvent,
} from "../messages/job-event.ts";
import type { TriggerInput } from "../messages/trigger-input.ts";
import { METHODS } from "../submission/methods.ts";
import type { SubmitTarget, SubmittedJob } from "../submission/method.ts";
import { notesOf } from "../submission/sbatch.ts";
import { resubmitAt } from "../tracking/resubmit.ts";
import { openSlurmRest } from "../slurm/rest/open-slurm-rest.ts";
import { RuntimeDirectory } from "../shells/runtime-directory.ts";
import { SubmitTargets } from "../submission/submit-targets.ts";
import { SessionShells } from "../submission/session-shells.ts";
import type { SlurmRest } from "../slurm/rest/slurm-rest.ts";
import { LocalShell } from "../shells/local.ts";
import { quote } from "../shells/quote.ts";
import type { Shell } from "../shells/shell.ts";
import { Observers } from "../tracking/observer.ts";
import { Tracker } from "../tracking/tracker.ts";
import { argumentFor, HERE, planJob, RUN_TYPE, type JobPlan } from "../triggers/plan.ts";
import { Trigger as TriggerConfig } from "../triggers/trigger-config.ts";
import { submittedData } from "../submission/submitted-data.ts";

/** MENTO's ways to run a job, and one for a submit host. */
export const TriggerMethod = {
  SLURM_REST_API: "slurm-rest-api",
  REMOTE_COMMAND: "remote-command",
  REMOTE_SBATCH_SCRIPT: "remote-sbatch-script",
  LOCAL_BASH_SCRIPT: "local-bash-script",
  LOCAL_SBATCH_SCRIPT: "local-sbatch-script",
} as const satisfies Record<string, JobMethod>;
export type TriggerMethod = (typeof TriggerMethod)[keyof typeof TriggerMethod];

export interface TriggerOptions extends SessionOptions {
  /** Where the jobs' events are announced too. Default: nowhere. */
  broker?: BrokerClient;
  /**
   * With a broker: the worker group that watches jobs of Slurm, and announces them as its own, also when this program has
   * ended. Default: none; events are announced from here.
   */
  group?: string;
  log?: Log;
}

export interface RunOptions {
  /** The node that it is submitted from, or that a REMOTE_COMMAND runs on. Default: the first reserved one that answers. */
  destination?: string;
  /** Default: `mento_<beamline>_<beamtime>`. */
  jobName?: string;
  /** The time limit, in Slurm's forms. Default: what the script's `#SBATCH` lines say; else a day, or what is left of the reservation. */
  jobTime?: string;
  /** Slurm's `--dependency`. */
  jobDependency?: string;
  /**
   * Where the program's output goes, behind what is there: in any view of the session's files; a relative path is of the
   * folder that this program is in. Default: `job.log` in the job directory.
   */
  logFile?: string;
  env?: Record<string, string>;
  /** Where the program starts. Default: the job directory; for LOCAL_BASH_SCRIPT the folder that this program is in. */
  workdir?: string;
  stdin?: string;
  /** Of two runs with the same id one job becomes. Default: a new one. */
  id?: string;
}

/** So long a submit that was cut off is looked for. */
const LOOK_FOR_SUBMIT_MS = 300_000;
/** A day, or what is left of the reservation. */
const TIME_BY_DEFAULT = { time: "1-00:00:00", timeMin: "00:01:00" };
/** With no job to watch, connections are closed after so long, and do not keep the program from its end. */
const IDLE_MS = 500;

/**
 * Runs programs at the session's nodes, or here, without a broker: what a worker does for a message, for a call.
 *
 * Its connections are made when they are needed, and kept while jobs are watched.
 */
export class Trigger {
  readonly method: TriggerMethod;
  readonly #options: TriggerOptions;
  readonly #config: MentoConfig;
  readonly #sessions: Sessions;
  readonly #shells: SessionShells;
  readonly #targets: SubmitTargets;
  readonly #here: LocalShell;
  readonly #observers: Observers;
  readonly #slurmRest: SlurmRest | null;
  readonly #runtime = new RuntimeDirectory();
  readonly #tracker: Tracker;
  readonly #announcer: Announcer | undefined;
  readonly #jobs = new Map<string, Job>();
  /** How many calls use its connections now. */
  #underWay = 0;
  #idle: NodeJS.Timeout | undefined;

  /** @throws Misconfigured `wrong-configuration`, `configuration-unreadable` */
  constructor(method: TriggerMethod = TriggerMethod.REMOTE_SBATCH_SCRIPT, options: TriggerOptions = {}) {
    this.method = method;
    this.#options = options;
    this.#config = libraryConfig(options);
    if (method === TriggerMethod.SLURM_REST_API && this.#config.slurmRest === undefined) throw noSlurmRest();
    const { site, ssh, worker } = this.#config;
    const log = options.log ?? pino({ level: "silent" });
    this.#sessions = new Sessions(site, (message) => log.warn(message));
    this.#shells = new SessionShells(ssh, this.#runtime, log);
    this.#here = new LocalShell(ssh.commandTimeoutMs);
    const rest = openSlurmRest(this.#config.slurmRest);
    this.#slurmRest = rest;
    this.#targets = new SubmitTargets(site, this.#shells, { here: this.#here, rest });
    this.#announcer = options.broker && new Announcer(options.broker, options.group, options.log);
    this.#observers = new Observers(this.#here, this.#sessions, this.#shells, rest, site);
    this.#tracker = new Tracker({
      observerOf: (record) => this.#observers.of(record),
      putAside: (_, why) => Promise.reject(new Error(why)),
      announce: (event) => this.#announce(event),
      track: (record) => {
        this.#tracker.take(record, () => undefined);
        return Promise.resolve();
      },
      // Nobody counts the library's jobs.
      leavePermits: () => Promise.resolve(),
      resubmit: resubmitAt(this.#sessions, this.#targets),
      reconcileSeconds: worker.reconcileSeconds,
      lostAfterHours: worker.lostAfterHours,
      log,
      now: () => new Date(),
    });
  }

  /**
   * Submits the program as a job. Arguments that are paths at the beamline become the same files' paths where the job
   * runs; all others reach it byte for byte.
   *
   * @throws Misconfigured `wrong-usage`; and what a worker would reject or defer a message for, such as
   *   `no-session-open`, `no-online-resources`, `no-reservation-fits`, `submit-refused`, `ssh-unreachable`
   */
  async run(argList: ArgumentList, options: RunOptions = {}): Promise<Job> {
    return this.#using(() => this.#run(argList, options));
  }

  /** What {@link run} would do, without doing it: where the job would run, and as what. */
  async plan(
    argList: ArgumentList,
    options: RunOptions = {},
  ): Promise<{ plan: JobPlan; target: SubmitTarget }> {
    return this.#using(async () => {
      const plan = this.#plan(argList, options, await this.#session());
      return { plan, target: await this.#targetFor(plan) };
    });
  }

  /** Watches no job any more; the jobs go on. */
  async close(): Promise<void> {
    clearTimeout(this.#idle);
    await this.#tracker.stop();
    for (const job of this.#jobs.values()) job.leave();
    this.#jobs.clear();
    this.#rest();
  }

  async #run(argList: ArgumentList, options: RunOptions): Promise<Job> {
    const session = await this.#session();
    const plan = this.#plan(argList, options, session);
    const received = new Date();
    const { job: submitted, target, before } = await this.#submit(plan, received);
    const { jobsDirectory, slurm } = target;
    const { traceparent } = plan;
    const data = submittedData(plan, submitted, { ready: null, notice: null });
    const known = this.#jobs.get(plan.jobId);
    if (known !== undefined) return known;
    const record: TrackingRecord = { version: 1, data, traceparent, jobsDirectory, slurm };
    const notes = notesOf(plan, target, submitted);
    const first = notes.length > 0 ? { ...data, notes } : data;
    const job: Job = new Job(first, {
      run: (script) => this.#using(async () => (await this.#observers.of(record)).shell.run(script)),
      cancel: (reason) => this.#using(() => this.#cancel(job.data, reason)),
      // An earlier call's job has its output there already.
      logBegins: Date.parse(submitted.submittedAt) < before.at ? 0 : before.bytes,
    });
    this.#jobs.set(plan.jobId, job);
    await this.#announce(jobEvent(first, new Date(), { traceparent }));
    await this.#announcer?.handOver(record);
    this.#tracker.take(record, () => undefined);
    return job;
  }

  /** An answer that got lost says nothing of the job: it is looked for. */
  async #submit(
    plan: JobPlan,
    received: Date,
  ): Promise<{ job: SubmittedJob; target: SubmitTarget; before: LogBefore }> {
    const method = METHODS[plan.trigger.method];
    const until = Date.now() + LOOK_FOR_SUBMIT_MS;
    let before: LogBefore | undefined;
    for (;;) {
      try {
        const target = await this.#targetFor(plan);
        before ??= await logBefore(plan, target.shell);
        const options = { dataTimeout: 0, dataCheck: undefined, received };
        return { job: await method.submit(plan, target, options), target, before };
      } catch (error) {
        const isUnclear =
          error instanceof MentoError && ["submit-in-flight", "ssh-lost"].includes(error.code);
        if (!isUnclear || Date.now() > until) throw error;
        await sleep(2_000);
      }
    }
  }

  #targetFor({ session, trigger, argv }: JobPlan): Promise<SubmitTarget> {
    return this.#targets.targetFor(session as Session | null, {
      ...{ ...trigger, program: argv[0] },
      otherwise: TIME_BY_DEFAULT,
    });
  }

  /** What runs here needs no open session. */
  async #session(): Promise<Session | null> {
    const { beamtimeId } = this.#options;
    return this.#sessions.find(beamtimeId).catch((error: unknown) => {
      const isNeeded = !HERE.includes(this.method) || beamtimeId !== undefined;
      if (isNeeded || !(error instanceof Deferred)) throw error;
      return null;
    });
  }

  #plan(argList: ArgumentList, options: RunOptions, session: Session | null): JobPlan {
    const { jobTime, jobDependency, destination, workdir, logFile } = options;
    const [program, ...rest] = argumentsOf(argList);
    const name = options.jobName ?? (session === null ? "mento" : `mento_${session.beamline}_${session.id}`);
    const parsed = TriggerConfig.safeParse({
      name: name.replace(/[^A-Za-z0-9._-]/g, "-").slice(0, 63),
      method: this.method,
      run: ["-"],
      slurm: {
        ...(jobTime !== undefined && { time: jobTime }),
        fallback: "fail",
        ...(jobDependency !== undefined && { dependency: jobDependency }),
      },
      ...(destination !== undefined && { destination }),
    });
    if (!parsed.success) throw wrongOptions(parsed.error.issues);
    const at = (text: string) => argumentFor(text, session, this.method);
    const id = options.id ?? randomUUID();
    const plan = planJob(libraryInput(id), parsed.data, session, this.#group);
    return {
      ...plan,
      argv: [program, ...rest].map(at),
      env: options.env ?? {},
      workdir: workdir === undefined ? this.#startsIn() : at(workdir),
      stdin: options.stdin ?? null,
      logFile: logFile === undefined ? null : at(resolve(logFile)),
    };
  }

  /** Whose job it is, in its events. */
  get #group(): string {
    const { broker, group } = this.#options;
    return (broker && group) ?? "library";
  }

  #startsIn(): string | null {
    return HERE.includes(this.method) ? process.cwd() : null;
  }

  #cancel(data: JobEventData, reason: string | null): Promise<CancelOutcome> {
    const [site, sessions, shells] = [this.#config.site, this.#sessions, this.#shells];
    const deps = { site, sessions, shells, here: this.#here, rest: this.#slurmRest, destinations: [] };
    return cancelKnown(data, requestFromHere(reason), deps);
  }

  async #announce(event: OutgoingEvent): Promise<void> {
    const known = "job" in event.data ? this.#jobs.get(event.data.job.id) : undefined;
    const message = toCloudEvent(event, this.#announcer?.source ?? LIBRARY_SOURCE);
    await this.#announcer?.announce(message, event.routingKey);
    known?.take(event.data as Job["data"], message);
    if (known?.hasEnded === true) this.#jobs.delete(known.id);
    this.#restWhenIdle();
  }

  /** Keeps the connections while it works. */
  async #using<T>(work: () => Promise<T>): Promise<T> {
    this.#underWay += 1;
    try {
      return await work();
    } finally {
      this.#underWay -= 1;
      this.#restWhenIdle();
    }
  }

  #restWhenIdle(): void {
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      if (this.#jobs.size === 0 && this.#underWay === 0) this.#rest();
    }, IDLE_MS);
  }

  #rest(): void {
    this.#shells.closeAll();
    this.#runtime.remove();
  }
}

/** How much the job's log file holds before the job, if it is one that may be there already; and its host's time. */
interface LogBefore {
  bytes: number;
  at: number;
}

async function logBefore({ logFile }: JobPlan, shell: Shell): Promise<LogBefore> {
  if (logFile === null) return { bytes: 0, at: 0 };
  const end = await shell.run(`date +%s%3N; stat -Lc %s ${quote(logFile)} 2>/dev/null`);
  const [at, bytes] = end.stdout.toString("utf8").split("\n").map(Number);
  return { bytes: bytes || 0, at: at || 0 };
}

function libraryInput(id: string): TriggerInput {
  const event = {
    specversion: "1.0" as const,
    id,
    source: LIBRARY_SOURCE,
    type: RUN_TYPE,
    time: new Date().toISOString(),
  };
  return {
    type: "data.ready",
    event,
    cause: { source: event.source, id, type: event.type },
    chain: [],
    job: null,
    ready: event.time,
    beamline: null,
    beamtimeId: null,
    paths: [],
    bytes: undefined,
    facts: { detector: null, technique: null, scan: null, sample: null, parameters: {} },
    correlationId: null,
  };
}

function noSlurmRest(): Misconfigured {
  return new Misconfigured({
    code: "wrong-configuration",
    message: "slurm-rest-api needs Slurm's REST API, and the configuration has no slurmRest.",
    hint: "Say there where slurmrestd answers and where its tokens come from; docs/configuration.md describes it.",
  });
}

function wrongOptions(issues: readonly { path: PropertyKey[]; message: string }[]): Misconfigured {
  const list = issues.map(({ path, message }) => `${String(path.at(-1))}: ${message}`);
  return new Misconfigured({
    code: "wrong-usage",
    message: `The job's options have mistakes: ${list.join("; ")}.`,
    hint: "docs/library.md describes them.",
  });
}
