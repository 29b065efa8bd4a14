import { quote, quoteAll } from "../shells/quote.ts";
import { answerLines, fieldsOf } from "../shells/answer-lines.ts";
import { endOf } from "./squeue.ts";
import { isTaskList, parseTaskList, type TaskList } from "./array-tasks.ts";

/** Accounting that hangs must not hold up a command. */
export const ACCOUNTING_SECONDS = 20;

/** What Slurm's accounting has on one job. */
export interface AccountedJob {
  id: string;
  /** The long form, perhaps with a suffix: `CANCELLED by 1234`. */
  state: string;
  /** `7:0`: code and signal; of FAILED jobs only it is that of `scontrol`. */
  exitCode: string;
  /** Empty if it never got one. */
  nodes: string;
  comment: string;
  directory: string;
  /** When it ended, RFC 3339, to the second. */
  endedAt?: string | undefined;
}

/** In all lists of an answer: more than a worker watches jobs, each of which is held against each of them. */
const MOST_RANGES = 4_096;

/**
 * Asks for jobs that `squeue` has forgotten. Ids come again after Slurm's MaxJobId, and accounting keeps years: so only
 * jobs of this account since this time (seconds since 1970), and those only with their directory (blackfish#484). A task
 * of an array is asked for by the array's id: those that never began have one entry together, which none of their own ids
 * finds; it is to be written out however long it is.
 */
export function accountingCommand(account: string, slurmJobIds: readonly string[], since: number): string {
  const fields = "JobID,State,ExitCode,NodeList,Comment,WorkDir,End";
  const ids = [...new Set(slurmJobIds.map(arrayJobOf))];
  return `since=$(date -d @${Math.floor(since)} +%Y-%m-%dT%H:%M:%S) || exit 1
SLURM_BITSTR_LEN=0 SLURM_TIME_FORMAT=%s timeout ${ACCOUNTING_SECONDS} sacct -n -P -X -u ${quote(account)} -S "$since" -j ${quoteAll([ids.join(",")])} -o ${fields}`;
}

/**
 * @param wanted the jobs that were asked for: a task that has no entry of its own has that of its array's tasks which
 *   never began, if it is one of them; of a list that was cut it is, for each other task has its own, and so it is of an
 *   entry that has no list, as a busy slurmdbd writes it
 */
export function parseAccounting(output: string, wanted: readonly string[]): Map<string, AccountedJob> {
  const jobs = new Map<string, AccountedJob>();
  const together = new Map<string, [TaskList, AccountedJob][]>(wanted.map((id) => [arrayJobOf(id), []]));
  // Of all lists, understood or not.
  let rangesLeft = MOST_RANGES;
  for (const line of answerLines(output)) {
    const [id = "", state = "", exitCode = "", node = "", comment = "", directory = "", end] = fieldsOf(
      line,
      "|",
      7,
    );
    const list = parseTaskList(id, rangesLeft);
    if (isTaskList(id)) rangesLeft -= list?.ranges ?? Math.min(rangesLeft, Math.ceil(id.length / 2));
    if (!(/^\d+(_\d+)?$/.test(id) || list !== undefined) || !/^\d{1,3}:\d{1,3}$/.test(exitCode)) continue;
    const nodes = node === "None assigned" ? "" : node;
    const job = { id, state, exitCode, nodes, comment, directory, endedAt: endOf(state, end) };
    if (list === undefined) jobs.set(id, job);
    else together.get(list.arrayJobId)?.push([list, job]);
  }
  for (const id of wanted.filter((one) => !jobs.has(one))) {
    const index = Number(id.split("_")[1]);
    const [, ofList] = together.get(arrayJobOf(id))?.find(([list]) => list.has(index) !== false) ?? [];
    const job = ofList ?? jobs.get(arrayJobOf(id));
    if (job !== undefined) jobs.set(id, { ...job, id });
  }
  return jobs;
}

function arrayJobOf(id: string): string {
  return id.split("_")[0] ?? id;
}
