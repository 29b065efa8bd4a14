import { setTimeout as sleep } from "node:timers/promises";
import { hostname } from "node:os";
import { Admission } from "./admission.ts";
import { ArrayCollector, arraySizes, type ArrayEffects } from "./collect-array.ts";
import { requireOnline, Sessions, type OnlineSession } from "./beamtime/session.ts";
import { brokerLost, type BrokerAddress, type BrokerLink } from "./broker/connection.ts";
import { openIntake } from "./broker/intake.ts";
import { careName, LinkCare } from "./broker/link-care.ts";
import { Publisher, type Publish } from "./broker/publisher.ts";
import { declareTopology, topologyFor, type Topology } from "./broker/topology.ts";
import { cleanUp } from "./clean-up.ts";
import { brokerCredentials, jobsDirectoryOf, type MentoConfig } from "./config.ts";
import { openSlurmRest } from "./open-slurm-rest.ts";
import { Deferred, MentoError, Misconfigured, Unavailable, errorText } from "./errors.ts";
import { careNameOfJob, JobsQueue } from "./jobs-queue.ts";
import { handleMessage, type IntakeEffects, type ReceivedMessage } from "./handle-message.ts";
import { leaveCommand } from "./jobs/seats.ts";
import { requireOwnFolder, type TrackingRecord } from "./jobs/tracking-record.ts";
import type { Log } from "./log.ts";
import { originOf } from "./messages/origin.ts";
import { eventBytes } from "./messages/event-bytes.ts";
import { toCloudEvent, type OutgoingEvent } from "./messages/job-event.ts";
import { METHODS } from "./methods/methods.ts";
import { submitArray } from "./methods/sbatch-array.ts";
import { openTriggerQueues, roomAt, type TriggerQueues } from "./open-trigger-queues.ts";
import { hideReady, showReady } from "./ready-file.ts";
import { resubmitAt } from "./resubmit.ts";
import { RuntimeDirectory } from "./runtime-directory.ts";
import { SessionPlaces } from "./session-places.ts";
import { SessionShells } from "./session-shells.ts";
import type { Trigger } from "./triggers/trigger-config.ts";
import { LocalShell } from "./shells/local.ts";
import { hasTurns } from "./triggers/turns.ts";
import { METHODS_HERE, Sights } from "./sight.ts";
import { Tracker } from "./track-jobs.ts";
import type { TrackerEffects } from "./tracker-effects.ts";
import { cancelling, type Reach } from "./worker-cancel.ts";
import { firstLink, isLost, nextLink } from "./worker-link.ts";

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
export type Between = <Effects extends object>(line: "message" | "job", effects: Effects) => Effects;

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
  between: Between = (_, effects) => effects,
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
  let link: BrokerLink | undefined;
  try {
    link = await firstLink(worker.address, log, stop);
    if (link !== undefined) await checkNode(sessions, shells, log);
    if (link !== undefined) void worker.cleanUp();
    while (link !== undefined) {
      await worker.serve(link, stop);
      link = stop.aborted ? undefined : await nextLink(worker.address, log, stop, worker.care.lostSoon);
    }
  } finally {
    clearInterval(sweeping);
    clearInterval(cleaningUp);
    worker.stop();
    await link?.close();
    shells.close();
    runtime.remove();
  }
  log.info("stopped");
}

class Worker {
  readonly address: BrokerAddress;
  readonly #config: MentoConfig;
  readonly #topology: Topology;
  readonly #sessions: Sessions;
  readonly #places: SessionPlaces;
  readonly #sights: Sights;
  readonly #reach: Reach;
  readonly #admission: Admission;
  readonly #log: Log;
  readonly #between: Between;
  readonly care = new LinkCare();
  #hasServed = false;

  constructor(config: MentoConfig, sessions: Sessions, shells: SessionShells, log: Log, between: Between) {
    const { broker, worker } = config;
    this.#between = between;
    this.#config = config;
    this.#sessions = sessions;
    const here = new LocalShell(config.ssh.commandTimeoutMs);
    const rest = openSlurmRest(config.slurmRest);
    this.#reach = { sessions, shells, here, rest };
    this.#places = new SessionPlaces(config.site, shells, { here, rest, maxPending: worker.maxPending });
    this.#sights = new Sights(here, sessions, shells, rest, config.site);
    this.#log = log;
    this.#admission = new Admission({
      concurrency: worker.concurrency,
      maxSubmitRate: worker.maxSubmitRate,
      isOnlySession: async ({ id }) => {
        const [first, second] = (await sessions.open()).open;
        return first?.id === id && second === undefined;
      },
      // Its nodes and key may be others by now, or it may be closed.
      probe: async ({ id }) => this.#places.probe(await sessions.find(id)),
      log,
    });
    this.#topology = topologyFor(broker.prefix, worker.group, hostname());
    this.address = {
      url: broker.url,
      ...brokerCredentials(broker),
      name: `mento worker ${worker.group} on ${hostname()}`,
    };
  }

  stop(): void {
    this.#admission.stop();
  }

  async cleanUp(): Promise<void> {
    await cleanUp(this.#config, this.#reach, this.#log);
  }

  /** Works over one link to the broker, until it is lost or the worker is to stop. */
  async serve(link: BrokerLink, stop: AbortSignal): Promise<void> {
    const log = this.#log;
    // A broker that hangs meanwhile is not waited for.
    const giveUp = () => void link.close();
    let noLongerReady: (() => void) | undefined;
    this.care.opened();
    // Before anybody else: who handles what when the link is lost is known only then.
    void link.lost.then(() => this.care.lost(link.wasGivenUp));
    if (this.care.isCareful)
      log.warn("the link to RabbitMQ was lost soon, again: messages are handled one at a time");
    stop.addEventListener("abort", giveUp);
    try {
      const parts = await this.#open(link);
      stop.removeEventListener("abort", giveUp);
      noLongerReady = showReady(this.#config.worker.readyFile, !this.#hasServed);
      this.#hasServed = true;
      log.info({ group: this.#config.worker.group, triggers: this.#config.triggers.length }, "ready");
      const stopped = new Promise<undefined>((resolve) => {
        if (stop.aborted) resolve(undefined);
        stop.addEventListener("abort", () => resolve(undefined), { once: true });
      });
      const lost = await Promise.race([link.lost, stopped]);
      noLongerReady();
      if (lost === undefined) log.info("stopping: messages under way are finished");
      else log.warn({ code: lost.code }, lost.message);
      await within(this.#config.worker.shutdownGraceSeconds * 1000, parts.stop());
    } catch (error) {
      if (stop.aborted) return;
      const refused = error instanceof MentoError && error.code === "broker-refused";
      const isBroken = error instanceof Unavailable || (await isLost(link));
      if (error instanceof Misconfigured || (!this.#hasServed && (refused || !isBroken))) throw error;
      log.warn({ err: error }, `the work could not be taken up: ${errorText(error)}`);
    } finally {
      noLongerReady?.();
      stop.removeEventListener("abort", giveUp);
      await link.close();
    }
  }

  async #open(link: BrokerLink): Promise<{ stop(): Promise<void> }> {
    const { worker } = this.#config;
    const log = this.#log;
    const { care } = this;
    const topology = this.#topology;
    const { limited } = await declareTopology(link, topology, {
      keys: worker.keys,
      eventKeys: eventKeysOf(this.#config.triggers),
      isWorker: true,
      triggers: this.#config.triggers.filter(hasTurns).map(({ name }) => name),
    });
    if (limited.length > 0) log.warn({ queues: limited }, LIMITED);
    let queues: TriggerQueues | undefined;
    const publisher = await Publisher.open(link);
    const now = () => new Date();
    const cancels = cancelling({ config: this.#config, ...this.#reach, link, publisher, topology, log });

    const announce = async (event: OutgoingEvent) => {
      const published = publisher.publish({
        exchange: topology.eventsExchange,
        routingKey: event.routingKey,
        // What the broker has refused for its size is cut to what it takes, never sent again as it is.
        body: eventBytes(
          toCloudEvent(event, `/mento/${worker.group}`),
          Math.min(worker.maxEventBytes, publisher.maxBytes),
        ),
        properties: {
          messageId: event.id,
          type: event.type,
          appId: `/mento/${worker.group}`,
          timestamp: Math.floor(Date.parse(event.time) / 1000),
          contentType: "application/cloudevents+json",
        },
      });
      await published.catch((error: unknown) => {
        const { code } = error instanceof MentoError ? error : {};
        // Somebody has deleted the history: a new link declares it again.
        if (code === "nobody-listens") link.fail(brokerLost(`no queue takes ${event.type}`, error));
        if (code !== "publish-refused" || !(error instanceof MentoError)) throw error;
        // One client's full queue must not stop the beamline; the others have the event.
        log.error({ event: event.id, code: error.code, hint: error.hint }, error.message);
      });
      log.info({ event: event.id, cause: event.data.cause }, event.type);
    };
    const jobsQueue = new JobsQueue({ link, care, publisher, topology, log });
    const track = (record: TrackingRecord) => jobsQueue.track(record);

    const jobEffects: TrackerEffects = {
      sightOf: async (record) => {
        requireOwnFolder(record, await this.#placeOf(record));
        return this.#sights.of(record);
      },
      putAside: (record, why) => jobsQueue.putAside(record, why),
      leaveSeats: async (record) => {
        const { data, jobsDirectory, rows = [] } = record;
        if (rows.length === 0) return;
        const { shell } = await this.#sights.of(record);
        await shell.run(leaveCommand(jobsDirectory, data.job.id, rows));
        queues?.wake();
      },
      resubmit: resubmitAt(this.#sessions, this.#places),
      announce: (event) =>
        care.handle(careNameOfJob("job" in event.data ? event.data.job.id : event.id), () => announce(event)),
      track,
      reconcileSeconds: worker.reconcileSeconds,
      lostAfterHours: worker.lostAfterHours,
      log,
      now,
    };
    const tracker = new Tracker(this.#between("job", jobEffects));
    // Its deliveries are void with the link; a tracker that went on would take the bells that the next one listens for.
    void link.lost.then((why) => {
      void tracker.stop();
      if (why !== undefined) this.#admission.refuseWaiting(why);
    });
    const stops: (() => Promise<void>)[] = [() => tracker.stop()];
    if (worker.roles.includes("tracker")) {
      const consumers = await jobsQueue.open({
        take: (record, ack) => tracker.take(record, ack),
        handOn: (count, isOfQueue) => tracker.handOn(count, isOfQueue),
        cancel: (message) => cancels.fromHost(message),
      });
      stops.unshift(async () => {
        await Promise.all(consumers.map((consumer) => consumer.pause()));
      });
    }
    if (worker.roles.includes("intake")) {
      const submitEffects: ArrayEffects = {
        enter: (session, jobs, priority) => this.#admission.enter(session, jobs, priority),
        placeFor: (session, wish) => this.#places.placeFor(session, wish),
        submitArray,
      };
      const arrays = new ArrayCollector(this.#between("message", submitEffects));
      void link.lost.then((why) => arrays.refuse(why ?? brokerLost("it was closed")));
      const { enter, placeFor } = submitEffects;
      const messageEffects: IntakeEffects = this.#between("message", {
        group: worker.group,
        triggers: this.#config.triggers,
        jobsFolderOf: (method, session) => jobsDirectoryOf(this.#config.site, method, session),
        findSession: (id, paths) => this.#sessions.find(id, paths),
        ...{ enter, placeFor },
        collect: (session, plan, options) => arrays.collect(session, plan, options),
        report: (session, trouble) => this.#admission.report(session, trouble),
        requireRoom: roomAt(this.#places, this.#admission),
        queueFor: (trigger, copy) =>
          publisher.publish({ exchange: "", routingKey: topology.triggerQueue(trigger), ...copy }),
        methods: METHODS,
        track,
        announce,
        log,
        now,
      });
      const { publish } = this.#between("message", { publish: (one: Publish) => publisher.publish(one) });
      const edges = {
        link,
        topology,
        publish,
        answer: (one: Publish) => publisher.publishOnce(one),
        announce: messageEffects.announce,
        whenOpen: () => this.#admission.whenOpen(),
        log,
        now,
        care,
        handle: (received: ReceivedMessage) =>
          care.handle(careName(originOf(received.body, received.properties)), () =>
            handleMessage(received, messageEffects),
          ),
        cancel: cancels.message,
      };
      const opened = await openTriggerQueues(this.#config.triggers, edges, this.#sessions, this.#places);
      queues = opened;
      const prefetch = worker.concurrency * PREFETCH_PER_SLOT + arraySizes(this.#config.triggers);
      const intake = await openIntake({ ...edges, queue: topology.intakeQueue, prefetch });
      stops.unshift(
        () => {
          arrays.hurry();
          return intake.stop();
        },
        () => opened.stop(),
      );
    }
    return {
      stop: async () => {
        for (const stopPart of stops) await stopPart();
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
    if (id === null) return { jobsDirectory: jobsDirectoryOf(site, job.method, null), corePath: null };
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

/** Waits for the work, but no longer than this. */
async function within(milliseconds: number, work: Promise<void>): Promise<void> {
  const done = new AbortController();
  const timeout = sleep(milliseconds, undefined, { signal: done.signal }).catch(() => undefined);
  await Promise.race([work, timeout]);
  done.abort();
}
