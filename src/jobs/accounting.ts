import { quote, quoteAll } from "../shells/quote.ts";
import { ACCOUNTING_SECONDS } from "./directory.ts";

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
}

/**
 * Asks for jobs that `squeue` has forgotten. Ids come again after Slurm's MaxJobId, and accounting keeps years: so only
 * jobs of this account since this time (seconds since 1970), and those only with their directory (blackfish#484).
 */
export function accountingCommand(account: string, slurmJobIds: readonly string[], since: number): string {
  const fields = "JobID,State,ExitCode,NodeList,Comment,WorkDir";
  return `since=$(date -d @${Math.floor(since)} +%Y-%m-%dT%H:%M:%S) || exit 1
timeout ${ACCOUNTING_SECONDS} sacct -n -P -X -u ${quote(account)} -S "$since" -j ${quoteAll([slurmJobIds.join(",")])} -o ${fields}`;
}

export function parseAccounting(output: string): Map<string, AccountedJob> {
  const jobs = new Map<string, AccountedJob>();
  for (const line of output.split("\n")) {
    const [id = "", state = "", exitCode = "", node = "", comment = "", ...directory] = line.split("|");
    if (!/^\d+(_\d+)?$/.test(id) || !/^\d+:\d+$/.test(exitCode)) continue;
    const nodes = node === "None assigned" ? "" : node;
    jobs.set(id, { id, state, exitCode, nodes, comment, directory: directory.join("|") });
  }
  return jobs;
}
