import { setTimeout as sleep } from "node:timers/promises";
import { errorText } from "./errors.ts";
import {
  advance,
  describeFailure,
  endFromBoth,
  endFromRecord,
  endFromRecordAlone,
  endFromSlurmAlone,
  type JobEnd,
} from "./jobs/job.ts";
import { spoolOf } from "./jobs/directory.ts";
import { parseRecords, readRecordsCommand, type JobRecords } from "./jobs/records.ts";
import { resultsOf } from "./jobs/results.ts";
import {
  cancelHeldCommand,
  exitCodeCommand,
  isHeldForReservation,
  parseExitCode,
  parseSqueue,
  squeueCommand,
  type SlurmJob,
} from "./jobs/squeue.ts";
import type { TrackingRecord } from "./jobs/tracking-record.ts";
import { watch, type Watched } from "./jobs/watched.ts";
import type { Log } from "./log.ts";
import { jobEvent, type JobEventData, type JobResult, type OutgoingEvent } from "./messages/job-event.ts";
import { isGivenUp, movedTo } from "./resubmit.ts";
import { quote } from "./shells/quote.ts";
import type { Shell } from "./shells/shell.ts";

/** What the line needs from outside. */
export interface TrackerEffects {
  /** A shell where the session's jobs can be seen. */
  shellFor: (sessionId: string) => Promise<Shell>;
  announce: (event: OutgoingEvent) => Promise<void>;
  /** Puts a fresh copy of a record on the group's queue of jobs, confirmed. */
  track: (record: TrackingRecord) => Promise<void>;
  /** Submits a job again whose reservation was deleted; its directory then says which Slurm job it is. */
  resubmit: (record: TrackingRecord, seenAt: number) => Promise<void>;
  reconcileSeconds: number;
  log: Log;
  now: () => Date;
}

/** Between two listings of a spool. */
const TICK_MS = 400;
/** RabbitMQ takes a delivery back after 30 minutes; ours is renewed long before. */
const RENEW_AFTER_MS = 10 * 60_000;
/** RabbitMQ 4 drops a message that has come back 20 times. */
const RENEW_AFTER_RETURNS = 10;
/** Files appear late on a shared file system: so long a record may lag behind Slurm. */
const RECORD_GRACE_MS = 10_000;
/** So long Slurm may take to say why it has stopped a job. */
const REASON_GRACE_MS = 60_000;
/** Jobs whose records are read in one remote call. */
const READ_AT_ONCE = 50;
const LONGEST_BACKOFF_MS = 30_000;

/**
 * The line, second half: submitted jobs become their started and ended events. Jobs of one session are watched
 * together: one listing of their spool a tick tells which have written a record, and one `squeue` now and then finds
 * what no script could say. A query that fails says nothing: the jobs go on being watched.
 */
export class Tracker {
  readonly #effects: TrackerEffects;
  readonly #watches = new Map<string, Map<string, Watched>>();
  readonly #loops = new Set<Promise<void>>();
  readonly #stopped = new AbortController();

  constructor(effects: TrackerEffects) {
    this.#effects = effects;
  }

  /** Watches a job until it has ended; then announces, then acks. */
  take(record: TrackingRecord, delivery: { ack: () => void; returns: number }): void {
    const { session, job } = record.data;
    const key = JSON.stringify([session.id, record.jobsDirectory]);
    const known = this.#watches.get(key);
    const jobs = known ?? new Map<string, Watched>();
    // A record delivered twice is one job: the newer delivery is the one to hold.
    const old = jobs.get(job.id);
    jobs.set(job.id, watch(record, delivery, old, this.#effects.now()));
    old?.ack();
    if (known !== undefined) return;
    this.#watches.set(key, jobs);
    const loop = this.#watch(key, jobs, session.id, record.jobsDirectory);
    this.#loops.add(loop);
    void loop.finally(() => this.#loops.delete(loop));
  }

  /** How many jobs are watched. */
  get size(): number {
    return [...this.#watches.values()].reduce((sum, jobs) => sum + jobs.size, 0);
  }

  /** Lets go of all jobs; their un-acked records go to another tracker. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await Promise.all(this.#loops);
  }

  async #watch(
    key: string,
    jobs: Map<string, Watched>,
    sessionId: string,
    jobsDirectory: string,
  ): Promise<void> {
    const { log, now, reconcileSeconds } = this.#effects;
    let failures = 0;
    let reconcileAt = now().getTime() + reconcileSeconds * 1000;
    while (jobs.size > 0 && !this.#isStopped()) {
      try {
        const shell = await this.#effects.shellFor(sessionId);
        await this.#listen(shell, jobs, jobsDirectory);
        await this.#readRung(shell, jobs, jobsDirectory);
        const awaitsReason = [...jobs.values()].some((one) => one.endRecord !== undefined);
        if (now().getTime() >= reconcileAt || awaitsReason) {
          await this.#reconcile(shell, jobs);
          reconcileAt = now().getTime() + reconcileSeconds * 1000;
        }
        failures = 0;
      } catch (error) {
        if (this.#isStopped()) break;
        failures += 1;
        if (failures === 1) {
          log.warn(
            { err: error, session: sessionId, jobs: jobs.size },
            `the jobs cannot be seen; they go on being watched: ${errorText(error)}`,
          );
        }
      }
      // Also while nothing can be seen of them: the broker waits for no node.
      await this.#renew(jobs).catch((error: unknown) => {
        log.warn({ err: error }, `tracking records could not be renewed: ${errorText(error)}`);
      });
      const backoff = Math.min(TICK_MS * 2 ** failures, LONGEST_BACKOFF_MS);
      await this.#sleep(failures === 0 ? TICK_MS : backoff);
    }
    this.#watches.delete(key);
  }

  /** One listing: the empty files in the spool say whose job directory has something new. */
  async #listen(shell: Shell, jobs: Map<string, Watched>, jobsDirectory: string): Promise<void> {
    const end = await shell.run(`ls -1 ${quote(spoolOf(jobsDirectory))}`);
    for (const name of end.stdout.toString("utf8").split("\n")) {
      const watched = jobs.get(name.split(".", 1)[0] ?? "");
      if (watched !== undefined) watched.rung = true;
    }
  }

  async #readRung(shell: Shell, jobs: Map<string, Watched>, jobsDirectory: string): Promise<void> {
    const rung = [...jobs.values()].filter((one) => one.rung);
    for (let at = 0; at < rung.length; at += READ_AT_ONCE) {
      const batch = rung.slice(at, at + READ_AT_ONCE);
      const ids = batch.map((one) => one.record.data.job.id);
      const end = await shell.run(readRecordsCommand(jobsDirectory, ids));
      const records = parseRecords(end.stdout);
      for (const watched of batch) {
        watched.rung = false;
        await this.#apply(watched, records.get(watched.record.data.job.id), jobs);
      }
    }
  }

  /** Takes in what the run script wrote. */
  async #apply(watched: Watched, records: JobRecords | undefined, jobs: Map<string, Watched>): Promise<void> {
    if (records?.submitted !== undefined) {
      watched.isBeingResubmitted = records.submitted.isBeingResubmitted;
      const isAnother = records.submitted.slurmJobId !== watched.record.data.slurm.jobId;
      if (isAnother) {
        await this.#follow(watched, records.submitted, jobs);
        return;
      }
    }
    if (records?.started !== undefined && watched.record.data.job.state === "submitted") {
      const { at, node } = records.started;
      const { data } = watched.record;
      await this.#announce(watched, {
        ...data,
        job: { ...data.job, state: advance(data.job.state, "started") },
        slurm: { ...data.slurm, nodes: [node] },
        times: { ...data.times, started: at },
      });
    }
    if (records?.ended === undefined || watched.endRecord !== undefined) return;
    const { record, log } = records.ended;
    const results = resultsOf(watched.record, records.ended.results);
    const end = endFromRecord(record);
    if (end !== undefined) {
      await this.#end(watched, end, { at: record.at, results, log, slurmState: null }, jobs);
    } else {
      watched.endRecord = { record, results, log, since: this.#effects.now().getTime() };
    }
  }

  /** One `squeue` for all jobs of the account: finds the ends that no script could record. */
  async #reconcile(shell: Shell, jobs: Map<string, Watched>): Promise<void> {
    const { log } = this.#effects;
    const listing = await shell.run(squeueCommand(shell.account));
    const slurmJobs = listing.code === 0 ? parseSqueue(listing.stdout.toString("utf8")) : undefined;
    if (slurmJobs === undefined) {
      throw new Error(`squeue on ${shell.host} failed: ${listing.stderr.trim() || "no answer"}`);
    }
    const time = this.#effects.now().getTime();
    for (const watched of [...jobs.values()]) {
      const slurmJob = slurmJobs.get(watched.record.data.slurm.jobId);
      if (watched.endRecord !== undefined) {
        await this.#endWithReason(watched, slurmJob, jobs, time);
      } else if (slurmJob !== undefined && isHeldForReservation(slurmJob)) {
        await this.#resubmit(watched, shell, jobs, time);
      } else if (slurmJob === undefined) {
        watched.rung = true;
        if (watched.isBeingResubmitted) await this.#resubmit(watched, shell, jobs, time);
        if (!watched.isForgotten) {
          watched.isForgotten = true;
          const { job, slurm } = watched.record.data;
          log.warn({ job: job.id, slurmJob: slurm.jobId }, "Slurm no longer knows the job; it is watched on");
        }
      } else {
        await this.#endWithoutRecord(watched, slurmJob, shell, jobs, time);
      }
    }
  }

  /** The script has recorded the end, but something stopped it: Slurm's state says what. */
  async #endWithReason(
    watched: Watched,
    slurmJob: SlurmJob | undefined,
    jobs: Map<string, Watched>,
    time: number,
  ): Promise<void> {
    const ended = watched.endRecord;
    if (ended === undefined) return;
    // Slurm may have forgotten it: then the record is all that is known. While Slurm says that it goes on, it does.
    const forgotten = slurmJob === undefined && time - ended.since > REASON_GRACE_MS;
    const end = forgotten
      ? endFromRecordAlone(ended.record)
      : endFromBoth(ended.record, slurmJob?.state ?? "");
    if (end === undefined) return;
    const { results, log } = ended;
    const slurmState = slurmJob?.state ?? null;
    await this.#end(watched, end, { at: ended.record.at, results, log, slurmState }, jobs);
  }

  async #endWithoutRecord(
    watched: Watched,
    slurmJob: SlurmJob,
    shell: Shell,
    jobs: Map<string, Watched>,
    time: number,
  ): Promise<void> {
    if (endFromSlurmAlone(slurmJob.state, "0:0") === undefined) return;
    watched.rung = true;
    watched.endedWithoutRecordSince ??= time;
    if (time - watched.endedWithoutRecordSince < RECORD_GRACE_MS) return;
    const answer = await shell.run(exitCodeCommand(slurmJob.id));
    const exitCode = parseExitCode(answer.stdout.toString("utf8"));
    if (exitCode === undefined) return;
    // Once more: the record may have come late.
    watched.rung = true;
    await this.#readRung(shell, jobs, watched.record.jobsDirectory);
    if (!jobs.has(watched.record.data.job.id) || watched.endRecord !== undefined) return;
    if (watched.isBeingResubmitted) {
      await this.#resubmit(watched, shell, jobs, time);
      return;
    }
    const end = endFromSlurmAlone(slurmJob.state, exitCode);
    if (end === undefined) return;
    // Slurm's own end time has no zone; ours is at most a look later.
    const at = new Date(watched.endedWithoutRecordSince).toISOString();
    await this.#end(watched, end, { at, results: [], log: "", slurmState: slurmJob.state }, jobs);
  }

  /** Its reservation was deleted before it could run: it is submitted again, or it has failed. */
  async #resubmit(watched: Watched, shell: Shell, jobs: Map<string, Watched>, time: number): Promise<void> {
    watched.record = {
      ...watched.record,
      heldSince: watched.record.heldSince ?? new Date(time).toISOString(),
    };
    const { job, slurm } = watched.record.data;
    try {
      await this.#effects.resubmit(watched.record, time);
      watched.rung = true;
    } catch (error) {
      if (isGivenUp(error, watched.record.heldSince, time)) {
        const answer = await shell.run(cancelHeldCommand(slurm.jobId));
        // Somebody may have let it run meanwhile.
        if (!answer.stdout.toString("utf8").trim().startsWith("CANCELLED")) return;
        const end = { state: "failed", code: null, signal: null, reason: "reservation-deleted" } as const;
        const at = this.#effects.now().toISOString();
        await this.#end(
          watched,
          end,
          { at, results: [], log: "", slurmState: null, why: errorText(error) },
          jobs,
        );
        return;
      }
      if (watched.heldBecause === errorText(error)) return;
      watched.heldBecause = errorText(error);
      const what = `reservation ${slurm.reservation ?? ""} was deleted, and the job cannot be submitted again yet`;
      this.#effects.log.warn({ job: job.id, slurmJob: slurm.jobId }, `${what}: ${errorText(error)}`);
    }
  }

  /** It was submitted again: the record on the queue must say so before the old one is let go. */
  async #follow(
    watched: Watched,
    submitted: NonNullable<JobRecords["submitted"]>,
    jobs: Map<string, Watched>,
  ): Promise<void> {
    const moved = { ...watched.record, data: movedTo(watched.record.data, submitted) };
    delete moved.heldSince;
    await this.#effects.announce(jobEvent(moved.data, this.#effects.now(), submitted.slurmJobId));
    watched.record = moved;
    await this.#effects.track(moved);
    // The copy may be here already.
    const { id } = moved.data.job;
    if (jobs.get(id) === watched) jobs.delete(id);
    watched.ack();
  }

  async #end(
    watched: Watched,
    end: JobEnd,
    facts: { at: string; results: JobResult[]; log: string; slurmState: string | null; why?: string },
    jobs: Map<string, Watched>,
  ): Promise<void> {
    const { data } = watched.record;
    await this.#announce(watched, {
      ...data,
      job: { ...data.job, state: advance(data.job.state, end.state) },
      times: { ...data.times, ended: facts.at },
      exit: { code: end.code, signal: end.signal, reason: end.reason },
      results: facts.results,
      error:
        end.reason === null
          ? null
          : {
              code: end.reason,
              message: [describeFailure(end, facts.slurmState, facts.log), facts.why ?? ""].join(" ").trim(),
              hint: `The whole log is ${data.job.directory}/job.log.`,
            },
    });
    // The record may have been delivered again meanwhile: both deliveries are of this job, which has ended.
    jobs.get(data.job.id)?.ack();
    jobs.delete(data.job.id);
    watched.ack();
  }

  async #announce(watched: Watched, data: JobEventData): Promise<void> {
    await this.#effects.announce(jobEvent(data, this.#effects.now()));
    watched.record = { ...watched.record, data };
  }

  /** Publishes a copy of what was held for long and acks the old; whoever gets the copy watches on. */
  async #renew(jobs: Map<string, Watched>): Promise<void> {
    const time = this.#effects.now().getTime();
    for (const [id, watched] of [...jobs]) {
      if (time - watched.takenAt < RENEW_AFTER_MS && watched.returns < RENEW_AFTER_RETURNS) continue;
      await this.#effects.track(watched.record);
      if (jobs.get(id) === watched) jobs.delete(id);
      watched.ack();
    }
  }

  #isStopped(): boolean {
    return this.#stopped.signal.aborted;
  }

  async #sleep(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: this.#stopped.signal }).catch(() => undefined);
  }
}
