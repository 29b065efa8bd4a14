import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { errorText, MentoError } from "../errors.ts";
import { runningFacility } from "./facility.ts";
import { isLocked, withLock } from "./lock.ts";
import { describeSession, isPreStarted, stageOf, stillClosing } from "./open-sessions.ts";
import type { Say } from "./packages.ts";
import { identify, isRunning, waitUntil } from "./processes.ts";
import { cancelJobs } from "./queue.ts";
import { deleteReservation } from "./reservations.ts";
import { unlinkSession } from "./session-directories.ts";
import { goodBeamline, requireGoodId, requireGoodTag } from "./session-names.ts";
import { forbidLogin, removeSecrets } from "./session-secrets.ts";
import { isMirrorRunning } from "./start-mirror.ts";
import { sessionName } from "./start-session.ts";
import { type OpenSession, placesOf, readSessions, removeSession, writeSession } from "./state.ts";

/** The last files of a long beamtime take their time. */
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

/**
 * Every step can be repeated: a stop that failed is finished by the next. The last files, which may take an hour, are
 * waited for without the lock, so that other sessions can be started and stopped meanwhile.
 */
async function stopSession(
  directory: string,
  name: string,
  beamline: string,
  isMeant: (session: OpenSession) => boolean,
  say: Say,
): Promise<void> {
  const { dir } = runningFacility(directory);
  const session = await withLock(dir, () => close(dir, name, beamline, isMeant, say));
  say("[Core File System]");
  if (session.beamlinePath !== null) await copyTheLast(dir, session, session.beamlinePath);
  await withLock(dir, () => {
    removeSession(dir, session.id);
    removeSecrets(dir, session.id);
  });
  say(`${sessionName(session)} has been stopped.`);
}

/** Does all but to wait for the last files. */
async function close(
  dir: string,
  name: string,
  beamline: string,
  isMeant: (session: OpenSession) => boolean,
  say: Say,
): Promise<OpenSession> {
  const meant = readSessions(dir).filter((each) => each.beamline === beamline && isMeant(each));
  const session = meant.find(({ closing }) => !closing) ?? meant[0];
  if (session === undefined) throw notOpen(dir, name, beamline);
  if (session.closing && isRunning(session.closedBy)) throw stillClosing(dir, session);

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
  const closedBy = identify(process.pid);
  const closed = { ...session, closing: true, ...(closedBy && { closedBy }) };
  writeSession(dir, closed);
  return closed;
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

async function copyTheLast(dir: string, session: OpenSession, beamlinePath: string): Promise<void> {
  const { mirror, log } = placesOf(dir);
  const done = join(mirror, `${basename(beamlinePath)}.done`);
  // A command that has the lock may be about to start it again.
  const giveUp = () => !isLocked(dir) && !isMirrorRunning(dir);
  const limits = { seconds: LAST_COPY_SECONDS, everyMs: 20, giveUp };
  if (await waitUntil(() => existsSync(done), limits)) return;
  throw new MentoError({
    code: "facility-beamtime",
    message: `The last files of the ${describeSession(session)} were not copied to the core file system.`,
    hint: `${join(log, "mirror.log")} may say why. Run: mento facility up --dir ${dir}, and then this command again.`,
  });
}

function notOpen(dir: string, name: string, beamline: string): MentoError {
  const sessions = readSessions(dir);
  const known = sessions.map((one) => `the ${stageOf(one)} ${describeSession(one)}`);
  return new MentoError({
    code: "facility-beamtime",
    message: `There is no ${name} to stop at ${beamline}.`,
    hint: known.length === 0 ? "Nothing is open." : `There is ${known.join(", ")}.`,
  });
}
