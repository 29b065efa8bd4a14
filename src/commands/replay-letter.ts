import { JOB_CANCEL_TYPE } from "../messages/job-cancel.ts";
import { headersOfReplay, type DeadLetter } from "../messages/dead-letter.ts";
import { idOfNextRun, sentAgain, type Outgoing } from "../messages/sent-again.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import { previewLine, previewOf, type ReplayPreview } from "./replay-preview.ts";
import { plainLine } from "../text/terminal.ts";

/** What became of one letter; with `--json`, a line. */
export interface Outcome {
  id: string;
  outcome: "sent" | "would-send" | "duplicate" | "left";
  /** The id that it was sent under, if it is another. */
  sentAs: string | null;
  queue: string | null;
  trigger: string | null;
  /** Why it was left. */
  reason: string | null;
  /** What a worker of the configuration would do with it; null if it is not of its group. */
  preview: Omit<ReplayPreview, "input"> | null;
}

export interface ReplayRequest {
  /** Of all queues of Mento's on the broker. */
  prefix: string;
  /** The intake queue of the configuration's group: its triggers decide on what comes from there. */
  ownQueue: string;
  triggers: readonly Trigger[];
  toTrigger: string | undefined;
  again: boolean;
  now: Date;
}

/** Where a letter goes and as what; or why it stays. */
export function planReplay(
  deadLetter: DeadLetter,
  request: ReplayRequest,
): { outcome: Outcome; send?: Outgoing & { routingKey: string } } {
  const { cause, queue } = deadLetter;
  const outcome: Outcome = {
    ...{ id: cause.id, outcome: "sent", sentAs: null, queue, trigger: null, reason: null, preview: null },
  };
  const reason = whyLeft(deadLetter, request);
  if (reason !== undefined || queue === null) {
    return { outcome: { ...outcome, outcome: "left", reason: reason ?? "it has no queue" } };
  }
  const trigger = request.toTrigger ?? deadLetter.trigger;
  const sentAs = request.again ? idOfNextRun(cause.id, runOf(deadLetter, request.now)) : null;
  const outgoing = sentAgain(deadLetter.received, headersOfReplay(deadLetter, trigger), sentAs ?? undefined);
  const isOwn = queue === request.ownQueue;
  const preview = isOwn
    ? previewOf(
        outgoing.body,
        outgoing.properties,
        request.triggers,
        trigger ?? undefined,
        deadLetter.received.ours["mento-exchange"] === `${request.prefix}.events`,
      )
    : null;
  return {
    outcome: { ...outcome, sentAs, trigger, preview: preview && withoutMessage(preview) },
    send: { routingKey: queue, ...outgoing },
  };
}

/**
 * A new run's id comes from the letter, not from the clock: if the command dies and is called again, the letter is sent
 * under the same new id.
 */
function runOf(deadLetter: DeadLetter, now: Date): Date {
  return deadLetter.firstSeen === null ? now : new Date(deadLetter.firstSeen);
}

function whyLeft(deadLetter: DeadLetter, request: ReplayRequest): string | undefined {
  const { queue } = deadLetter;
  const { ownQueue, prefix, toTrigger, again } = request;
  if (queue === null) return "it does not say which queue it came from: no worker has put it here";
  const [, kind] = TAKEN_FROM.exec(queue.startsWith(`${prefix}.`) ? queue.slice(prefix.length) : "") ?? [];
  if (kind === undefined) return `it came from ${queue}, which is no queue that workers take messages from`;
  const isMessage = !kind.startsWith("jobs");
  if (!isMessage && deadLetter.received.properties.type === JOB_CANCEL_TYPE) {
    return "it is a worker's request to cancel a job: cancel the job again";
  }
  if (!isMessage && (toTrigger !== undefined || again)) {
    return `it is a worker's record of ${queue}, not a message: replay it without --again and --to-trigger`;
  }
  if (toTrigger !== undefined && queue !== ownQueue) {
    return `it is of another worker group (${queue}), which has triggers of its own: use that group's configuration`;
  }
  return undefined;
}

/** Queues that workers consume: nothing is sent to any other, whatever a letter says. */
const TAKEN_FROM = /^\.[A-Za-z0-9_-]+\.(intake|jobs(?:\..+)?|trigger\..+)$/;

function withoutMessage({
  triggers,
  cancels,
  unmatched,
  error,
}: ReplayPreview): Omit<ReplayPreview, "input"> {
  return { triggers, cancels, unmatched, error };
}

export function replayLine(one: Outcome): string {
  const { id, outcome, sentAs, queue, reason, preview } = one;
  const as = sentAs === null ? "" : ` as ${plainLine(sentAs, 150)}`;
  const what = {
    sent: () => `replayed${as} to ${queue ?? ""}`,
    duplicate: () => "the same message once more: one of them is enough",
    left: () => `left: ${reason ?? ""}`,
    "would-send": () =>
      preview === null
        ? `would go${as} to ${queue ?? ""}, whose workers this configuration is not of`
        : previewLine({ ...preview, input: undefined }) + as,
  };
  return `${plainLine(id, 100)}  ${plainLine(what[outcome]())}`;
}
