import { type Node, SHARED_NODE } from "./nodes.ts";
import { run, runChecked } from "./processes.ts";
import { queuedJobs } from "./queue.ts";
import { slurmEnvironment } from "./slurm.ts";
import type { Reservation } from "./state.ts";

/** A reservation as Slurm has it. */
export interface SlurmReservation extends Reservation {
  users: string;
  /** `2026-04-04T17:00:00`, local time of the machine. */
  end: string;
}

export async function listReservations(dir: string): Promise<SlurmReservation[]> {
  const env = slurmEnvironment(dir);
  const shown = await runChecked("scontrol", ["--oneliner", "show", "reservation"], { env });
  const lines = shown.split("\n").filter((line) => line.startsWith("ReservationName="));
  return Promise.all(
    lines.map(async (line) => {
      const field = (name: string) => new RegExp(`\\b${name}=(\\S+)`).exec(line)?.[1] ?? "";
      // None if somebody reserved licences only.
      const nodes = await run("scontrol", ["show", "hostnames", field("Nodes")], { env });
      return {
        name: field("ReservationName"),
        partition: field("PartitionName"),
        nodes: nodes.stdout.trim().split("\n"),
        users: field("Users"),
        end: field("EndTime"),
      };
    }),
  );
}

/** Says of a node whether it is up, in no reservation, and without a job. */
export async function freeNodes(dir: string): Promise<(node: Node) => boolean> {
  const reserved = new Set((await listReservations(dir)).flatMap(({ nodes }) => nodes));
  const states = await runChecked("sinfo", ["--noheader", "--Node", "--format=%N %T"], {
    env: slurmEnvironment(dir),
  });
  const idle = [...states.matchAll(/^(\S+) (?:idle|planned)$/gm)].map(([, name = ""]) => name);
  return ({ name }) => idle.includes(name) && !reserved.has(name);
}

/** Makes a reservation that starts now. */
export async function createReservation(
  dir: string,
  { name, partition, nodes }: Reservation,
  { account, seconds }: { account: string; seconds: number },
): Promise<void> {
  const isShared = nodes.includes(SHARED_NODE);
  const reservation = [
    `ReservationName=${name}`,
    "StartTime=now",
    // Not Duration, which Slurm counts in minutes.
    `EndTime=now+${seconds}seconds`,
    `Users=${account}`,
    `Nodes=${nodes.join(",")}`,
    `PartitionName=${partition}`,
    // Else Slurm refuses a node that is in another reservation, or where a job runs.
    ...(isShared ? ["Flags=OVERLAP,IGNORE_JOBS"] : []),
  ];
  await runChecked("scontrol", ["create", "reservation", ...reservation], { env: slurmEnvironment(dir) });
}

/** Deletes a reservation; it may be gone already. Slurm refuses as long as a job runs in it, or waits for it. */
export async function deleteReservation(dir: string, name: string): Promise<void> {
  const refusal = await tryToDelete(dir, name);
  if (refusal !== undefined) throw new Error(`Reservation ${name} could not be deleted: ${refusal}`);
}

/** What became of a reservation that is no longer needed. */
export type Ended = "deleted" | "ending" | "in use";

/**
 * Deletes a reservation unless jobs run in it. Slurm 22.05 does not delete one that jobs only wait for either, but lets
 * it end: within half a minute it then removes the reservation and holds those jobs, as a newer Slurm does at once.
 */
export async function endReservation(dir: string, name: string): Promise<Ended> {
  if ((await tryToDelete(dir, name)) === undefined) return "deleted";
  const jobs = (await queuedJobs(dir)).filter(({ reservations }) => reservations.includes(name));
  if (jobs.some(({ state }) => state !== "PD")) return "in use";
  const env = slurmEnvironment(dir);
  // Not `now`: a second that is over when slurmctld reads it is an "Invalid time".
  await runChecked("scontrol", ["update", `ReservationName=${name}`, "EndTime=now+3seconds"], { env });
  return "ending";
}

/** What Slurm says against it; undefined if there is no such reservation any more. */
async function tryToDelete(dir: string, name: string): Promise<string | undefined> {
  const env = slurmEnvironment(dir);
  const deleted = await run("scontrol", ["delete", `ReservationName=${name}`], { env });
  if (deleted.exitCode === 0) return undefined;
  const shown = await run("scontrol", ["show", "reservation", name], { env });
  return shown.exitCode === 0 ? deleted.stderr.trim() : undefined;
}
