import { JOB_CANCEL_TYPE } from "../messages/job-cancel.ts";
import { headersOfReplay, type DeadLetter } from "../messages/dead-letter.ts";
import { idOfNextRun, sentAgain, type Outgoing } from "../messages/sent-again.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import { outlookLine, outlookOf, type Outlook } from "./outlook.ts";
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
  outlook: Omit<Outlook, "input"> | null;
}

export interface ReplayWishes {
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
  letter: DeadLetter,
  wishes: ReplayWishes,
): { outcome: Outcome; send?: Outgoing & { routingKey: string } } {
  const { cause, queue } = letter;
  const outcome: Outcome = {
    ...{ id: cause.id, outcome: "sent", sentAs: null, queue, trigger: null, reason: null, outlook: null },
  };
  const reason = whyLeft(letter, wishes);
  if (reason !== undefined || queue === null) {
    return { outcome: { ...outcome, outcome: "left", reason: reason ?? "it has no queue" } };
  }
  const trigger = wishes.toTrigger ?? letter.trigger;
  const sentAs = wishes.again ? idOfNextRun(cause.id, runOf(letter, wishes.now)) : null;
  const outgoing = sentAgain(letter.received, headersOfReplay(letter, trigger), sentAs ?? undefined);
  const isOwn = queue === wishes.ownQueue;
  const outlook = isOwn
    ? outlookOf(
        outgoing.body,
        outgoing.properties,
        wishes.triggers,
        trigger ?? undefined,
        letter.received.ours["mento-exchange"] === `${wishes.prefix}.events`,
      )
    : null;
  return {
    outcome: { ...outcome, sentAs, trigger, outlook: outlook && withoutMessage(outlook) },
    send: { routingKey: queue, ...outgoing },
  };
}

/**
 * A new run's id comes from the letter, not from the clock: if the command dies and is called again, the letter is sent
 * under the same new id.
 */
function runOf(letter: DeadLetter, now: Date): Date {
  return letter.firstSeen === null ? now : new Date(letter.firstSeen);
}

function whyLeft(letter: DeadLetter, wishes: ReplayWishes): string | undefined {
  const { queue } = letter;
  const { ownQueue, prefix, toTrigger, again } = wishes;
  if (queue === null) return "it does not say which queue it came from: no worker has put it here";
  const [, kind] = TAKEN_FROM.exec(queue.startsWith(`${prefix}.`) ? queue.slice(prefix.length) : "") ?? [];
  if (kind === undefined) return `it came from ${queue}, which is no queue that workers take messages from`;
  const isMessage = !kind.startsWith("jobs");
  if (!isMessage && letter.received.properties.type === JOB_CANCEL_TYPE) {
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

function withoutMessage({ triggers, cancels, unmatched, error }: Outlook): Omit<Outlook, "input"> {
  return { triggers, cancels, unmatched, error };
}

export function replayLine(one: Outcome): string {
  const { id, outcome, sentAs, queue, reason, outlook } = one;
  const as = sentAs === null ? "" : ` as ${plainLine(sentAs, 150)}`;
  const what = {
    sent: () => `replayed${as} to ${queue ?? ""}`,
    duplicate: () => "the same message once more: one of them is enough",
    left: () => `left: ${reason ?? ""}`,
    "would-send": () =>
      outlook === null
        ? `would go${as} to ${queue ?? ""}, whose workers this configuration is not of`
        : outlookLine({ ...outlook, input: undefined }) + as,
  };
  return `${plainLine(id, 100)}  ${plainLine(what[outcome]())}`;
}
