import { runningFacility } from "./facility.ts";
import { withLock } from "./lock.ts";
import { requireRoom } from "./open-sessions.ts";
import type { Say } from "./packages.ts";
import { corePathOf, nextCommissioningId, goodBeamline, requireGoodTag } from "./session-names.ts";
import { readStartOptions, requireSensible, type TypedOptions } from "./start-options.ts";
import { type StartedSession, startSession } from "./start-session.ts";

/** Opens a commissioning run as the real `startCommissioning` does. */
export async function startCommissioning(
  directory: string,
  { tag, ...given }: { tag: string; beamline: string },
  typed: TypedOptions,
  say: Say,
): Promise<StartedSession> {
  requireGoodTag(tag);
  const beamline = goodBeamline(given.beamline);
  const options = readStartOptions(typed);
  requireSensible(options, undefined);
  const { dir } = runningFacility(directory);
  return withLock(dir, async () => {
    requireRoom(dir, "commissioning", beamline);
    const now = new Date();
    const id = nextCommissioningId(dir, tag, now);
    const request = {
      ...{ kind: "commissioning" as const, id, beamline, tag },
      ...{ proposalType: "H", asapo: options.asapo, archive: false, asked: options.asked },
      corePath: corePathOf(dir, "commissioning", beamline, id, now),
      ...{ preStart: false, online: options.online, seconds: options.seconds },
    };
    return startSession(dir, request, undefined, say);
  });
}
