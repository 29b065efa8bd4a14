import { run, runChecked } from "./processes.ts";
import { PARTITION, slurmEnvironment } from "./slurm.ts";

interface ReservationRequest {
  name: string;
  account: string;
  hours: number;
  nodeCount: number;
}

/** Makes a reservation that starts now, and gives the names of its nodes. */
export async function createReservation(dir: string, request: ReservationRequest): Promise<string[]> {
  const env = slurmEnvironment(dir);
  await runChecked(
    "scontrol",
    [
      "create",
      "reservation",
      `ReservationName=${request.name}`,
      "StartTime=now",
      `Duration=${request.hours}:00:00`,
      `Users=${request.account}`,
      `NodeCnt=${request.nodeCount}`,
      `PartitionName=${PARTITION}`,
    ],
    { env },
  );
  const shown = await runChecked("scontrol", ["--oneliner", "show", "reservation", request.name], { env });
  const nodeList = /\bNodes=(\S+)/.exec(shown)?.[1];
  if (nodeList === undefined) throw new Error(`Reservation ${request.name} has no nodes: ${shown.trim()}`);
  const nodes = await runChecked("scontrol", ["show", "hostnames", nodeList], { env });
  return nodes.trim().split("\n");
}

/** Deletes a reservation; it may be gone already. Slurm refuses as long as a job runs in it. */
export async function deleteReservation(dir: string, name: string): Promise<void> {
  const env = slurmEnvironment(dir);
  const deleted = await run("scontrol", ["delete", `ReservationName=${name}`], { env });
  if (deleted.exitCode === 0) return;
  const shown = await run("scontrol", ["show", "reservation", name], { env });
  if (shown.exitCode === 0) {
    throw new Error(`Reservation ${name} could not be deleted: ${deleted.stderr.trim()}`);
  }
}
