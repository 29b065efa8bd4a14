import { ExitReason } from "../messages/job-event.ts";
import { quote } from "../shells/quote.ts";
import { parseCancelRequest, type AskedToCancel } from "./cancel-request.ts";
import { spoolOf, type WhyAgain } from "./directory.ts";
import type { EndRecord } from "./job.ts";
import { parseRecord } from "./run-script.ts";

/** What run scripts have written in one job's directory. */
export interface JobRecords {
  /** Slurm's present job: another than before if it was submitted again, and then where to. */
  submitted?: {
    /** Slurm's, or the process's. */
    runId: string;
    /** Of a process: where it runs. */
    host: string | null;
    reservation: string | null;
    partition: string | null;
    /** Why it was submitted again. */
    why: WhyAgain;
    /** Somebody is about to submit it again, or has died doing so. */
    isBeingResubmitted: boolean;
  };
  started?: { at: string; node: string };
  /** Somebody has asked Mento to cancel it. */
  cancelled?: AskedToCancel;
  ended?: { record: EndRecord; results: RecordedResult[]; log: string };
}

export interface RecordedResult {
  path: string;
  bytes: number;
  /** Where the beamline sees the copy; null: there is none. */
  beamlinePath: string | null;
}

const HEADER = "mento-record";

/**
 * Takes the bells of these jobs out of the spool, then prints their records, each behind a line with its size. In this
 * order: a record is there before its bell, so one that comes meanwhile rings again.
 */
export function readRecordsCommand(jobsDirectory: string, jobIds: readonly string[]): string {
  const spool = spoolOf(jobsDirectory);
  const files = jobIds.flatMap((id) => [`${id}.started`, `${id}.ended`]);
  return `cd ${quote(spool)} && rm -f ${files.map(quote).join(" ")}
${printRecordsCommand(jobsDirectory, jobIds)}`;
}

/** The same for whoever the bells are not for. */
export function printRecordsCommand(jobsDirectory: string, jobIds: readonly string[]): string {
  return `cd ${quote(jobsDirectory)} || exit 1
print() {
  [ -f "$3" ] || return 0
  printf '${HEADER} %s %s %s\\n' "$1" "$2" "$(stat -c %s "$3")"
  cat "$3"
}
for id in ${jobIds.map(quote).join(" ")}; do
  again= slurm= slot=
  { read -r slurm && read -r slot; } < "$id/submitted" 2>/dev/null
  [ ! -d "$id/.resubmit.\${slurm%%;*}" ] || again=again
  line="$slurm,$slot,$again"
  printf '${HEADER} %s submitted %s\\n%s' "$id" "\${#line}" "$line"
  for kind in started ended; do print "$id" "$kind" "$id/$kind.\${slurm%%;*}"; done
  print "$id" cancelled "$id/.cancelled"
done`;
}

export function parseRecords(output: Buffer): Map<string, JobRecords> {
  const found = new Map<string, JobRecords>();
  let at = 0;
  while (at < output.length) {
    const lineEnd = output.indexOf("\n", at);
    if (lineEnd < 0) break;
    const [header, id = "", kind = "", size = ""] = output.toString("utf8", at, lineEnd).split(" ");
    at = lineEnd + 1;
    if (header !== HEADER) continue;
    const bytes = output.subarray(at, at + Number(size));
    at += Number(size);
    const records = found.get(id) ?? {};
    found.set(id, records);
    if (kind === "submitted") Object.assign(records, { submitted: submittedFrom(bytes) });
    if (kind === "started") Object.assign(records, { started: startedFrom(bytes) });
    if (kind === "ended") Object.assign(records, { ended: endedFrom(bytes) });
    if (kind === "cancelled") Object.assign(records, { cancelled: parseCancelRequest(bytes) });
  }
  return found;
}

function submittedFrom(bytes: Buffer): JobRecords["submitted"] {
  const [first = "", slot = "", again] = bytes.toString("utf8").split(",");
  const [, runId, host = null] = /^(\d+(?:_\d+)?)(?:;(\S+))?/.exec(first) ?? [];
  if (runId === undefined) return undefined;
  const [reservation = null, partition = null, said] = slot
    .split(" ")
    .map((name) => (name === "-" ? null : name));
  const why = said === "slurm-forgot" ? said : (ExitReason.safeParse(said).data ?? "reservation-deleted");
  return { runId, host, reservation, partition, why, isBeingResubmitted: again === "again" };
}

function startedFrom(bytes: Buffer): JobRecords["started"] {
  const fields = new Map(parseRecord(bytes));
  return { at: fields.get("at") ?? "", node: fields.get("node") ?? "" };
}

function endedFrom(bytes: Buffer): JobRecords["ended"] {
  const all = parseRecord(bytes);
  const fields = new Map(all);
  return {
    record: {
      at: fields.get("at") ?? "",
      code: Number(fields.get("code")),
      outOfMemory: fields.get("outOfMemory") === "yes",
      stoppedBy: fields.get("stoppedBy") === "" ? null : `SIG${fields.get("stoppedBy") ?? ""}`,
    },
    results: resultsFrom(all),
    log: fields.get("log") ?? "",
  };
}

/** A copy's field follows that of its result. */
function resultsFrom(fields: [key: string, value: string][]): RecordedResult[] {
  const results: RecordedResult[] = [];
  for (const [key, value] of fields) {
    const last = results.at(-1);
    if (key === "result") {
      const space = value.indexOf(" ");
      const bytes = Number(value.slice(0, space));
      results.push({ bytes, path: value.slice(space + 1), beamlinePath: null });
    } else if (key === "copied" && last !== undefined) last.beamlinePath = value;
  }
  return results;
}
