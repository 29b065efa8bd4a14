import { setTimeout as sleep } from "node:timers/promises";
import { errorText, MentoError, Rejected } from "../errors.ts";
import { JobLog } from "./job-log.ts";
import { jobCommentOf } from "../jobs/directory.ts";
import { endedData, endFacts, lostData, startedData, type EndFacts } from "./event-data.ts";
import { endFromRecord, hasBegun, type JobEnd } from "../jobs/job.ts";
import { timeThere, withPlausibleTimes } from "../jobs/record-times.ts";
import { resultsOf } from "./results.ts";
import { cancelHeldCommand, exitCommand, isCancelled, parseExit } from "../slurm/squeue.ts";
import type { TrackingRecord } from "./tracking-record.ts";
import { isAtRest, decide, LOOK_FIRST_MS } from "./decision.ts";
import { atRest, isOurs, newRun, runIdOf, seenAtOf, watch, reportOn, type Watched } from "./watched.ts";
import { jobEvent, type JobEventData } from "../messages/job-event.ts";
import { jobsToRead, readJobs, takeNotifications, type Read } from "./read-jobs.ts";
import {
  endOfHeld,
  endOfUnplaced,
  isGivenUp,
  isRetried,
  mayMove,
  movedRecord,
  type Moved,
} from "./resubmit.ts";
import { keyOf, letGo, openSessionJobs, putAside, type SessionJobs } from "./session-jobs.ts";
import type { Observer } from "./observer.ts";
import { backoff } from "../time/backoff.ts";
import { someAtOnce } from "../time/some-at-once.ts";
import type { TrackerDeps } from "./tracker-deps.ts";
import { endFromSlurm, type ReportedState } from "../slurm/job-states.ts";

/** Between two listings of a spool. */
const TICK_MS = 400;
const PAUSES = { first: 2 * TICK_MS, longest: 30_000 };
/** While a job is stopped and Slurm must say why: a requeued one may wait for long. */
const AWAIT_REASON_MS = 1_000;
/** RabbitMQ takes a delivery back after 30 minutes; ours is renewed long before. */
const RENEW_AFTER_MS = 10 * 60_000;
const AT_ONCE = 8;

/**
 * The line, second half: submitted jobs become their started and ended events. Jobs of one session are watched
 * together: one listing of their spool a tick tells which have written a record, and one `squeue` now and then finds
 * what no script could say. A query that fails says nothing: the jobs go on being watched.
 */
export class Tracker {
  readonly #deps: TrackerDeps;
  readonly #jobLog: JobLog;
  readonly #sessions = new Map<string, SessionJobs>();
  readonly #loops = new Set<Promise<void>>();
  readonly #stopped = new AbortController();
  #handingOn = Promise.resolve();

  constructor(deps: TrackerDeps) {
    this.#deps = deps;
    this.#jobLog = new JobLog(deps.log);
  }

  /** Watches a job until it has ended; then announces, then acks. */
  take(record: TrackingRecord, ack: () => void): void {
    const { job } = record.data;
    const key = keyOf(record);
    const known = this.#sessions.get(key);
    const one = known ?? openSessionJobs(record, this.#deps.log);
    // A record delivered twice is one job: the newer delivery is the one to hold.
    const old = one.jobs.get(job.id);
    one.jobs.set(job.id, watch(record, ack, old, this.#deps.now()));
    old?.ack();
    if (known !== undefined) return;
    this.#sessions.set(key, one);
    const loop = this.#watch(one).finally(() => this.#sessions.delete(key));
    this.#loops.add(loop);
    void loop.finally(() => this.#loops.delete(loop));
  }

  /**
   * So many records go back to the queue: those at rest, the ones first that were taken first. Now, and not when their
   * sessions are looked at next: an account can make that take long, and other sessions' jobs wait to be watched.
   */
  handOn(count: number, isMeant: (record: TrackingRecord) => boolean): void {
    this.#handingOn = this.#handingOn.then(async () => {
      const meant = this.#all.filter(({ record }) => isMeant(record));
      // Hundreds of large ones at once would be confirmed too late.
      await someAtOnce(atRest(meant, this.#deps.now()).slice(0, count), AT_ONCE, (watched) =>
        this.#handOn(watched).catch((error: unknown) => {
          this.#deps.log.warn({ err: error }, `a tracking record stays: ${errorText(error)}`);
        }),
      );
    });
  }

  get size(): number {
    return this.#all.length;
  }

  get #all(): Watched[] {
    return [...this.#sessions.values()].flatMap(({ jobs }) => [...jobs.values()]);
  }

  /** Lets go of all jobs; their un-acked records go to another tracker. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await Promise.all(this.#loops);
  }

  async #watch(session: SessionJobs): Promise<void> {
    const { log, now, reconcileSeconds } = this.#deps;
    const { jobs, first } = session;
    const stopped = this.#stopped.signal;
    let failures = 0;
    let failingSince = 0;
    let reconciledAt = now().getTime();
    while (jobs.size > 0 && !stopped.aborted) {
      try {
        const observer = await this.#deps.observerOf(first);
        await takeNotifications(observer, session);
        await this.#read(observer, session, jobsToRead(session, now()));
        const awaitsReason = [...jobs.values()].some((one) => one.run.endRecord !== undefined);
        const every = Math.min(awaitsReason ? AWAIT_REASON_MS : Infinity, reconcileSeconds * 1000);
        if (now().getTime() - reconciledAt >= every) {
          await this.#reconcile(observer, session);
          reconciledAt = now().getTime();
        }
        failures = 0;
      } catch (error) {
        if (this.#stopped.signal.aborted) break;
        if (error instanceof Rejected && error.code === "record-unfit")
          await putAside(session, error.message, this.#deps);
        failures += 1;
        for (const watched of jobs.values()) watched.isAtRest = true;
        if (failures === 1) {
          failingSince = now().getTime();
          log.warn(
            { err: error, session: first.data.session.id, jobs: jobs.size },
            `the jobs cannot be seen; they go on being watched: ${errorText(error)}`,
          );
        }
      }
      // Also while nothing can be seen of them: the broker waits for no node.
      const areUnseen = failures > 0 && now().getTime() - failingSince > LOOK_FIRST_MS;
      await this.#renewOrLose(session, areUnseen).catch((error: unknown) => {
        log.warn({ err: error }, `tracking records could not be renewed: ${errorText(error)}`);
      });
      const wait = failures === 0 ? TICK_MS : backoff(failures - 1, PAUSES);
      await sleep(wait, undefined, { signal: stopped }).catch(() => undefined);
    }
  }

  async #read(observer: Observer, session: SessionJobs, wanted: readonly Watched[]): Promise<void> {
    for await (const read of readJobs(observer, session.jobsDirectory, wanted, this.#deps.now)) {
      if (this.#stopped.signal.aborted) return;
      read.watched.isNotified = false;
      await this.#each(read.watched, () => this.#apply(read, observer, session));
    }
  }

  /** Takes in what the run script wrote. */
  async #apply(read: Read, observer: Observer, session: SessionJobs): Promise<void> {
    const { watched, realPaths } = read;
    const { job, times } = watched.record.data;
    const now = this.#deps.now();
    const there = timeThere(read.readAt, now);
    watched.clockAhead = there.getTime() - now.getTime();
    const { records, refused: wrong } = withPlausibleTimes(read.records ?? {}, times.submitted, there);
    watched.cancelled = records.cancelled;
    this.#jobLog.refused(watched, [...read.refused, ...wrong]);
    const { submitted } = records;
    if (submitted !== undefined && submitted.runId !== runIdOf(watched.record)) {
      if (mayMove(watched.record)) await this.#follow(watched, submitted);
      else this.#jobLog.refused(watched, [`submitted names another run, ${submitted.runId}`]);
      return;
    }
    if (submitted !== undefined) watched.run.isBeingResubmitted = submitted.isBeingResubmitted;
    if (records.started !== undefined) {
      const { data } = watched.record;
      const started = startedData(data, records.started);
      const run = watched.record.retried === undefined ? "" : runIdOf(watched.record);
      if (data.job.state === "submitted") await this.#announce(watched, started, { again: run });
      else watched.record = { ...watched.record, data: started };
    }
    if (records.ended === undefined) {
      // If Slurm has started it again, what its first run left was no end.
      watched.run.endRecord = undefined;
      return;
    }
    const { record, recordedAt, log } = records.ended;
    const { refused, ...found } = resultsOf(job, records.ended, realPaths, observer.results);
    this.#jobLog.refused(watched, refused);
    const end = endFromRecord(record);
    if (end !== undefined) {
      await this.#end(watched, end, { at: record.at, found, log, slurmState: null }, session);
    } else if (watched.run.endRecord?.recordedAt !== recordedAt) {
      watched.run.endRecord = { record, recordedAt, found, log, since: now.getTime() };
    }
  }

  /** One look at all jobs, and accounting for those that Slurm has forgotten: what no script could record. */
  async #reconcile(observer: Observer, session: SessionJobs): Promise<void> {
    const reports = await observer.look([...session.jobs.values()].map(({ record }) => record));
    const forgotten: Watched[] = [];
    for (const watched of [...session.jobs.values()]) {
      const reported = reportOn(watched.record, reports);
      if (reported === undefined || !isOurs(watched, reported)) {
        forgotten.push(watched);
        continue;
      }
      watched.record = { ...watched.record, seenAt: this.#deps.now().toISOString() };
      watched.run.forgottenSince = undefined;
      await this.#each(watched, () =>
        reported.instead === undefined
          ? this.#settle(watched, reported, observer, session)
          : this.#follow(watched, { ...reported.instead, at: null, why: "reservation-deleted" }),
      );
    }
    if (forgotten.length === 0) return;
    const time = this.#deps.now().getTime();
    const areNew = forgotten.some(({ run }) => run.forgottenSince === undefined);
    const forgottenJobs = forgotten.map(({ record }) => record.data);
    if (observer.hasAccounting) session.accounting.ask(forgottenJobs, areNew, observer.shell, time);
    for (const watched of forgotten) {
      watched.isNotified = true;
      if (watched.run.forgottenSince === undefined) {
        watched.run.forgottenSince = time;
        this.#jobLog.say(watched, "Slurm no longer knows the job; it is watched on");
      }
      const reported = session.accounting.of(runIdOf(watched.record));
      // What accounting takes for running, and `squeue` does not know, is a record that was never closed.
      const tells =
        reported !== undefined && isOurs(watched, reported) && endFromSlurm(reported.state) !== undefined;
      await this.#each(watched, () => this.#settle(watched, tells ? reported : undefined, observer, session));
    }
    await someAtOnce(session.maybeForgotten.splice(0), AT_ONCE, (one) => this.#submitForgotten(one, time));
  }

  /** Does what follows from Slurm's report on a job, or from its silence. */
  async #settle(
    watched: Watched,
    reported: ReportedState | undefined,
    observer: Observer,
    session: SessionJobs,
  ): Promise<void> {
    const time = this.#deps.now().getTime();
    const { record, run, cancelled } = watched;
    const { times, job } = record.data;
    const hasStarted = hasBegun(job.method, times.started !== null, reported?.exitCode);
    const known = { ...run, cancelled, hasStarted, seenAt: seenAtOf(record) };
    if (run.retrying !== undefined) {
      await this.#resubmit(watched, observer, session);
      return;
    }
    const lostAfterMs = this.#deps.lostAfterHours * 3600_000;
    const decision = decide(known, reported, time, lostAfterMs);
    watched.isAtRest = isAtRest(decision, known, reported, time - lostAfterMs);
    if (decision === "goes-on") {
      if (reported !== undefined) this.#jobLog.ofState(watched, reported.state);
      watched.run.endedWithoutRecordSince = undefined;
      if (reported !== undefined) delete watched.record.heldSince;
    } else if (decision === "held") {
      await this.#resubmit(watched, observer, session);
    } else if (decision === "look-again") {
      watched.isNotified = true;
      watched.run.endedWithoutRecordSince ??= time;
    } else if (decision === "ask-exit-code") {
      const runId = reported?.id ?? runIdOf(record);
      const answer = await observer.shell.run(exitCommand(runId, job.directory));
      const said = parseExit(answer.stdout.toString("utf8"));
      const exitCode = reported?.exitCode ?? said.exitCode;
      // Once more: the record may have come late.
      await this.#read(observer, session, [watched]);
      if (session.jobs.get(job.id) !== watched || reported === undefined || exitCode === undefined) return;
      await this.#settle(watched, { ...reported, exitCode, log: said.log }, observer, session);
    } else if (decision === "look-if-forgotten") {
      if (observer.hasAccounting) session.maybeForgotten.push(watched);
    } else if (decision === "lost") {
      await this.#lose(watched, session);
    } else {
      const facts = endFacts(known, decision, reported, time, watched.clockAhead);
      if (isRetried(record, decision.end)) {
        run.retrying = { end: decision.end, facts };
        await this.#resubmit(watched, observer, session);
      } else await this.#end(watched, ...endOfHeld(watched, decision.end, facts), session);
    }
  }

  /** Once its record on the queue says why: whoever finds it cancelled must know. */
  async #cancelHeld(watched: Watched, { cancelHeld }: Observer): Promise<void> {
    const { record } = watched;
    if (record.heldSince === undefined) {
      watched.record = { ...record, heldSince: this.#deps.now().toISOString() };
      await this.#handOn(watched);
    } else await cancelHeld?.(runIdOf(record));
  }

  /** It could not run, or not to its end, and that was not its own fault: it is submitted again, or it has failed. */
  async #resubmit(watched: Watched, observer: Observer, session: SessionJobs): Promise<void> {
    if (observer.cancelHeld !== undefined) return this.#cancelHeld(watched, observer);
    const now = this.#deps.now();
    const { heldSince = now.toISOString() } = watched.record;
    watched.record = { ...watched.record, heldSince };
    const { job } = watched.record.data;
    const { retrying } = watched.run;
    const why = retrying?.end.reason ?? "reservation-deleted";
    if (retrying && watched.cancelled) return this.#end(watched, retrying.end, retrying.facts, session);
    try {
      await this.#deps.resubmit(watched.record, now.getTime(), why);
      watched.isNotified = true;
    } catch (error) {
      const isOver = isGivenUp(error, heldSince, now.getTime());
      if (isOver && retrying !== undefined)
        await this.#end(watched, retrying.end, { ...retrying.facts, why: errorText(error) }, session);
      else if (isOver) {
        const answer = await observer.shell.run(
          cancelHeldCommand(runIdOf(watched.record), jobCommentOf(job.id)),
        );
        // Somebody may have let it run meanwhile.
        if (!isCancelled(answer.stdout.toString("utf8"))) return;
        await this.#end(watched, ...endOfUnplaced(now, errorText(error)), session);
      } else
        this.#jobLog.once(watched, `the job cannot be submitted again yet (${why}): ${errorText(error)}`);
    }
  }

  /** If it is proven that Slurm has lost it. */
  async #submitForgotten(watched: Watched, time: number): Promise<void> {
    await this.#deps.resubmit(watched.record, time, "slurm-forgot").catch((error: unknown) => {
      this.#jobLog.once(watched, `the job cannot be submitted again yet (slurm-forgot): ${errorText(error)}`);
    });
  }

  /** It was submitted again: the record on the queue must say so before the old one is let go. */
  async #follow(watched: Watched, submitted: Moved): Promise<void> {
    const moved = movedRecord(watched.record, submitted);
    const said = { again: submitted.runId, traceparent: moved.traceparent };
    await this.#deps.announce(jobEvent(moved.data, this.#deps.now(), said));
    watched.record = moved;
    watched.run = newRun();
    await this.#handOn(watched);
  }

  async #end(watched: Watched, end: JobEnd, facts: EndFacts, session: SessionJobs): Promise<void> {
    const { record, cancelled } = watched;
    await this.#deps.leavePermits(record);
    await this.#announce(watched, endedData(record.data, end, { ...facts, cancelled }));
    letGo(watched, session);
  }

  async #lose(watched: Watched, session: SessionJobs): Promise<void> {
    const seenAt = new Date(seenAtOf(watched.record)).toISOString();
    await this.#deps.leavePermits(watched.record).catch((error: unknown) => {
      this.#jobLog.say(watched, `its permit is not free yet: ${errorText(error)}`);
    });
    const lostAt = new Date(seenAtOf(watched.record) + this.#deps.lostAfterHours * 3600_000);
    await this.#announce(watched, lostData(watched.record.data, seenAt), { at: lostAt });
    this.#jobLog.say(watched, "the job is lost: a person must look what became of it");
    letGo(watched, session);
  }

  async #announce(watched: Watched, data: JobEventData, more: { again?: string; at?: Date } = {}) {
    const { again = "", at = this.#deps.now() } = more;
    const { traceparent } = watched.record;
    await this.#deps.announce(jobEvent(data, at, { again, traceparent }));
    watched.record = { ...watched.record, data };
  }

  /** Publishes a copy of the record and acks the old; whoever gets the copy, which may be here already, watches on. */
  async #handOn(watched: Watched): Promise<void> {
    watched.isToGo = true;
    await this.#deps.track(watched.record).catch((error: unknown) => {
      watched.isToGo = false;
      throw error;
    });
    const { id } = watched.record.data.job;
    for (const { jobs } of this.#sessions.values()) if (jobs.get(id) === watched) jobs.delete(id);
    watched.ack();
  }

  /** No delivery is held for long; and what has been out of sight for all too long is lost. */
  async #renewOrLose(session: SessionJobs, areUnseen: boolean): Promise<void> {
    const time = this.#deps.now().getTime();
    const lostBefore = time - this.#deps.lostAfterHours * 3600_000;
    for (const watched of [...session.jobs.values()]) {
      const { takenAt, record } = watched;
      await this.#each(watched, async () => {
        if (areUnseen && seenAtOf(record) < lostBefore) await this.#lose(watched, session);
        else if (time - takenAt > RENEW_AFTER_MS) await this.#handOn(watched);
      });
    }
  }

  /** A mistake about one job does not keep the others from being watched. */
  async #each(watched: Watched, work: () => Promise<void>): Promise<void> {
    if (watched.isToGo) return;
    try {
      await work();
    } catch (error) {
      if (error instanceof MentoError && error.code !== "publish-impossible") throw error;
      this.#deps.log.error({ err: error, job: watched.record.data.job.id }, errorText(error));
    }
  }
}
