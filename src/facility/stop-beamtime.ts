import { existsSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { MentoError } from "../errors.ts";
import { requireGoodNames } from "./beamtime-names.ts";
import { runningFacility } from "./facility.ts";
import { withLock } from "./lock.ts";
import type { Say } from "./packages.ts";
import { waitUntil } from "./processes.ts";
import { deleteReservation } from "./reservations.ts";
import { isServerRunning } from "./server.ts";
import { cancelJobs } from "./slurm.ts";
import { authorizedKeysOf, currentLinks } from "./start-beamtime.ts";
import {
  type FacilityState,
  type OpenBeamtime,
  placesOf,
  readBeamtimes,
  removeBeamtime,
  writeBeamtime,
} from "./state.ts";

/** The last files of a long beamtime take their time; a copy that stands still is noticed by its daemon's end. */
const LAST_COPY_SECONDS = 3600;

/** Closes a beamtime as the real `stopBeamtime` does: the data stays on the core file system. */
export async function stopBeamtime(
  directory: string,
  beamtimeId: string,
  beamline: string,
  say: Say,
): Promise<void> {
  requireGoodNames(beamtimeId, beamline);
  const state = runningFacility(directory);
  const { dir } = state;
  await withLock(dir, async () => {
    const beamtime = readBeamtimes(dir).find((open) => open.beamline === beamline);
    if (beamtime?.beamtimeId !== beamtimeId) throw notOpen(dir, beamtimeId, beamline);

    say("[Beamline File System]");
    for (const link of currentLinks(dir, beamline)) rmSync(link, { force: true });
    say("Unlinked the beamtime's directories.");
    if (beamtime.reservation !== null) {
      say("[Maxwell Online Analysis Resources]");
      await cancelJobs(dir, ["--reservation", beamtime.reservation]);
      await deleteReservation(dir, beamtime.reservation);
      say(`Deleted reservation ${beamtime.reservation}.`);
    }
    if (beamtime.account !== null) rmSync(authorizedKeysOf(dir, beamtime.account), { force: true });

    say("[Core File System]");
    await copyTheLast(state, beamtime);
    removeBeamtime(dir, beamline);
    say("Beamtime has been stopped.");
  });
}

async function copyTheLast(state: FacilityState, beamtime: OpenBeamtime): Promise<void> {
  const done = join(placesOf(state.dir).mirror, `${basename(beamtime.beamlinePath)}.done`);
  writeBeamtime(state.dir, { ...beamtime, closing: true });
  const giveUp = () => !isServerRunning(state, "mirror");
  const limits = { seconds: LAST_COPY_SECONDS, everyMs: 20, giveUp };
  if (await waitUntil(() => existsSync(done), limits)) return;
  throw new MentoError({
    code: "facility-beamtime",
    message: `The last files of beamtime ${beamtime.beamtimeId} were not copied to the core file system.`,
    hint: `Run: mento facility up --dir ${state.dir}, and then this command again.`,
  });
}

function notOpen(dir: string, beamtimeId: string, beamline: string): MentoError {
  const open = readBeamtimes(dir).map((each) => `${each.beamtimeId} at ${each.beamline}`);
  return new MentoError({
    code: "facility-beamtime",
    message: `Beamtime ${beamtimeId} is not open at ${beamline}.`,
    hint: open.length === 0 ? "No beamtime is open." : `Open is ${open.join(", ")}.`,
  });
}
