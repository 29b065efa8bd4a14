import type { OnlineResources, SessionReservation } from "./metadata.ts";

/** The reservation that a session's jobs run in: the first that the metadata file names. */
export function reservationFor(online: OnlineResources): SessionReservation {
  return online.reservations[0];
}
