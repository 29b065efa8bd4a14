import { canBe } from "../time/can-be.ts";
import { quote, quoteAll } from "../shells/quote.ts";
import { fieldsOf, markedLines } from "../shells/answer-lines.ts";
import { BOUNDED_FILE, READ_SECONDS, SUBMITTED_BYTES, within } from "../shells/bounded-file.ts";
import { CANCEL_REQUEST_BYTES, parseCancelRequest, type AskedToCancel } from "./cancel-request.ts";
import { spoolOf } from "./directory.ts";
import {
  ENDED_BYTES,
  parseEnded,
  parseStarted,
  parseSubmitted,
  STARTED_BYTES,
  type EndedRecord,
  type StartedRecord,
  type SubmittedRecord,
} from "./record-schema.ts";
import { MAX_RESULTS } from "./run-script.ts";

/**
 * What run scripts have written in one job's directory, as far as it has the form that it must have. It is the word of the
 * account that the job runs as, about its own job, and no more.
 */
export interface JobRecords {
  /** Slurm's present job: another than before if it was submitted again, and then where to. */
  submitted?: SubmittedRecord & {
    /** When Slurm had it, or the process began, RFC 3339; null if that is not said. */
    at: string | null;
    /** Somebody is about to submit it again, or has died doing so. */
    isBeingResubmitted: boolean;
  };
  started?: StartedRecord;
  /** Somebody has asked Mento to cancel it. */
  cancelled?: AskedToCancel;
  ended?: EndedRecord;
}

const HEADER = "mento-record";
/** So much base64 one call prints, and what the last job adds: the answer of a shell has an end at 16 MiB. */
const PRINTED_AT_ONCE = 4 * 1024 * 1024;
const REAL_PATHS_BYTES = 512 * 1024;
/** Of a few folders, and of results. */
const MOST_REAL_PATHS = 2 * MAX_RESULTS;
/** More is not of our command. */
const READ_AT_MOST = 8 * 1024 * 1024;

export interface ReadMore {
  /** The real paths of these folders and of results are printed too, as symbolic links have them on this host. */
  roots?: readonly string[];
  /** Where requests to cancel the jobs are, if not in their directories. */
  cancelRequests?: string | undefined;
}

/**
 * Takes the notifications of these jobs out of the spool, then prints their records. In this order: a record is there
 * before its notification, so one that comes meanwhile notifies again.
 */
export function readRecordsCommand(
  jobsDirectory: string,
  jobIds: readonly string[],
  more: ReadMore = {},
): string {
  const files = jobIds.flatMap((id) => [`${id}.started`, `${id}.ended`]);
  return within(
    READ_SECONDS,
    `cd ${quote(spoolOf(jobsDirectory))} && rm -f -- ${quoteAll(files)}
${printRecords(jobsDirectory, jobIds, more)}`,
  );
}

/** The same for whoever the notifications are not for. */
export function printRecordsCommand(
  jobsDirectory: string,
  jobIds: readonly string[],
  more: ReadMore = {},
): string {
  return within(READ_SECONDS, printRecords(jobsDirectory, jobIds, more));
}

/**
 * Each record is one line, its content in base64, so that no content is taken for a line of ours. A job has a first and a
 * last line: what is between may be missing because time or space was up, which is said of no job that has both.
 */
function printRecords(
  jobsDirectory: string,
  jobIds: readonly string[],
  { roots = [], cancelRequests }: ReadMore,
): string {
  // Of a job that never ran there may be a request, and no folder of jobs.
  const otherwise = cancelRequests === undefined ? "exit 1" : "cd /";
  return `cd ${quote(jobsDirectory)} || ${otherwise}
LC_ALL=C left=${PRINTED_AT_ONCE} requests=${quote(cancelRequests ?? jobsDirectory)}
export LC_ALL
${BOUNDED_FILE}
show() {
  encoded=
  if is_plain "$3"; then encoded "$3" $(($4 + 1))
  elif [ -e "$3" ] || [ -L "$3" ]; then encoded=${NO_FILE}
  else return 0
  fi
  left=$((left - \${#encoded}))
  printf '${HEADER} %s\\n' "$id $1 $2 $encoded"
}
real_paths() {
  # Where "result=" stands in base64, at each of its three places.
  case $encoded in *cmVzdWx0P* | *Jlc3VsdD* | *yZXN1bHQ9*) ;; *) return 0 ;; esac
  real=$({
    readlink -m -z -- ${roots.length === 0 ? "" : `${quoteAll(roots)} `}"$PWD/$id"
    printf %s "$encoded" | base64 -d | sed -z -n '/^result=/{s/^result=[0-9]* *//;s/^$/./;p}' | head -z -n ${MAX_RESULTS} | xargs -0 -r readlink -m -z --
  } 2>/dev/null | head -c ${REAL_PATHS_BYTES} | base64 -w 0)
  left=$((left - \${#real}))
  printf '${HEADER} %s\\n' "$id real x $real"
}
for id in ${quoteAll(jobIds)}; do
  printf '${HEADER} %s\\n' "$id begin"
  if [ -d "$id" ] && [ ! -L "$id" ]; then
    run= text= encoded=
    ! is_plain "$id/submitted" || text=$(content "$id/submitted" ${SUBMITTED_BYTES}; printf .) 2>/dev/null
    run=\${text%%[!0-9_]*}
    case $text in
      "$run$nl.") printf '${HEADER} %s\\n' "$id submitted x ${ONE_LINE}$run" ;;
      *) show submitted x "$id/submitted" ${SUBMITTED_BYTES} ;;
    esac
    if [ -n "$run" ]; then
      [ ! -d "$id/.resubmit.$run" ] || printf '${HEADER} %s\\n' "$id again $run"
      show started "$run" "$id/started.$run" ${STARTED_BYTES}
      show ended "$run" "$id/ended.$run" ${ENDED_BYTES}
${roots.length === 0 ? "" : "      real_paths\n"}    fi
  fi
  [ -L "$requests/$id" ] || show cancelled x "$requests/$id/.cancelled" ${CANCEL_REQUEST_BYTES}
  printf '${HEADER} %s\\n' "$id end"
  [ $left -gt 0 ] || break
done
printf '${HEADER} %s\\n' "- read $(date +%s%3N)"
stat -c '${HEADER} %n at %.3Y' -- ${quoteAll(jobIds.map((id) => `${id}/submitted`))} 2>/dev/null
true`;
}

/** Printed instead of a content: there is something, and it is no regular file. Not base64. */
const NO_FILE = "-";
/** Stands before a content that is not in base64: what follows is its only line. Most of `submitted` are so. */
const ONE_LINE = "=";

/** One call's answer about one job. */
export interface ReadJob {
  /** undefined: the call did not come to the end of this job. */
  records: JobRecords | undefined;
  /** What was there and is left out, and why: for the log. */
  refused: string[];
  /** When all that one call reads had been read, by the host's clock, in milliseconds; null if that is not said. */
  readAt: number | null;
  /** Real paths: of the roots that were asked for, of the job directory, and of the results, in their order. */
  realPaths: string[];
}

/**
 * By the jobs' ids; who is not in it was not read. Reads any bytes in one pass, and believes no length in them.
 *
 * @param jobIds those that were asked for; default: all that are there
 */
export function parseRecords(output: Buffer, jobIds?: readonly string[]): Map<string, ReadJob> {
  const wanted = jobIds && new Set(jobIds);
  const found = new Map<string, ReadJob>();
  const kindsOf = new Map<string, Map<string, string[]>>();
  let readAt: number | null = null;
  // What stands before may be as long as the records.
  const from = Math.max(0, output.indexOf(`${HEADER} `));
  for (const line of markedLines(output.subarray(from, from + READ_AT_MOST), HEADER)) {
    const [, id = "", kind = "", run = "", encoded = ""] = line.split(" ", 5);
    if (kind === "begin") {
      if (found.has(id) || wanted?.has(id) === false) continue;
      found.set(id, { records: undefined, refused: [], readAt: null, realPaths: [] });
      kindsOf.set(id, new Map());
      continue;
    }
    if (kind === "read" && /^\d{13}$/.test(run)) readAt = Number(run);
    if (kind === "at") setTime(found.get(id.split("/", 1)[0] ?? ""), Number(run));
    const kinds = kindsOf.get(id);
    // What comes behind its last line is not ours.
    if (kinds === undefined) continue;
    if (kind !== "end") kinds.set(kind, [run, encoded]);
    else {
      found.set(id, { ...recordsFrom(kinds), readAt: null, realPaths: pathsFrom(kinds.get("real")) });
      kindsOf.delete(id);
    }
  }
  for (const job of found.values()) job.readAt = readAt;
  return found;
}

/** @param seconds since 1970 */
function setTime(job: ReadJob | undefined, seconds: number): void {
  const { submitted } = job?.records ?? {};
  if (submitted !== undefined && canBe(seconds * 1000)) {
    submitted.at = new Date(seconds * 1000).toISOString();
  }
}

function recordsFrom(kinds: ReadonlyMap<string, readonly string[]>): Pick<ReadJob, "records" | "refused"> {
  const records: JobRecords = {};
  const refused: string[] = [];
  const read = <T>(kind: string, most: number, parse: (bytes: Buffer) => T | undefined): T | undefined => {
    const [run = "", encoded] = kinds.get(kind) ?? [];
    // Of another run: it was submitted again while this was read.
    const isOfRun = run === "x" || run === records.submitted?.runId;
    if (encoded === undefined || !isOfRun) return undefined;
    const bytes = encoded === NO_FILE ? undefined : contentOf(encoded);
    // It is being written.
    if (bytes?.length === 0) return undefined;
    const isTooLarge = bytes !== undefined && bytes.length > most;
    if (isTooLarge) refused.push(`${kind} is larger than ${most} bytes`);
    const parsed = bytes === undefined || (isTooLarge && kind !== "ended") ? undefined : parse(bytes);
    if (bytes === undefined) refused.push(`${kind} is no regular file`);
    else if (parsed === undefined && !isTooLarge) refused.push(`${kind} has not the form of a record`);
    return parsed;
  };
  const submitted = read("submitted", SUBMITTED_BYTES, parseSubmitted);
  if (submitted !== undefined) {
    const [again] = kinds.get("again") ?? [];
    records.submitted = { ...submitted, at: null, isBeingResubmitted: again === submitted.runId };
  }
  const started = read("started", STARTED_BYTES, parseStarted);
  if (started !== undefined) records.started = started;
  const ended = read("ended", ENDED_BYTES, parseEnded);
  if (ended !== undefined) records.ended = ended;
  const cancelled = read("cancelled", CANCEL_REQUEST_BYTES, parseCancelRequest);
  if (cancelled !== undefined) records.cancelled = cancelled;
  return { records, refused };
}

function contentOf(encoded: string): Buffer {
  return encoded.startsWith(ONE_LINE)
    ? Buffer.from(`${encoded.slice(ONE_LINE.length)}\n`)
    : Buffer.from(encoded, "base64");
}

function pathsFrom(line: readonly string[] | undefined): string[] {
  const text = Buffer.from(line?.[1] ?? "", "base64").toString("utf8");
  // What is behind the last NUL was cut off.
  return fieldsOf(text, "\0", MOST_REAL_PATHS + 1).slice(0, -1);
}
