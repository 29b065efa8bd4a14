import { MentoError } from "../errors.ts";
import { isRunning } from "./processes.ts";
import { type OpenSession, readSessions } from "./state.ts";

/** `beamtime 11010000 at p11` */
export function describeSession({ kind, id, beamline }: OpenSession): string {
  return `${kind === "beamtime" ? "beamtime" : "commissioning run"} ${id} at ${beamline}`;
}

export function isPreStarted({ beamlinePath }: OpenSession): boolean {
  return beamlinePath === null;
}

/** How far it is, as it stands before its name. */
export function stageOf(session: OpenSession): "pre-started" | "open" | "closing" {
  if (session.closing) return "closing";
  return isPreStarted(session) ? "pre-started" : "open";
}

/** Its last files are still being copied, or were when its stop was ended. */
export function stillClosing(dir: string, session: OpenSession): MentoError {
  const what = describeSession(session);
  const { closedBy } = session;
  const isWaitedFor = isRunning(closedBy);
  return new MentoError({
    code: "facility-beamtime",
    message: isWaitedFor
      ? `The ${what} is being stopped by process ${closedBy.pid}, which waits until its last files are copied.`
      : `The ${what} was stopped, but not to the end: its last files are not copied yet.`,
    hint: isWaitedFor ? "Wait for it to end." : `Run: ${stopCommand(dir, session)}`,
  });
}

/** The command that ends it. */
export function stopCommand(dir: string, { kind, id, beamline }: OpenSession): string {
  const which = kind === "beamtime" ? `--beamtimeId ${id} --beamline ${beamline}` : `--beamline ${beamline}`;
  return `mento facility stop-${kind} --dir ${dir} ${which}`;
}

/**
 * A facility is one beamline's at a time, as a beamline's computers are: the links `gpfs/current` and
 * `gpfs/commissioning` can each be there once. What is only pre-started, or has no links any more, is not in the way.
 */
export function requireRoom(dir: string, kind: OpenSession["kind"], beamline: string): void {
  const open = readSessions(dir).filter((session) => stageOf(session) === "open");
  const inTheWay =
    open.find((session) => session.kind === kind) ?? open.find((session) => session.beamline !== beamline);
  if (inTheWay === undefined) return;
  const elsewhere = inTheWay.beamline === beamline ? "" : ", and a facility is one beamline's at a time";
  throw new MentoError({
    code: "facility-beamtime",
    message: `There is an open ${describeSession(inTheWay)}${elsewhere}.`,
    hint: `Stop it first: ${stopCommand(dir, inTheWay)}`,
  });
}
