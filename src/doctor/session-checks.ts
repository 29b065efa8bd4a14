import type { PrivateKey } from "../beamtime/private-key.ts";
import { requireOnline, type OnlineSession, type Session } from "../beamtime/session.ts";
import type { MentoConfig } from "../config/config.ts";
import { jobsDirectory } from "../jobs/site-folders.ts";
import { MentoError } from "../errors.ts";
import { reservationsNow, type ReservationNow } from "../beamtime/reservation.ts";
import type { SessionShells } from "../submission/session-shells.ts";
import type { SshShell } from "../shells/ssh.ts";
import type { Checklist, Done, Finding } from "./checklist.ts";
import { checkClock, checkHostKeys, checkLogins, tryNodes, type NodeAnswer } from "./node-checks.ts";
import { checkCopyToCore, checkJobsDirectory, checkWriteBack } from "./path-checks.ts";
import { checkReservation, checkSlurm, type NodeWithSlurm } from "./slurm-checks.ts";

interface Parts {
  site: MentoConfig["site"];
  shells: SessionShells;
  copyTimeoutSeconds: number;
  stop: AbortSignal;
}

/** All that a job of this session meets on its way, in the order in which it meets it. */
export async function checkSession(list: Checklist, found: Done<Session>, parts: Parts): Promise<void> {
  const nodes: SshShell[] = [];
  try {
    await checkWith(nodes, list, found, parts);
  } finally {
    for (const node of nodes) node.close();
  }
}

/** @param nodes gets the shells that are to be closed */
async function checkWith(nodes: SshShell[], list: Checklist, found: Done<Session>, parts: Parts) {
  const { site, shells, copyTimeoutSeconds, stop } = parts;
  const of = (check: string) => ({ check, session: "value" in found ? found.value.id : null });

  const session = "value" in found ? await list.check(of("metadata"), found, describeSession) : found;
  const key = await list.check(of("private key"), session, async (online) =>
    describeKey(online, await shells.readKey(online)),
  );
  let answers: NodeAnswer[] = [];
  await list.check(of("host key"), key, async ({ online, key }) => {
    nodes.push(...shells.shellsOn(shells.targets(online, key), online.id));
    answers = await tryNodes(nodes);
    return checkHostKeys(answers);
  });
  const login = await list.check(of("SSH login"), key, () => checkLogins(answers));
  const slurm = await list.check(of("Slurm"), login, checkSlurm);
  for (const one of reservationsOf(session, slurm)) {
    const name = one.name === null ? "reservation" : `reservation ${one.name}`;
    await list.check(of(name), slurm, ({ now, shell }) => checkReservation(one, now, shell));
  }
  const place = both(session, login);
  await list.check(of("copy to core"), place, ([online, shell]) =>
    checkCopyToCore(online, shell, copyTimeoutSeconds, stop),
  );
  await list.check(of("write to beamline"), place, ([online, shell]) =>
    checkWriteBack(online, shell, copyTimeoutSeconds, stop),
  );
  await list.check(of("jobs directory"), place, ([online, shell]) =>
    checkJobsDirectory(jobsDirectory(site, online.roots.core), shell),
  );
  await list.check(of("clock"), place, ([online, shell]) =>
    checkClock(shell, jobsDirectory(site, online.roots.core)),
  );
}

function both<A, B>(one: Done<A>, other: Done<B>): Done<[A, B]> {
  if ("blocker" in one) return one;
  return "blocker" in other ? other : { value: [one.value, other.value] };
}

function describeSession(session: Session): Finding<OnlineSession> {
  const { kind, id, beamline, metadataFile, isOpen } = session;
  try {
    const online = requireOnline(session);
    const what = `${kind === "beamtime" ? "beamtime" : "commissioning run"} ${id} at ${beamline}`;
    const where = metadataFile ?? "the configuration (site.sessions)";
    if (isOpen) return { state: "ok", message: `${what} is open: ${where}`, value: online };
    const hint = "It has not been started yet, or has ended; only its data on core can be analysed.";
    return {
      state: "warning",
      message: `${what} is not open at the beamline: ${where}`,
      hint,
      value: online,
    };
  } catch (error) {
    if (!(error instanceof MentoError)) throw error;
    const { code, message } = error;
    const hint = "No job can run for it: its messages wait, a day at most. Have it started with --online.";
    return { state: "failed", message, hint, code };
  }
}

function describeKey(
  online: OnlineSession,
  key: PrivateKey,
): Finding<{ online: OnlineSession; key: PrivateKey }> {
  return { state: "ok", message: `${key.source} (${key.type})`, value: { online, key } };
}

/** Those of the metadata file, if Slurm could not be asked. */
function reservationsOf(session: Done<OnlineSession>, slurm: Done<NodeWithSlurm>): ReservationNow[] {
  if ("blocker" in session) return [{ name: null, partition: "", nodes: [], slurm: undefined }];
  if ("value" in slurm) return reservationsNow(session.value.online, slurm.value.now);
  return session.value.online.reservations.map((one) => ({ ...one, slurm: undefined }));
}
