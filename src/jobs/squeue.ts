import { quote } from "../shells/quote.ts";

/** One job as `squeue` has it. */
export interface SlurmJob {
  id: string;
  /** The long form, e.g. `RUNNING`. */
  state: string;
  /** Why it waits, or how it ended, in Slurm's words. */
  reason: string;
  nodes: string;
}

/** All jobs of the account that Slurm's controller still knows: also those that ended lately (MinJobAge). */
export function squeueCommand(account: string): string {
  return `squeue --noheader --states=all --user=${quote(account)} --format='%A|%T|%N|%r'`;
}

export function parseSqueue(output: string): Map<string, SlurmJob> {
  const jobs = new Map<string, SlurmJob>();
  for (const line of output.split("\n")) {
    const [id = "", state = "", nodes = "", ...reason] = line.trim().split("|");
    if (!/^\d+$/.test(id) || state === "") continue;
    jobs.set(id, { id, state, nodes, reason: reason.join("|") });
  }
  return jobs;
}

/** `squeue` has no exit codes in its short form; asked for one job, and only when it left no record. */
export function exitCodeCommand(slurmJobId: string): string {
  return `scontrol --oneliner show job ${quote(slurmJobId)}`;
}

/** `ExitCode=7:0` is code and signal; undefined if Slurm did not say. */
export function parseExitCode(output: string): string | undefined {
  return / ExitCode=(\d+:\d+)/.exec(output)?.[1];
}
