import { Sessions, type Session } from "../beamtime/session.ts";
import { libraryConfig, type SiteOptions } from "./library-config.ts";

export interface SessionOptions extends SiteOptions {
  /** A beamtime's or commissioning run's id. Default: the session that is open at the beamline. */
  beamtimeId?: string;
}

/**
 * What the facility says of a session: by its id, else the one that `path` lies in, else the one that is open at the
 * beamline. Read from its metadata file at each call: a start after a pre-start changes reservations and nodes.
 *
 * @throws Rejected `unknown-beamtime`, `session-unclear`
 * @throws Deferred `no-session-open`, `metadata-unreadable`
 * @throws Misconfigured `wrong-configuration`, `configuration-unreadable`
 */
export async function findSession(options: SessionOptions & { path?: string } = {}): Promise<Session> {
  const { beamtimeId, path } = options;
  const { site } = libraryConfig(options);
  return new Sessions(site, () => undefined).find(beamtimeId, path === undefined ? [] : [path]);
}
