import { isTerminal } from "../dist/jobs/job.js";

/**
 * @typedef {import("./observer.mjs").SeenEvent} SeenEvent
 * @typedef {{ id: string, jobId: string, state: "completed" | "failed" }} ExpectedJob
 *   the one job of a message, and how its program ends
 * @typedef {{ jobs: ExpectedJob[], slurmJobs: Map<string, import("./slurm-watch.mjs").SlurmJob>,
 *   ledger: ReturnType<typeof import("./slurm-watch.mjs").readLedger>, events: SeenEvent[],
 *   deadLetters: import("./observer.mjs").DeadLetter[], leftInQueues: Record<string, number>, mistakes: string[] }} Witnesses
 *   mistakes: what was seen besides, each a violation
 * @typedef {{ what: string, message: string | null, job: string | null, seen: string }} Violation
 */

/**
 * Whether what the witnesses saw keeps the promises: one message, one job, one end.
 *
 * @param {Witnesses} witnesses
 * @returns {Violation[]}
 */
export function violationsOf(witnesses) {
  const { jobs, slurmJobs, ledger, events, deadLetters, leftInQueues, mistakes } = witnesses;
  const slurmIds = groupBy([...slurmJobs.keys()], (id) => slurmJobs.get(id)?.comment ?? "");
  const runs = groupBy(ledger, ({ jobId }) => jobId);
  const eventsOf = groupBy(events, (event) => causeOf(event));
  return [
    ...jobs.flatMap((job) => {
      const own = slurmIds.get(`mento:${job.jobId}`) ?? [];
      const seen = eventsOf.get(job.id) ?? [];
      const found = [
        ...runViolations(job, own, runs.get(job.jobId) ?? []),
        ...eventViolations(job, seen, own[0]),
      ];
      const isSlurms = isUnlaunched(seen) && !runs.has(job.jobId);
      return isSlurms ? found.filter(({ what }) => !OF_ITS_RUN.test(what)) : found;
    }),
    ...tooManyUnlaunched(unlaunched(events), jobs.length),
    ...strangers(jobs, slurmJobs, events),
    ...deadLetters.map(({ messageId, code, message, cause }) =>
      violation("a dead letter", messageId, null, `${code}: ${message} ${cause}`),
    ),
    ...Object.entries(leftInQueues)
      .filter(([, count]) => count > 0)
      .map(([queue, count]) =>
        violation("messages are left in a queue", null, null, `${queue} holds ${count}`),
      ),
    ...mistakes.map((mistake) => violation("something went wrong", null, null, mistake)),
  ];
}

/** What is missing of a job that never ran. */
const OF_ITS_RUN = /^the program did not run exactly once|^no event job\.started|^it did not end as /;

/**
 * Slurm itself may fail to launch a job when its controller is restarted in that moment; that must be announced as such.
 *
 * @param {SeenEvent[]} events all that a message caused
 */
function isUnlaunched(events) {
  return events.some(({ data }) => data.exit?.reason === "launch-failed");
}

/** How many jobs Slurm failed to launch. @param {SeenEvent[]} events */
export function unlaunched(events) {
  return new Set(events.filter((event) => isUnlaunched([event])).map(({ id }) => id)).size;
}

/** @param {number} count @param {number} jobs */
function tooManyUnlaunched(count, jobs) {
  if (count <= Math.max(1, jobs / 100)) return [];
  return [violation("Slurm failed to launch many jobs", null, null, `${count} of ${jobs}`)];
}

/**
 * Slurm's own list and what the programs wrote must both say: once.
 *
 * @param {ExpectedJob} job
 * @param {string[]} slurmIds
 * @param {Witnesses["ledger"]} runs
 */
function runViolations({ id, jobId }, slurmIds, runs) {
  const violations = [];
  if (slurmIds.length !== 1) {
    violations.push(violation("not exactly one job in Slurm", id, jobId, list(slurmIds)));
  }
  if (runs.length !== 1 || runs[0]?.starts !== 1) {
    const seen = runs.map(({ slurmJobId, starts }) => `Slurm job ${slurmJobId}, started ${starts} times`);
    violations.push(violation("the program did not run exactly once", id, jobId, list(seen)));
  }
  if (slurmIds.length === 1 && runs.length === 1 && slurmIds[0] !== runs[0]?.slurmJobId) {
    const seen = `Slurm has ${slurmIds[0]}, it ran in ${runs[0]?.slurmJobId}`;
    violations.push(violation("it ran in another Slurm job", id, jobId, seen));
  }
  return violations;
}

/**
 * @param {ExpectedJob} job
 * @param {SeenEvent[]} events all that the message caused
 * @param {string | undefined} slurmId
 */
function eventViolations({ id, jobId, state }, events, slurmId) {
  const violations = [];
  const jobEvents = events.filter(({ data }) => data.job?.id === jobId);
  const ends = jobEvents.filter(({ data }) => isTerminal(data.job.state));
  const kinds = new Set(jobEvents.map(({ data }) => data.job.state));
  const seen = list(events.map((event) => `${event.id} at ${event.time}`));

  for (const kind of /** @type {const} */ (["submitted", "started"])) {
    if (!kinds.has(kind)) violations.push(violation(`no event job.${kind}`, id, jobId, seen));
  }
  if (ends.length === 0) violations.push(violation("no event of its end", id, jobId, seen));
  const endIds = new Set(ends.map((event) => event.id));
  if (endIds.size > 1) violations.push(violation("more than one end", id, jobId, list(endIds)));
  const wrongEnd = ends.find(({ data }) => data.job.state !== state);
  if (wrongEnd !== undefined) {
    const { job, exit, error } = wrongEnd.data;
    const said = `${job.state}, exit ${JSON.stringify(exit)}, ${error?.message ?? "no error"}`;
    violations.push(violation(`it did not end as ${state}`, id, jobId, said));
  }
  for (const [eventId, copies] of groupBy(jobEvents, (event) => event.id)) {
    const differing = new Set(copies.map(factsOf));
    if (differing.size > 1) {
      violations.push(violation(`events ${eventId} are not the same event`, id, jobId, list(differing)));
    }
  }
  const otherJob = jobEvents.find(({ data }) => slurmId !== undefined && data.slurm.jobId !== slurmId);
  if (otherJob !== undefined) {
    const said = `${otherJob.id} says ${otherJob.data.slurm.jobId}, Slurm has ${slurmId}`;
    violations.push(violation("an event names another Slurm job", id, jobId, said));
  }
  // A publisher that hears no confirm publishes again: perhaps when all has run.
  const refused = events.filter(
    ({ type, data }) => /message\.(rejected|ignored)/.test(type) && data.reason !== "already-run",
  );
  for (const { type, data } of refused) {
    violations.push(violation(type, id, null, data.error?.message ?? JSON.stringify(data.reasons)));
  }
  return violations;
}

/**
 * What two announcements of one event must agree in. When its data was ready is its producer's word, who may publish it
 * again with another.
 *
 * @param {SeenEvent} event
 */
function factsOf({ type, time, data: { job, slurm, paths, times, exit, results } }) {
  const { received, submitted, started, ended } = times;
  return JSON.stringify({
    ...{ type, time, job, slurm, paths, exit, results },
    ...{ received, submitted, started, ended },
  });
}

/**
 * Jobs and events that no message explains.
 *
 * @param {ExpectedJob[]} jobs
 * @param {Witnesses["slurmJobs"]} slurmJobs
 * @param {SeenEvent[]} events
 */
function strangers(jobs, slurmJobs, events) {
  const markers = new Set(jobs.map(({ jobId }) => `mento:${jobId}`));
  const messages = new Set(jobs.map(({ id }) => id));
  const jobIds = new Set(jobs.map(({ jobId }) => jobId));
  return [
    ...[...slurmJobs]
      .filter(([, { comment }]) => !markers.has(comment))
      .map(([id, { comment }]) => violation("a Slurm job of no message", null, null, `${id} (${comment})`)),
    ...events
      .filter((event) => !messages.has(causeOf(event)) || (event.data.job && !jobIds.has(event.data.job.id)))
      .map((event) => violation("an event of no message", causeOf(event), null, `${event.id} ${event.type}`)),
  ];
}

/**
 * As Map.groupBy, which Node 20 does not have.
 *
 * @template Item
 * @template Key
 * @param {Iterable<Item>} items
 * @param {(item: Item) => Key} keyOf
 */
function groupBy(items, keyOf) {
  /** @type {Map<Key, Item[]>} */
  const groups = new Map();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}

/** @param {SeenEvent} event */
function causeOf({ data }) {
  return data.cause.id;
}

/** @param {Iterable<string>} items */
function list(items) {
  return [...items].join("; ") || "none";
}

/**
 * @param {string} what
 * @param {string | null} message
 * @param {string | null} job
 * @param {string} seen
 * @returns {Violation}
 */
function violation(what, message, job, seen) {
  return { what, message, job, seen };
}

/**
 * How many of each kind there were, each id once, and how many were announced again.
 *
 * @param {SeenEvent[]} events
 */
export function countEvents(events) {
  /** @type {Record<string, { different: number, again: number }>} */
  const counts = {};
  for (const [type, some] of groupBy(events, (event) => event.type)) {
    const different = new Set(some.map(({ id }) => id)).size;
    const kind = type.replace(/^mento\.|\.v1$/g, "");
    counts[kind] = { different, again: some.length - different };
  }
  return counts;
}
