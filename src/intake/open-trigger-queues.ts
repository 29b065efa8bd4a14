import type { Admission } from "./admission.ts";
import type { Sessions } from "../beamtime/session.ts";
import { openIntake, type IntakeDeps } from "./intake.ts";
import { Superseded } from "../errors.ts";
import type { MessageDeps, ReceivedMessage } from "./message.ts";
import { parseSubmitAnswer } from "../jobs/submit-said.ts";
import { overtakenCommand, parseOvertaken, roomCommand } from "../jobs/permits.ts";
import { noPermitYet } from "../submission/submit-answer.ts";
import type { SubmitTargets } from "../submission/submit-targets.ts";
import { TriggerQueue } from "./trigger-queue.ts";
import { HERE } from "../triggers/plan.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import { countsJobs } from "../triggers/queue-position.ts";

/** Messages of one trigger that a worker holds at most while they wait. */
const PREFETCH = 128;

export interface TriggerQueues {
  /** A job has ended: there may be room. */
  wake(): void;
  /** Leaves those that wait to the broker, as when the link is lost; resolves when what is under way is finished. */
  stop(): Promise<void>;
}

/** Takes messages from the queues of all triggers whose jobs are counted. */
export async function openTriggerQueues(
  triggers: readonly Trigger[],
  intake: Omit<IntakeDeps, "queue" | "prefetch"> & {
    handleQueued: (
      received: ReceivedMessage,
      trigger: Trigger,
      position: "now" | { overtakenBy: string },
    ) => Promise<void>;
  },
  sessions: Sessions,
  targets: SubmitTargets,
): Promise<TriggerQueues> {
  const queues: { queue: TriggerQueue; trigger: Trigger }[] = [];
  const isOutranked = (session: string | null, priority: number) =>
    queues.some(({ queue, trigger }) => trigger.priority > priority && queue.waitsForSession(session));
  const intakes: { stop(): Promise<void> }[] = [];
  for (const trigger of triggers.filter(countsJobs)) {
    const name = intake.topology.triggerQueue(trigger.name);
    const queue = new TriggerQueue({
      trigger,
      prefetch: PREFETCH,
      handle: intake.handle,
      handleQueued: (received, position) => intake.handleQueued(received, trigger, position),
      jobsThere: async ({ session: id, concurrencyKey }, jobIds) => {
        const session = id === null ? null : await sessions.find(id);
        const { shell, jobsDirectory } = await targets.jobsOf(session, trigger);
        const end = await shell.run(overtakenCommand(jobsDirectory, jobIds, concurrencyKey));
        const there = parseOvertaken(end.stdout.toString("utf8"));
        if (there === undefined) throw new Error(`a look at job directories failed: ${end.stderr.trim()}`);
        return there;
      },
      putBack: async ({ copyFor }, position) =>
        intake.publish({ exchange: "", routingKey: name, ...copyFor(trigger.name, position) }),
      isOutranked,
      openSessions: async () => (await sessions.open()).open.map(({ id }) => id),
      log: intake.log,
    });
    queues.push({ queue, trigger });
    // Also while the next ones are opened, which then fails.
    void intake.link.lost.then(() => queue.stop());
    const deps = { ...intake, queue: name, prefetch: PREFETCH };
    intakes.push(await openIntake({ ...deps, handle: (received) => queue.join(received) }));
  }
  return {
    wake: () => queues.forEach(({ queue }) => queue.wake()),
    stop: async () => {
      queues.forEach(({ queue }) => queue.stop());
      await Promise.all(intakes.map((one) => one.stop()));
    },
  };
}

/** Looks whether a job can have its permits now; Slurm is not asked, nor a node that is known to be away. */
export function roomAt(targets: SubmitTargets, admission: Admission): MessageDeps["requireRoom"] {
  return async (session, { trigger, jobId }, permits) => {
    if (session !== null && !HERE.includes(trigger.method)) await admission.requireOpen(session);
    const { shell, jobsDirectory } = await targets.jobsOf(session, trigger);
    const end = await shell.run(roomCommand(jobsDirectory, jobId, permits));
    const answer = parseSubmitAnswer(end.stdout.toString("utf8"), []);
    if (answer?.kind === "busy") throw noPermitYet(trigger.name, answer.of);
    if (answer?.kind === "superseded") throw new Superseded(answer.by);
  };
}
