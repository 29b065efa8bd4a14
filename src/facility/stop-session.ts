import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { errorText, MentoError } from "../errors.ts";
import { runningFacility } from "./facility.ts";
import { withLock } from "./lock.ts";
import { describeSession, isPreStarted } from "./open-sessions.ts";
import type { Say } from "./packages.ts";
import { waitUntil } from "./processes.ts";
import { cancelJobs } from "./queue.ts";
import { deleteReservation } from "./reservations.ts";
import { isServerRunning } from "./server.ts";
import { unlinkSession } from "./session-directories.ts";
import { goodBeamline, requireGoodId, requireGoodTag } from "./session-names.ts";
import { forbidLogin, removeSecrets } from "./session-secrets.ts";
import { sessionWord } from "./start-session.ts";
import {
  type FacilityState,
  type OpenSession,
  placesOf,
  readSessions,
  removeSession,
  writeSession,
} from "./state.ts";

/** The last files of a long beamtime take their time; a copy that stands still is noticed by its daemon's end. */
const LAST_COPY_SECONDS = 3600;

/** Closes a beamtime, also one that was only pre-started, as the real `stopBeamtime` does. */
export async function stopBeamtime(
  directory: string,
  beamtimeId: string,
  typedBeamline: string,
  say: Say,
): Promise<void> {
  requireGoodId(beamtimeId);
  const beamline = goodBeamline(typedBeamline);
  const isMeant = ({ kind, id }: OpenSession) => kind === "beamtime" && id === beamtimeId;
  await stopSession(directory, `beamtime ${beamtimeId}`, beamline, isMeant, say);
}

/** Closes the commissioning run at a beamline; with a tag, only if it has this one. */
export async function stopCommissioning(
  directory: string,
  tag: string | undefined,
  typedBeamline: string,
  say: Say,
): Promise<void> {
  if (tag !== undefined) requireGoodTag(tag);
  const beamline = goodBeamline(typedBeamline);
  const name = tag === undefined ? "commissioning run" : `commissioning run with the tag ${tag}`;
  const isMeant = (session: OpenSession) =>
    session.kind === "commissioning" && (tag === undefined || session.tag === tag);
  await stopSession(directory, name, beamline, isMeant, say);
}

/** Every step can be repeated: a stop that failed is finished by the next. */
async function stopSession(
  directory: string,
  name: string,
  beamline: string,
  isMeant: (session: OpenSession) => boolean,
  say: Say,
): Promise<void> {
  const state = runningFacility(directory);
  const { dir } = state;
  await withLock(dir, async () => {
    const session = readSessions(dir).find((each) => each.beamline === beamline && isMeant(each));
    if (session === undefined) throw notOpen(dir, name, beamline);

    if (!isPreStarted(session)) {
      say("[Beamline File System]");
      unlinkSession(dir, session);
      say("Unlinked the session's directories.");
    }
    if (session.account !== null) {
      say("[Maxwell Online Analysis Resources]");
      await endReservations(dir, session, say);
      forbidLogin(dir, session);
    }
    say("[Core File System]");
    if (session.beamlinePath !== null) await copyTheLast(state, session, session.beamlinePath);
    removeSession(dir, session.id);
    removeSecrets(dir, session.id);
    say(`${sessionWord(session)} has been stopped.`);
  });
}

async function endReservations(dir: string, session: OpenSession, say: Say): Promise<void> {
  const names = [...session.reservations.map(({ name }) => name), ...session.leftReservations];
  await cancelJobs(dir, ({ reservations }) => reservations.every((name) => names.includes(name)));
  for (const name of names) {
    try {
      await deleteReservation(dir, name);
    } catch (cause) {
      throw new MentoError({
        code: "facility-beamtime",
        message: errorText(cause),
        hint: "Its jobs were cancelled; run this command again when they have ended.",
        cause,
      });
    }
    say(`Deleted reservation ${name}.`);
  }
}

async function copyTheLast(state: FacilityState, session: OpenSession, beamlinePath: string): Promise<void> {
  const done = join(placesOf(state.dir).mirror, `${basename(beamlinePath)}.done`);
  writeSession(state.dir, { ...session, closing: true });
  const giveUp = () => !isServerRunning(state, "mirror");
  const limits = { seconds: LAST_COPY_SECONDS, everyMs: 20, giveUp };
  if (await waitUntil(() => existsSync(done), limits)) return;
  throw new MentoError({
    code: "facility-beamtime",
    message: `The last files of the ${describeSession(session)} were not copied to the core file system.`,
    hint: `Run: mento facility up --dir ${state.dir}, and then this command again.`,
  });
}

function notOpen(dir: string, name: string, beamline: string): MentoError {
  const sessions = readSessions(dir);
  const known = sessions.map(
    (one) => `the ${isPreStarted(one) ? "pre-started" : "open"} ${describeSession(one)}`,
  );
  return new MentoError({
    code: "facility-beamtime",
    message: `There is no ${name} to stop at ${beamline}.`,
    hint: known.length === 0 ? "Nothing is open." : `There is ${known.join(", ")}.`,
  });
}
