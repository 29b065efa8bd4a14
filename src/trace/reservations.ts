import { reservationsNow } from "../beamtime/reservation.ts";
import type { OnlineSession } from "../beamtime/session.ts";
import type { SlurmNow } from "../slurm/slurm-now.ts";
import type { Standings } from "./standing.ts";
import { clock, duration } from "./words.ts";

/** A reservation of an open session. */
export interface ReservationLeft {
  session: string;
  name: string;
  /** Milliseconds until it ends, by the controller's clock; Infinity: never; null: Slurm has none of this name. */
  left: number | null;
}

export function reservationsLeft({ id, online }: OnlineSession, now: SlurmNow): ReservationLeft[] {
  return reservationsNow(online, now).flatMap(({ name, slurm }) =>
    name === null
      ? []
      : [{ session: id, name, left: slurm === undefined ? null : (slurm.end - now.at) * 1000 }],
  );
}

/** With fewer messages done in ten minutes nobody can tell the pace. */
const LEAST_DONE = 10;

/** Milliseconds that what is unfinished takes at the pace of the last ten minutes; null: too little was done to tell. */
export function backlogTakes({ paces, backlog }: Standings): number | null {
  const pace = paces.find(({ milliseconds }) => milliseconds === 600_000);
  if (pace === undefined || pace.done < LEAST_DONE) return null;
  return (backlog * pace.milliseconds) / pace.done;
}

/** One that ends sooner is worth a look. */
const SOON_MS = 30 * 60_000;

/** What a person must see to, in sentences. */
export function reservationNeeds(all: readonly ReservationLeft[], takes: number | null): string[] {
  const needs = all.flatMap(({ session, name, left }) => {
    if (left === null) return [`Slurm has no reservation ${name}, which ${session} names`];
    if (left <= 0) return [`Reservation ${name} of ${session} has ended`];
    return left < SOON_MS ? [`Reservation ${name} of ${session} ends in ${duration(left)}`] : [];
  });
  const longest = Math.max(0, ...all.map(({ left }) => left ?? 0));
  if (all.length > 0 && takes !== null && takes > longest)
    needs.push(`At this pace the backlog outlives the reservation by ${duration(takes - longest)}`);
  return needs;
}

/** `11012345 ends 08:00:00, in 4 h 48 min; backlog needs 30 s`, one for each. */
export function reservationLines(
  all: readonly ReservationLeft[],
  takes: number | null,
  now: number,
): string[] {
  const needs = takes === null ? "" : `; backlog needs ${duration(takes)}`;
  return all.map(({ name, left }) => {
    if (left === null) return `${name}: Slurm has none of this name`;
    if (left === Infinity) return `${name} does not end${needs}`;
    return left <= 0
      ? `${name} has ended`
      : `${name} ends ${clock(now + left, new Date(now))}, in ${duration(left)}${needs}`;
  });
}
