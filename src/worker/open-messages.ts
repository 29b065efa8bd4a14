import type { ConfirmedOfLate } from "../broker/confirmed-of-late.ts";
import { brokerLost, type BrokerLink } from "../broker/connection.ts";
import { careName, type LinkCare } from "../broker/link-care.ts";
import { Publisher, type Publish } from "../broker/publisher.ts";
import { ArrayCollector, arraySizes, type ArrayDeps } from "../intake/collect-array.ts";
import { handleMessage, handleQueued } from "../intake/handle-message.ts";
import type { MessageDeps, ReceivedMessage } from "../intake/message.ts";
import { openIntake } from "../intake/intake.ts";
import { openTriggerQueues, roomAt } from "../intake/open-trigger-queues.ts";
import { jobsDirectoryOf } from "../jobs/site-folders.ts";
import { originOf } from "../messages/origin.ts";
import { yieldForLarge } from "../messages/yield-for-large.ts";
import { METHODS } from "../submission/methods.ts";
import { submitArray } from "../submission/sbatch-array.ts";
import { JobsQueue } from "../tracking/jobs-queue.ts";
import { HERE } from "../triggers/plan.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import { announcing } from "./worker-announce.ts";
import { cancelling } from "./worker-cancel.ts";
import { NO_SESSION, type WorkerDeps } from "./worker-deps.ts";

/** Messages of one session must not keep those of another from being seen. */
const PREFETCH_PER_SLOT = 16;

/** Over one link: takes messages and submits jobs. */
export async function openMessages(
  parts: WorkerDeps,
  link: BrokerLink,
  care: LinkCare,
  confirmed: ConfirmedOfLate,
): Promise<{ stop(): Promise<void> }> {
  const { config, topology, sessions, targets, admission, admissionHere, log, isOnlySession } = parts;
  const { triggers, worker, site } = config;
  await parts.declare(link);
  const now = () => new Date();
  const publisher = await Publisher.open(link, { confirmed });
  parts.heartbeats.over(link, publisher, topology.workersStream);
  const cancels = cancelling({ ...parts, link, publisher });
  const jobsQueue = new JobsQueue({ link, care, publisher, topology, log });
  const submitDeps: ArrayDeps = {
    enter: (session, jobs, priority) => admission.enter(session, jobs, priority),
    targetFor: (session, requirements) => targets.targetFor(session, requirements),
    submitArray,
    isOnlySession,
  };
  const mostInArrays = arraySizes(triggers);
  const arrays = new ArrayCollector(parts.between("message", submitDeps), mostInArrays);
  void link.lost.then((why) => {
    arrays.refuse(why ?? brokerLost("it was closed"));
    if (why === undefined) return;
    admission.refuseWaiting(why);
    admissionHere.refuseWaiting(why);
  });
  const { enter, targetFor } = submitDeps;
  const messageDeps: MessageDeps = parts.between("message", {
    group: worker.group,
    triggers,
    jobsFolderOf: (method, session) => jobsDirectoryOf(site, method, session),
    findSession: (id, paths) => sessions.find(id, paths),
    ...{ enter, targetFor },
    enterHere: (session) => admissionHere.enter({ id: session?.id ?? NO_SESSION }, 1),
    requireCapacity: async (session, { isHere, bytes, priority }) => {
      const gates = isHere || session === null ? admissionHere : admission;
      return gates.requireCapacity(session ?? { id: NO_SESSION }, bytes, priority);
    },
    collect: (session, plan, options) => arrays.collect(session, plan, options),
    report: (session, failure) => admission.report(session, failure),
    requireRoom: roomAt(targets, admission),
    queueFor: (trigger, copy) =>
      publisher.publish({ exchange: "", routingKey: topology.triggerQueue(trigger), ...copy }),
    methods: METHODS,
    track: (record) => {
      // One that ran here says nothing of the session's nodes.
      if (!HERE.includes(record.data.job.method)) admission.works(record.data.session.id);
      return jobsQueue.track(record);
    },
    announce: announcing({ link, publisher, topology, worker, log }),
    log,
    now,
  });
  const { publish } = parts.between("message", { publish: (one: Publish) => publisher.publish(one) });
  const withCare = async ({ body, properties }: ReceivedMessage, work: () => Promise<void>) => {
    await yieldForLarge(body.byteLength);
    await care.handle(careName(originOf(body, properties)), work);
  };
  const deps = {
    ...{ link, topology, publish, log, now, care, group: worker.group },
    answer: (one: Omit<Publish, "body">, body: (most: number) => Buffer) =>
      publisher.publishOnce({ ...one, body: body(Math.min(worker.maxEventBytes, publisher.maxBytes)) }),
    announce: messageDeps.announce,
    whenOpen: () => admission.whenOpen(),
    handle: (received: ReceivedMessage) => withCare(received, () => handleMessage(received, messageDeps)),
    handleQueued: (received: ReceivedMessage, trigger: Trigger, position: "now" | { overtakenBy: string }) =>
      withCare(received, () => handleQueued(received, trigger, position, messageDeps)),
    cancel: cancels.message,
  };
  const queues = await openTriggerQueues(triggers, deps, sessions, targets);
  parts.wakeTriggerQueues = () => queues.wake();
  const prefetch = worker.concurrency * PREFETCH_PER_SLOT + 2 * mostInArrays;
  const intake = await openIntake({ ...deps, queue: topology.intakeQueue, prefetch });
  return {
    stop: async () => {
      arrays.flush();
      cancels.stop();
      await intake.stop();
      await queues.stop();
      await publisher.caughtUp;
      await parts.heartbeats.stop(publisher, topology.workersStream);
    },
  };
}
