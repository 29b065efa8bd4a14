import { hostname } from "node:os";
import { Admission } from "../intake/admission.ts";
import { ArrayCollector, arraySizes, type ArrayDeps } from "../intake/collect-array.ts";
import { requireOnline, Sessions, type OnlineSession, type Session } from "../beamtime/session.ts";
import { brokerLost, type BrokerLink } from "../broker/connection.ts";
import { openIntake } from "../intake/intake.ts";
import { careName, type LinkCare } from "../broker/link-care.ts";
import { Publisher, type Publish } from "../broker/publisher.ts";
import { declareTopology, topologyFor, type Topology } from "../broker/topology.ts";
import { cleanUp } from "./clean-up.ts";
import { brokerCredentials, type MentoConfig } from "../config/config.ts";
import { jobsDirectoryOf } from "../jobs/site-folders.ts";
import { openSlurmRest } from "../slurm/rest/open-slurm-rest.ts";
import { Deferred, Unavailable, errorText } from "../errors.ts";
import { careNameOfJob, JobsQueue } from "../tracking/jobs-queue.ts";
import {
  handleMessage,
  handleQueued,
  type MessageDeps,
  type ReceivedMessage,
} from "../intake/handle-message.ts";
import { leaveCommand } from "../jobs/permits.ts";
import { requireOwnFolder, type TrackingRecord } from "../tracking/tracking-record.ts";
import { yieldForLarge } from "../messages/yield-for-large.ts";
import type { Log } from "../log.ts";
import { originOf } from "../messages/origin.ts";
import { METHODS } from "../submission/methods.ts";
import { submitArray } from "../submission/sbatch-array.ts";
import { openTriggerQueues, roomAt, type TriggerQueues } from "../intake/open-trigger-queues.ts";
import { hideReady, showReady } from "./ready-file.ts";
import { resubmitAt } from "../tracking/resubmit.ts";
import { RuntimeDirectory } from "../shells/runtime-directory.ts";
import { SubmitTargets } from "../submission/submit-targets.ts";
import { SessionShells } from "../submission/session-shells.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import { LocalShell } from "../shells/local.ts";
import { countsJobs } from "../triggers/queue-position.ts";
import { METHODS_HERE, Observers } from "../tracking/observer.ts";
import { Tracker } from "../tracking/tracker.ts";
import type { TrackerDeps } from "../tracking/tracker-deps.ts";
import { announcing } from "./worker-announce.ts";
import { cancelling, type Reach } from "./worker-cancel.ts";
import { WorkerLine, type WorkerLineOptions } from "./worker-line.ts";

const SWEEP_EVERY_MS = 30_000;
/** Directories of jobs that ended long ago are looked for so often. */
const CLEAN_UP_EVERY_MS = 3600_000;
/** Messages of one session must not keep those of another from being seen. */
const PREFETCH_PER_SLOT = 16;

/** The events that triggers of this configuration start on, of whichever group's jobs. */
function eventKeysOf(triggers: readonly Trigger[]): string[] {
  const types = triggers.flatMap(({ on }) => on.type);
  return [...new Set(types)].filter((type) => type !== "data.ready").map((type) => `*.*.${type}`);
}

const LIMITED =
  "RabbitMQ 4 gives up messages of these queues after 20 deliveries, since RabbitMQ 3 has made them: stop the workers, " +
  "empty and delete them, or set a policy with delivery-limit -1 (docs/operations.md)";

/** Stands between a line and what it needs from outside: tests stop a worker at each of these steps. */
export type Between = <Deps extends object>(line: "message" | "job", deps: Deps) => Deps;

/**
 * A worker: takes messages, submits jobs, watches them. Built from its configuration, run until `stop` aborts.
 *
 * @throws Unavailable `broker-unreachable`, `broker-refused`, `ssh-unreachable` when it cannot start
 * @throws Misconfigured `queue-arguments-differ`
 */
export async function runWorker(
  config: MentoConfig,
  log: Log,
  stop: AbortSignal,
  between: Between = (_, deps) => deps,
): Promise<void> {
  hideReady(config.worker.readyFile);
  const sessions = new Sessions(config.site, (message) => log.warn(message));
  const runtime = new RuntimeDirectory();
  const shells = new SessionShells(config.ssh, runtime, log);
  const worker = new Worker(config, sessions, shells, log, between);
  const sweeping = setInterval(() => {
    shells.sweep(sessions).catch((error: unknown) => log.warn({ err: error }, errorText(error)));
  }, SWEEP_EVERY_MS);
  const cleaningUp = setInterval(() => void worker.cleanUp(), CLEAN_UP_EVERY_MS);
  const { lines } = worker;
  stop.addEventListener("abort", () => log.info("stopping: what is under way is finished"), { once: true });
  try {
    await allOf(stop, lines, (line, end) => line.connect(end));
    if (!stop.aborted) {
      await checkNode(sessions, shells, log);
      void worker.cleanUp();
      await allOf(stop, lines, (line, end) => line.serve(end));
    }
  } finally {
    clearInterval(sweeping);
    clearInterval(cleaningUp);
    worker.stop();
    await Promise.all(lines.map((line) => line.close()));
    shells.close();
    runtime.remove();
  }
  log.info("stopped");
}

/** Does it with all of them; where one fails, the others are ended. */
async function allOf<T>(
  stop: AbortSignal,
  all: readonly T[],
  work: (one: T, end: AbortSignal) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const end = AbortSignal.any([stop, failed.signal]);
  const results = await Promise.allSettled(
    all.map((one) =>
      work(one, end).catch((error: unknown) => {
        failed.abort();
        throw error;
      }),
    ),
  );
  for (const result of results) if (result.status === "rejected") throw result.reason;
}

class Worker {
  readonly lines: readonly WorkerLine[];
  readonly #config: MentoConfig;
  readonly #topology: Topology;
  readonly #sessions: Sessions;
  readonly #targets: SubmitTargets;
  readonly #observers: Observers;
  readonly #reach: Reach;
  readonly #admission: Admission;
  readonly #log: Log;
  readonly #between: Between;
  #queues: TriggerQueues | undefined;
  #hasSaidLimited = false;
  #linesReady = 0;
  #hasServed = false;
  #noLongerReady: () => void = () => undefined;

  constructor(config: MentoConfig, sessions: Sessions, shells: SessionShells, log: Log, between: Between) {
    const { broker, worker } = config;
    this.#between = between;
    this.#config = config;
    this.#sessions = sessions;
    const here = new LocalShell(config.ssh.commandTimeoutMs);
    const rest = openSlurmRest(config.slurmRest);
    this.#reach = { sessions, shells, here, rest };
    this.#targets = new SubmitTargets(config.site, shells, { here, rest, maxPending: worker.maxPending });
    this.#observers = new Observers(here, sessions, shells, rest, config.site);
    this.#log = log;
    this.#admission = new Admission({
      concurrency: worker.concurrency,
      maxSubmitRate: worker.maxSubmitRate,
      isOnlySession: (session) => this.#isOnlySession(session),
      // Its nodes and key may be others by now, or it may be closed.
      probe: async ({ id }) => this.#targets.probe(await sessions.find(id)),
      log,
    });
    this.#topology = topologyFor(broker.prefix, worker.group, hostname());
    const line = (what: string, open: WorkerLineOptions["open"]) =>
      new WorkerLine({
        address: {
          url: broker.url,
          ...brokerCredentials(broker),
          name: `mento worker ${worker.group} on ${hostname()} ${what}`,
        },
        open,
        ready: () => this.#lineIsReady(),
        graceSeconds: worker.shutdownGraceSeconds,
        log,
      });
    this.lines = worker.roles.map((role) =>
      role === "tracker"
        ? line("jobs", (link, care) => this.#openJobs(link, care))
        : line("messages", (link, care) => this.#openMessages(link, care)),
    );
  }

  stop(): void {
    this.#admission.stop();
  }

  async cleanUp(): Promise<void> {
    await cleanUp(this.#config, this.#reach, this.#log);
  }

  async #isOnlySession({ id }: Session): Promise<boolean> {
    const [first, second] = (await this.#sessions.open()).open;
    return first?.id === id && second === undefined;
  }

  /** The worker is ready as long as all its lines are. */
  #lineIsReady(): () => void {
    const { worker, triggers } = this.#config;
    this.#linesReady += 1;
    if (this.#linesReady === this.lines.length) {
      this.#noLongerReady = showReady(worker.readyFile, !this.#hasServed);
      this.#hasServed = true;
      this.#log.info({ group: worker.group, triggers: triggers.length }, "ready");
    }
    let isReady = true;
    return () => {
      if (!isReady) return;
      isReady = false;
      this.#linesReady -= 1;
      this.#noLongerReady();
    };
  }

  async #declare(link: BrokerLink): Promise<void> {
    const { worker, triggers } = this.#config;
    const { limited } = await declareTopology(link, this.#topology, {
      keys: worker.keys,
      eventKeys: eventKeysOf(triggers),
      isWorker: true,
      triggers: triggers.filter(countsJobs).map(({ name }) => name),
    });
    // Each link says the same of them.
    if (limited.length > 0 && !this.#hasSaidLimited) this.#log.warn({ queues: limited }, LIMITED);
    this.#hasSaidLimited = limited.length > 0;
  }

  /** Watches jobs to their end. */
  async #openJobs(link: BrokerLink, care: LinkCare): Promise<{ stop(): Promise<void> }> {
    await this.#declare(link);
    const { worker } = this.#config;
    const [log, topology] = [this.#log, this.#topology];
    const publisher = await Publisher.open(link);
    const cancels = cancelling({ config: this.#config, ...this.#reach, link, publisher, topology, log });
    const announce = announcing({ link, publisher, topology, worker, log });
    const jobsQueue = new JobsQueue({ link, care, publisher, topology, log });
    const jobDeps: TrackerDeps = {
      observerOf: async (record) => {
        requireOwnFolder(record, await this.#placeOf(record));
        return this.#observers.of(record);
      },
      putAside: (record, why) => jobsQueue.putAside(record, why),
      leavePermits: async (record) => {
        const { data, jobsDirectory, semaphores = [] } = record;
        if (semaphores.length === 0) return;
        const { shell } = await this.#observers.of(record);
        await shell.run(leaveCommand(jobsDirectory, data.job.id, semaphores));
        this.#queues?.wake();
      },
      resubmit: resubmitAt(this.#sessions, this.#targets),
      announce: (event) =>
        care.handle(careNameOfJob("job" in event.data ? event.data.job.id : event.id), () => announce(event)),
      track: (record) => jobsQueue.track(record),
      reconcileSeconds: worker.reconcileSeconds,
      lostAfterHours: worker.lostAfterHours,
      log,
      now: () => new Date(),
    };
    const tracker = new Tracker(this.#between("job", jobDeps));
    // Its deliveries are void with the link; a tracker that went on would take the bells that the next one listens for.
    void link.lost.then(() => tracker.stop());
    const consumers = await jobsQueue.open({
      take: (record, ack) => tracker.take(record, ack),
      handOn: (count, isOfQueue) => tracker.handOn(count, isOfQueue),
      cancel: (message) => cancels.fromHost(message),
    });
    return {
      stop: async () => {
        await Promise.all(consumers.map((consumer) => consumer.pause()));
        await tracker.stop();
      },
    };
  }

  /** Takes messages and submits jobs. */
  async #openMessages(link: BrokerLink, care: LinkCare): Promise<{ stop(): Promise<void> }> {
    await this.#declare(link);
    const { triggers, worker } = this.#config;
    const [log, topology] = [this.#log, this.#topology];
    const now = () => new Date();
    const publisher = await Publisher.open(link);
    const cancels = cancelling({ config: this.#config, ...this.#reach, link, publisher, topology, log });
    const jobsQueue = new JobsQueue({ link, care, publisher, topology, log });
    const submitDeps: ArrayDeps = {
      enter: (session, jobs, priority) => this.#admission.enter(session, jobs, priority),
      targetFor: (session, requirements) => this.#targets.targetFor(session, requirements),
      submitArray,
      isOnlySession: (session) => this.#isOnlySession(session),
    };
    const mostInArrays = arraySizes(triggers);
    const arrays = new ArrayCollector(this.#between("message", submitDeps), mostInArrays);
    void link.lost.then((why) => {
      arrays.refuse(why ?? brokerLost("it was closed"));
      if (why !== undefined) this.#admission.refuseWaiting(why);
    });
    const { enter, targetFor } = submitDeps;
    const messageDeps: MessageDeps = this.#between("message", {
      group: worker.group,
      triggers,
      jobsFolderOf: (method, session) => jobsDirectoryOf(this.#config.site, method, session),
      findSession: (id, paths) => this.#sessions.find(id, paths),
      ...{ enter, targetFor },
      collect: (session, plan, options) => arrays.collect(session, plan, options),
      report: (session, trouble) => this.#admission.report(session, trouble),
      requireRoom: roomAt(this.#targets, this.#admission),
      queueFor: (trigger, copy) =>
        publisher.publish({ exchange: "", routingKey: topology.triggerQueue(trigger), ...copy }),
      methods: METHODS,
      track: (record) => jobsQueue.track(record),
      announce: announcing({ link, publisher, topology, worker, log }),
      log,
      now,
    });
    const { publish } = this.#between("message", { publish: (one: Publish) => publisher.publish(one) });
    const withCare = async ({ body, properties }: ReceivedMessage, work: () => Promise<void>) => {
      await yieldForLarge(body.byteLength);
      await care.handle(careName(originOf(body, properties)), work);
    };
    const deps = {
      link,
      topology,
      publish,
      answer: (one: Omit<Publish, "body">, body: (most: number) => Buffer) =>
        publisher.publishOnce({ ...one, body: body(Math.min(worker.maxEventBytes, publisher.maxBytes)) }),
      announce: messageDeps.announce,
      whenOpen: () => this.#admission.whenOpen(),
      log,
      now,
      care,
      handle: (received: ReceivedMessage) => withCare(received, () => handleMessage(received, messageDeps)),
      handleQueued: (
        received: ReceivedMessage,
        trigger: Trigger,
        position: "now" | { overtakenBy: string },
      ) => withCare(received, () => handleQueued(received, trigger, position, messageDeps)),
      cancel: cancels.message,
    };
    const queues = await openTriggerQueues(triggers, deps, this.#sessions, this.#targets);
    this.#queues = queues;
    const prefetch = worker.concurrency * PREFETCH_PER_SLOT + 2 * mostInArrays;
    const intake = await openIntake({ ...deps, queue: topology.intakeQueue, prefetch });
    return {
      stop: async () => {
        arrays.hurry();
        await intake.stop();
        await queues.stop();
      },
    };
  }

  /** Where the configuration has the job's folder, and its session's data. */
  async #placeOf({ data: { job, session } }: TrackingRecord): Promise<{
    jobsDirectory: string;
    corePath: string | null;
  }> {
    const { site } = this.#config;
    const { id, corePath } = session;
    // Of a session that nobody knew, a job here is of none.
    if (id === null || (corePath === null && METHODS_HERE.includes(job.method)))
      return { jobsDirectory: jobsDirectoryOf(site, job.method, null), corePath: null };
    const found = await this.#sessions.find(id).catch((error: unknown) => {
      // What is seen from this host goes on being watched when the session's metadata is gone.
      if (!METHODS_HERE.includes(job.method) || corePath === null) throw error;
      return undefined;
    });
    const core = found?.roots.core ?? corePath ?? "";
    return { jobsDirectory: jobsDirectoryOf(site, job.method, { id, corePath: core }), corePath: core };
  }
}

/**
 * If a beamtime is open, its node must answer before work begins: a wrong address or host key shows at once, and not
 * with the first message of the night. Without an open beamtime there is nothing to check yet.
 */
async function checkNode(sessions: Sessions, shells: SessionShells, log: Log): Promise<void> {
  let session: OnlineSession;
  try {
    session = requireOnline(await sessions.find(undefined));
  } catch (error) {
    log.info(errorText(error));
    return;
  }
  try {
    const shell = await shells.open(session);
    await shell.run("true");
    log.info({ session: session.id, node: shell.host, account: shell.account }, "the reserved node answers");
  } catch (error) {
    // What the start files of an account do that is let in is its own affair: others are served.
    const isItsOwn = error instanceof Unavailable && error.code === "ssh-lost";
    if (!(error instanceof Deferred || isItsOwn)) throw error;
    log.warn({ code: error.code, hint: error.hint }, error.message);
  }
}
