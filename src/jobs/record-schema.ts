import * as z from "zod";
import { ExitReason } from "../messages/job-event.ts";
import type { EndRecord } from "./job.ts";
import { MAX_RESULTS, parseRecord } from "./run-script.ts";

/** Part of a folder's name in the jobs directory. */
export const FolderName = z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$/, "must be a plain name");

/** Larger than anything that a run script writes. */
export const STARTED_BYTES = 4096;
/** An event is a message of at most 1 MiB: results behind this are cut. */
export const ENDED_BYTES = 512 * 1024;
/** The run script keeps the last 600 bytes of the log. */
const MAX_LOG = 1000;

/** `4711`, or `4711_3` of a task of an array. Slurm's ids have 32 bits, and so have processes'. */
const RunId = z.string().regex(/^[1-9]\d{0,9}(?:_\d{1,9})?$/);
const SlurmName = z.string().regex(/^[A-Za-z0-9_.:+@,-]{1,255}$/);
export const HostName = z.string().regex(/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})$/);
/** Absolute, as Linux takes it. */
const RecordedPath = z
  .string()
  .max(4096)
  .regex(/^\/[^\0]*$/);

/** Its reservation was deleted before it could run, Slurm has forgotten it, or its run has failed for this. */
const WhyAgain = z.union([ExitReason, z.literal("slurm-forgot")]);

const Submitted = z.object({
  /** Slurm's, or the process's. */
  runId: RunId,
  /** Of a process: where it runs. Of a job of a cluster: the cluster's name. */
  host: HostName.nullable(),
  reservation: SlurmName.nullable(),
  partition: SlurmName.nullable(),
  /** Why it was submitted again. */
  why: WhyAgain,
});
export type SubmittedRecord = z.infer<typeof Submitted>;

/** As `date` writes it. */
export const At = z.string().max(35).pipe(z.iso.datetime());
const Started = z.object({ at: At, node: HostName });
export type StartedRecord = z.infer<typeof Started>;

const Ended = z.object({
  at: At,
  code: z
    .string()
    .regex(/^\d{1,3}$/)
    .transform(Number)
    .pipe(z.int().max(255)),
  /** The script passes on these signals, and names the last. */
  stoppedBy: z.enum(["", "TERM", "HUP", "USR1", "USR2"]),
  outOfMemory: z.literal("yes").optional(),
  unprepared: z.literal("yes").optional(),
  log: z.string().default(""),
  /** How many results the program had. */
  results: z
    .string()
    .regex(/^\d{1,9}$/)
    .transform(Number)
    .optional(),
  /** The results could not be listed. */
  unlisted: z.literal("yes").optional(),
  /** The results were to be copied. */
  copyBack: z.literal("yes").optional(),
});

export interface RecordedResult {
  path: string;
  bytes: number;
  /** Where the beamline sees the copy; null: there is none. */
  beamlinePath: string | null;
}

export interface EndedRecord {
  record: EndRecord;
  /** Its time as the script has it: a record of another time is of another end. */
  recordedAt: string;
  /** Those that have the form of one, in the order of the record; null stands for one that has not. */
  results: (RecordedResult | null)[];
  /** How many more the program had. */
  cut: number;
  /** How many were to be copied to the beamline, and were not. */
  notCopied: number;
  areUnknown: boolean;
  log: string;
}

/** undefined: it is not of ours. The same holds of the other two. */
export function parseSubmitted(bytes: Uint8Array): SubmittedRecord | undefined {
  const [first = "", allocation = "", ...more] = new TextDecoder().decode(bytes).split("\n");
  if (more.length > 1) return undefined;
  const [runId, host = null] = first.split(";");
  const [reservation = null, partition = null, why = "reservation-deleted"] =
    allocation === "" ? [] : allocation.split(" ").map((name) => (name === "-" ? null : name));
  return Submitted.safeParse({ runId, host, reservation, partition, why }).data;
}

export function parseStarted(bytes: Uint8Array): StartedRecord | undefined {
  return Started.safeParse(Object.fromEntries(parseRecord(bytes))).data;
}

/** What is behind {@link ENDED_BYTES} is cut, like results beyond {@link MAX_RESULTS}. */
export function parseEnded(bytes: Uint8Array): EndedRecord | undefined {
  const fields = parseRecord(bytes.subarray(0, ENDED_BYTES));
  const known = fields.filter(([key]) => Object.hasOwn(Ended.shape, key));
  const parsed = Ended.safeParse(Object.fromEntries(known));
  if (!parsed.success) return undefined;
  const { at, code, stoppedBy, outOfMemory, unprepared, log, results: had = 0 } = parsed.data;
  const { results, found, copied } = resultsFrom(fields);
  const count = Math.max(had, found);
  return {
    record: {
      ...{ at, code },
      outOfMemory: outOfMemory === "yes",
      isUnprepared: unprepared === "yes",
      stoppedBy: stoppedBy === "" ? null : `SIG${stoppedBy}`,
    },
    recordedAt: at,
    results,
    cut: count - results.length,
    notCopied: parsed.data.copyBack === "yes" ? count - copied : 0,
    areUnknown: parsed.data.unlisted === "yes",
    log: log.slice(-MAX_LOG).toWellFormed(),
  };
}

/** The first {@link MAX_RESULTS}, and how many there are: no more are looked at. A copy's field follows that of its result. */
function resultsFrom(fields: readonly [key: string, value: string][]): {
  results: (RecordedResult | null)[];
  found: number;
  copied: number;
} {
  const results: (RecordedResult | null)[] = [];
  let found = 0;
  let copied = 0;
  for (const [key, value] of fields) {
    if (key === "result") {
      found += 1;
      if (found <= MAX_RESULTS) results.push(resultFrom(value));
    } else if (key === "copied" && found <= MAX_RESULTS) {
      const last = results.at(-1);
      if (last?.beamlinePath !== null) continue;
      last.beamlinePath = RecordedPath.safeParse(value).data ?? null;
      if (last.beamlinePath !== null) copied += 1;
    }
  }
  return { results, found, copied };
}

function resultFrom(value: string): RecordedResult | null {
  // A name that is no UTF-8 could not be found again.
  const [, size = "", path] = /^(\d{1,15}) (\/[^\uFFFD]*)$/.exec(value) ?? [];
  const known = RecordedPath.safeParse(path).data;
  return known === undefined ? null : { path: known, bytes: Number(size), beamlinePath: null };
}
