import type { OnlineResources } from "./metadata.ts";

/** What `sbatch` is told about where a job may run. */
export interface Reservation {
  name: string;
  partition: string;
}

/** The session's reservation. */
export function reservationFor(online: OnlineResources): Reservation {
  return { name: online.reservation, partition: online.partition };
}
