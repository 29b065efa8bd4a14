import type { JobEventData } from "../messages/job-event.ts";

/** What a data set's job, or the message itself, is in; the same words and marks wherever people look. */
export type Standing =
  | "published"
  | "waiting"
  | "pending"
  | "running"
  | "completed"
  | "failed"
  | "cancelled"
  | "lost"
  | "rejected"
  | "ignored";

export type Tone = "good" | "busy" | "attention" | "bad" | "quiet";

export const STANDINGS: Readonly<Record<Standing, { mark: string; ascii: string; tone: Tone }>> = {
  published: { mark: "◷", ascii: "o", tone: "attention" },
  waiting: { mark: "◷", ascii: "o", tone: "attention" },
  pending: { mark: "◌", ascii: ".", tone: "attention" },
  running: { mark: "◐", ascii: ">", tone: "busy" },
  completed: { mark: "✓", ascii: "+", tone: "good" },
  failed: { mark: "✕", ascii: "x", tone: "bad" },
  cancelled: { mark: "⊘", ascii: "/", tone: "quiet" },
  lost: { mark: "?", ascii: "?", tone: "bad" },
  rejected: { mark: "✕", ascii: "x", tone: "bad" },
  ignored: { mark: "–", ascii: "-", tone: "quiet" },
};

export function standingOf({ job, process }: JobEventData): Standing {
  if (job.state === "started" || (job.state === "submitted" && process !== null)) return "running";
  return job.state === "submitted" ? "pending" : job.state;
}

/** `3 s`, `17 min 40 s`, `4 h 48 min`, `2 d 3 h`. */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const parts = (large: number, unit: string, small: number, smaller: string) =>
    small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${smaller}`;
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return parts(minutes, "min", seconds % 60, "s");
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return parts(hours, "h", minutes % 60, "min");
  return parts(Math.floor(hours / 24), "d", hours % 24, "h");
}

/** What Slurm means by the reason for which a job waits; its word stands in brackets. */
export function pendingWords(reason: string, reservation: string | null): string {
  const where = reservation === null ? "the partition" : `reservation ${reservation}`;
  const raw = reason.replace(/^\((.*)\)$/, "$1");
  const word = /^\w+/.exec(raw)?.[0] ?? "";
  const [, sentence] = PENDING.find(([form]) => form.test(word)) ?? [];
  if (sentence !== undefined) return `${sentence.replace("{where}", where)} (${word})`;
  return raw === "" || raw === "None" ? "Slurm has not said why yet" : `Slurm says: ${raw}`;
}

const PENDING: readonly (readonly [RegExp, string])[] = [
  [/^Resources$/, "{where} is full"],
  [/^Priority$/, "other jobs are before it in {where}"],
  [/^(ReservationDeleted|Reservation)$/, "{where} has not begun, or was deleted"],
  [/^ReqNodeNotAvail/, "nodes that it needs are down, drained, or reserved for others"],
  [/^PartitionDown|^PartitionInactive/, "its partition is down"],
  [/^Partition(Time|Node)Limit/, "it asks for more than its partition allows"],
  [/^BeginTime$/, "its begin time has not come"],
  [/^Dependency/, "it waits for another job of Slurm"],
  [/^JobHeld(User|Admin)$/, "it is held in Slurm: scontrol release lets it go"],
  [/^(QOS|Assoc|MaxCpuPerAccount)/, "it is held back by a limit of the account"],
  [/^Licenses$/, "it waits for a licence"],
  [/^launch_failed_requeued_held$|^JobLaunchFailure$/, "it could not be started on its node"],
  [/^BadConstraints$/, "no node has what it asks for"],
];

/** What happened, without what only machines need. */
export function firstSentence(text: string): string {
  const [first = text] = /^.*?[^.\s]\.(?=\s+[^a-z]|\s*$)/s.exec(text) ?? [];
  return first.replace(/\.$/, "");
}

/** Of this host's zone; with the day if it is another one. */
export function clock(at: number, now = new Date()): string {
  const time = new Date(at);
  if (Number.isNaN(at)) return "an unknown time";
  const two = (value: number) => String(value).padStart(2, "0");
  const text = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  const isToday = time.toDateString() === now.toDateString();
  return isToday ? text : `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${text}`;
}
