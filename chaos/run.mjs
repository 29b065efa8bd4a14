import { setMaxListeners } from "node:events";
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { jobIdFor } from "../dist/triggers/plan.js";
import { SOURCE } from "./detector.mjs";
import { Faults } from "./faults.mjs";
import { Observer } from "./observer.mjs";
import { scheduleOf } from "./schedule.mjs";
import { readLedger, SlurmWatch } from "./slurm-watch.mjs";
import { countEvents, unlaunched, violationsOf } from "./tally.mjs";
import { QUEUES, World } from "./world.mjs";

/** RabbitMQ's management counts every 5 s: two counts of nothing so far apart are about two moments. */
const COUNTS_APART_MS = 6000;

/**
 * One run, from an empty machine to an empty machine.
 *
 * @param {import("./options.mjs").Options} options
 * @param {AbortSignal} stop
 * @returns {Promise<import("./report.mjs").Report>}
 */
export async function runChaos(options, stop) {
  const { seed, messages, workers, rate, faults: kinds, keep } = options;
  const schedule = scheduleOf({ seed, messages, workers, rate, faults: kinds });
  const began = performance.now();
  const secondsSince = (/** @type {number} */ start) => Math.round((performance.now() - start) / 1000);
  /** @type {string[]} */
  const mistakes = [];
  /** @type {(step: string) => void} */
  let say = console.error;
  const world = new World((step) => say(step));
  const log = createWriteStream(join(world.logs, "chaos.log"));
  say = (step) => {
    const line = `${secondsSince(began).toString().padStart(5)} s  ${step}`;
    console.error(line);
    log.write(`${new Date().toISOString()} ${line}\n`);
  };
  say(
    `seed ${seed}: ${messages} messages, ${workers} workers, ${schedule.faults.length} faults; ${world.dir}`,
  );

  // One fault that fails ends the run: what then happens would say nothing about the workers.
  const breakOff = new AbortController();
  const going = AbortSignal.any([stop, breakOff.signal]);
  setMaxListeners(0, going);
  const slurm = new SlurmWatch(world.dir);
  let observer = /** @type {Observer | undefined} */ (undefined);
  let duplicates = 0;
  let faults = /** @type {Faults | undefined} */ (undefined);
  let chaosSeconds = 0;
  let drainSeconds = 0;
  let deadLetters = /** @type {import("./observer.mjs").DeadLetter[]} */ ([]);
  let leftInQueues = /** @type {Record<string, number>} */ ({});
  try {
    await world.open(workers, going);
    observer = new Observer(world.broker.url);
    await observer.open();
    slurm.start();

    const start = performance.now();
    /** @type {(() => Promise<void>)[]} */
    const published = [];
    faults = new Faults(world, {
      say,
      publishAgain: async (share) => {
        const again = published[Math.floor(share * published.length)];
        await again?.();
        if (again !== undefined) duplicates += 1;
        return again !== undefined;
      },
    });
    const doing = faults;
    const publish = async (/** @type {import("./schedule.mjs").PlannedMessage} */ planned) => {
      const message = world.messageOf(planned);
      const send = () => world.detector.publish(planned.id, message);
      published.push(send);
      await send();
    };
    say("messages and faults begin");
    await allOf(breakOff, [
      ...schedule.messages.map((one) => atTime(start, one.at, going).then(() => publish(one))),
      ...schedule.faults.map((one) => atTime(start, one.at, going).then(() => doing.happen(one))),
    ]);
    chaosSeconds = secondsSince(start);
    say("all messages are published, all faults are over");

    const healed = performance.now();
    const bound = 180 + Math.round(1.4 * messages);
    const isDrained = await drain({ world, observer, messages, seconds: bound, stop, say });
    drainSeconds = secondsSince(healed);
    if (!isDrained) mistakes.push(`not all was done ${bound} s after the last fault`);
    await world.stopWorkers();
    leftInQueues = await observer.depths(QUEUES);
    deadLetters = await observer.deadLetters();
    await slurm.finish();
  } catch (error) {
    mistakes.push(`the run broke off: ${error instanceof Error ? error.stack : String(error)}`);
  } finally {
    say("taking everything down");
    await slurm.stop();
    await observer?.close();
    const left = await world.close().catch((/** @type {unknown} */ error) => {
      mistakes.push(`the facility could not be taken down: ${String(error)}`);
      return [];
    });
    if (left.length > 0) mistakes.push(`processes are left: ${left.join(", ")}`);
  }

  const jobs = schedule.messages.map(({ id, technique }) => ({
    id,
    jobId: jobIdFor({ source: SOURCE, id }, "default", technique),
    state: technique === "wrong" ? /** @type {const} */ ("failed") : /** @type {const} */ ("completed"),
  }));
  mistakes.push(...world.mistakes);
  const ledger = readLedger(world.ledger);
  const events = observer?.events ?? [];
  const violations = violationsOf({
    ...{ jobs, slurmJobs: slurm.jobs, ledger, events, deadLetters, leftInQueues, mistakes },
  });
  const directory = keep || violations.length > 0 ? world.dir : null;
  await new Promise((resolve) => log.end(resolve));
  if (directory === null) world.remove();
  const only = kinds.length === 0 ? "none" : kinds.join(",");
  return {
    seed,
    command: `npm run chaos -- --seed ${seed} --messages ${messages} --workers ${workers} --rate ${rate} --faults ${only}`,
    verdict: violations.length === 0 ? "passed" : "failed",
    messages,
    workers,
    jobs: { inSlurm: slurm.jobs.size, run: ledger.length, notLaunched: unlaunched(events) },
    events: countEvents(events),
    published: { duplicates, repeatedByDetector: world.detector?.repeated ?? 0 },
    startedInVain: world.posts.reduce((sum, { worker }) => sum + worker.startedInVain, 0),
    faults: Object.fromEntries(faults?.counts ?? []),
    deadLetters: deadLetters.length,
    seconds: { total: secondsSince(began), chaos: chaosSeconds, drain: drainSeconds },
    violations,
    directory,
  };
}

/**
 * Waits until every message has the event of its job's end, and until nothing is under way: of the messages that were
 * published more than once, some come after the end.
 *
 * @param {{ world: World, observer: Observer, messages: number, seconds: number, stop: AbortSignal,
 *   say: (step: string) => void }} what
 */
async function drain({ world, observer, messages, seconds, stop, say }) {
  const until = performance.now() + seconds * 1000;
  let emptySince = /** @type {number | undefined} */ (undefined);
  for (let saidAt = -Infinity; performance.now() < until;) {
    stop.throwIfAborted();
    const ended = new Set(
      observer.events.filter(({ data }) => data.times?.ended != null).map(({ data }) => data.cause.id),
    );
    const inQueues = await world.inQueues().catch(() => Infinity);
    const now = performance.now();
    if (ended.size < messages || inQueues > 0) emptySince = undefined;
    else emptySince ??= now;
    if (emptySince !== undefined && now - emptySince > COUNTS_APART_MS) return true;
    if (now - saidAt > 15_000) {
      say(`${ended.size} of ${messages} jobs have ended, ${inQueues} messages and records are in queues`);
      saidAt = now;
    }
    await sleep(1000);
  }
  return false;
}

/**
 * Waits for all of them, also when one fails, so that nothing goes on behind the back of who takes everything down.
 *
 * @param {AbortController} breakOff
 * @param {Promise<void>[]} work
 */
async function allOf(breakOff, work) {
  for (const one of work) one.catch((/** @type {unknown} */ error) => breakOff.abort(error));
  await Promise.allSettled(work);
  await Promise.all(work);
}

/**
 * @param {number} start
 * @param {number} milliseconds
 * @param {AbortSignal} stop
 */
async function atTime(start, milliseconds, stop) {
  await sleep(Math.max(0, start + milliseconds - performance.now()), undefined, { signal: stop });
}
