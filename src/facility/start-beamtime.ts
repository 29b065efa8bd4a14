import { MentoError } from "../errors.ts";
import { runningFacility } from "./facility.ts";
import { withLock } from "./lock.ts";
import { describeSession, isPreStarted, requireRoom, stillClosing, stopCommand } from "./open-sessions.ts";
import type { Say } from "./packages.ts";
import { corePathOf, goodBeamline, requireGoodId } from "./session-names.ts";
import { readStartOptions, requireSensible, type StartOptions, type TypedOptions } from "./start-options.ts";
import { type StartedSession, startSession } from "./start-session.ts";
import { type OpenSession, readSessions } from "./state.ts";

/** Opens or pre-starts a beamtime as the real `startBeamtime` does. */
export async function startBeamtime(
  directory: string,
  { beamtimeId, ...given }: { beamtimeId: string; beamline: string },
  typed: TypedOptions,
  say: Say,
): Promise<StartedSession> {
  requireGoodId(beamtimeId);
  const beamline = goodBeamline(given.beamline);
  const options = readStartOptions(typed);
  const { dir } = runningFacility(directory);
  return withLock(dir, async () => {
    const preStarted = findPreStarted(dir, beamtimeId, beamline, options);
    requireSensible(options, preStarted);
    if (!options.preStart) requireRoom(dir, "beamtime", beamline);
    const request = {
      ...{ kind: "beamtime" as const, id: beamtimeId, beamline, tag: null },
      proposalType: options.proposalType ?? preStarted?.proposalType ?? "H",
      asapo: options.asapo || preStarted?.asapo === true,
      archive: options.archive || preStarted?.archive === true,
      asked: options.asked,
      corePath: preStarted?.corePath ?? corePathOf(dir, "data", beamline, beamtimeId, new Date()),
      preStart: options.preStart,
      online: options.online || options.preStart || preStarted !== undefined,
      seconds: options.seconds,
    };
    return startSession(dir, request, preStarted, say);
  });
}

/** The beamtime's pre-start; throws if the id is in use in any other way. */
function findPreStarted(
  dir: string,
  beamtimeId: string,
  beamline: string,
  { preStart }: StartOptions,
): OpenSession | undefined {
  const known = readSessions(dir).find(({ id }) => id === beamtimeId);
  if (known === undefined) return undefined;
  if (known.closing) throw stillClosing(dir, known);
  const what = describeSession(known);
  if (!isPreStarted(known)) {
    throw refused(`There is an open ${what}.`, `Stop it first: ${stopCommand(dir, known)}`);
  }
  if (known.beamline !== beamline) {
    throw refused(`There is a pre-started ${what}.`, `Start it with --beamline ${known.beamline}.`);
  }
  if (preStart) {
    throw refused(
      `There is a pre-started ${what} already.`,
      `Start it without --pre-start, or end it: ${stopCommand(dir, known)}`,
    );
  }
  return known;
}

function refused(message: string, hint: string): MentoError {
  return new MentoError({ code: "facility-beamtime", message, hint });
}
