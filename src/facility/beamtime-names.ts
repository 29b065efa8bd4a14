import { Misconfigured } from "../errors.ts";

/** They become parts of paths, of an account's name and of a reservation's name. */
export function requireGoodNames(beamtimeId: string, beamline: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,19}$/.test(beamtimeId)) {
    throw wrong(`${JSON.stringify(beamtimeId)} cannot be a beamtime's id.`, "It looks like 11010000.");
  }
  if (!/^[a-z][a-z0-9]*(\.[a-z0-9]+)*$/.test(beamline) || beamline.length > 12) {
    throw wrong(`${JSON.stringify(beamline)} cannot be a beamline's name.`, "It looks like p11 or p02.1.");
  }
}

function wrong(message: string, hint: string): Misconfigured {
  return new Misconfigured({ code: "wrong-usage", message, hint });
}
