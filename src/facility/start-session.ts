import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { errorText, MentoError } from "../errors.ts";
import { makeAccount, removeAccount } from "./accounts.ts";
import { metadataFileName, metadataText, PRIVATE_KEY_PATH } from "./metadata-file.ts";
import { chooseNodes, nodeGroups } from "./node-groups.ts";
import { PARTITION, SHARED_NODE } from "./nodes.ts";
import type { Say } from "./packages.ts";
import {
  createReservation,
  deleteReservation,
  type Ended,
  endReservation,
  freeNodes,
  listReservations,
} from "./reservations.ts";
import {
  linkSession,
  makeBeamlineDirectories,
  makeCoreDirectories,
  openBeamlineDirectories,
} from "./session-directories.ts";
import { allowLogin, forbidLogin, makeSecrets, placeSecrets, removeSecrets } from "./session-secrets.ts";
import {
  type OpenSession,
  placesOf,
  readState,
  readText,
  removeSession,
  type Reservation,
  writeFileAtomically,
  writeSession,
} from "./state.ts";
import { takeBack, type Undo } from "./undo.ts";

/** What a start is to make, all rules checked. */
export interface SessionRequest extends Pick<
  OpenSession,
  "kind" | "id" | "beamline" | "tag" | "proposalType" | "asapo" | "archive" | "asked" | "corePath"
> {
  /** True: on the core file system only, with a reservation on the shared node. */
  preStart: boolean;
  /** With a reservation, an account and a key. */
  online: boolean;
  /** How long the reservations last. */
  seconds: number;
}

/** What `start-beamtime --json` and `start-commissioning --json` print. */
export interface StartedSession {
  kind: "beamtime" | "commissioning";
  id: string;
  /** The id again, a commissioning run's too. */
  beamtimeId: string;
  beamline: string;
  /** These five are null for a session without online resources; reservation and partition are the first's. */
  account: string | null;
  reservation: string | null;
  partition: string | null;
  nodes: string[] | null;
  privateKey: string | null;
  reservations: Reservation[];
  corePath: string;
  /** null after a pre-start; then the key and the metadata file are those on the core file system. */
  beamlinePath: string | null;
  metadataFile: string;
}

/** Opens a session, or pre-starts it, or starts what was pre-started. What it has done when it fails, it undoes. */
export async function startSession(
  dir: string,
  request: SessionRequest,
  preStarted: OpenSession | undefined,
  say: Say,
): Promise<StartedSession> {
  const undo: Undo = [];
  try {
    return await start(dir, request, preStarted, say, undo);
  } catch (error) {
    await takeBack(undo, say);
    if (error instanceof MentoError) throw error;
    throw new MentoError({
      code: "facility-beamtime",
      message: `${sessionName(request)} ${request.id} could not be started: ${errorText(error)}`,
      hint: `Look into the log files in ${placesOf(dir).log}.`,
      cause: error,
    });
  }
}

async function start(
  dir: string,
  request: SessionRequest,
  preStarted: OpenSession | undefined,
  say: Say,
  undo: Undo,
): Promise<StartedSession> {
  const { preStart, online, seconds, ...wanted } = request;
  const { id, beamline, corePath } = request;
  const eventStart = new Date();
  const reservations = online ? await planReservations(dir, request) : [];

  let beamlinePath: string | null = null;
  if (!preStart) {
    say("[Beamline File System]");
    beamlinePath = makeBeamlineDirectories(dir, `${beamline}-${id}-${eventStart.getTime()}`, undo);
    say(`Created ${beamlinePath}`);
  }

  say("[Core File System]");
  const account = online ? (preStarted?.account ?? (await makeAccount(dir, id))) : null;
  if (account?.own === true && preStarted === undefined) undo.push(() => removeAccount(dir, account.name));
  makeCoreDirectories(corePath, account, undo);
  say(`Created ${corePath}`);
  const opened = { beamlinePath, account, reservations };
  const session: OpenSession = { ...wanted, ...opened, leftReservations: [], closing: false };
  const roots = beamlinePath === null ? [corePath] : [corePath, beamlinePath];
  if (preStarted === undefined) {
    removeSecrets(dir, id);
    undo.push(() => removeSecrets(dir, id));
    undo.push(() => forbidLogin(dir, session));
  }
  await makeSecrets(dir, session);
  const workerUid = readState(dir)?.serving?.workerUid ?? undefined;
  for (const root of roots) placeSecrets(dir, session, root, workerUid);
  if (beamlinePath !== null) openBeamlineDirectories(beamlinePath);
  if (account !== null) {
    say("[Maxwell Online Analysis Resources]");
    allowLogin(dir, session);
    for (const root of roots) say(`The SSH key of ${account.name} is ${join(root, PRIVATE_KEY_PATH)}`);
    await reserve(dir, reservations, { account: account.name, seconds }, say, undo);
  }

  say(`[${sessionName(request)}]`);
  undo.push(() => (preStarted === undefined ? removeSession(dir, id) : writeSession(dir, preStarted)));
  writeSession(dir, session);
  linkSession(dir, session, undo);

  // Last, since whoever sees it may use everything else.
  const eventEnd = new Date(Date.now() + seconds * 1000);
  const text = metadataText({ session, eventStart, eventEnd, generated: new Date() });
  const files = roots.map((root) => join(root, metadataFileName(session)));
  undo.push(restore(join(corePath, metadataFileName(session))));
  for (const file of files) writeFileAtomically(file, text, 0o644);
  if (preStarted !== undefined) await leavePreStart(dir, session, preStarted, say);
  say(`Core path: ${corePath}`);
  say(`${sessionName(request)} has been ${preStart ? "pre-started" : "started"}.`);
  return describe(session, roots.at(-1) ?? corePath);
}

/**
 * The reservations to make, with real nodes: before anything is made, since this is what most often cannot be had.
 * `<id>`, `<id>_1`, `<id>_2` … as at DESY; nothing public says how a pre-start's is named.
 */
async function planReservations(dir: string, request: SessionRequest): Promise<Reservation[]> {
  const { id, beamline, preStart } = request;
  const groups = nodeGroups(request.asked);
  const where = { resources: request.asked.resources, beamline };
  const isFree = preStart ? () => true : await freeNodes(dir);
  const chosen = chooseNodes(groups, where, isFree);
  const planned = preStart
    ? [{ name: `${id}_pre`, partition: PARTITION, nodes: [SHARED_NODE] }]
    : chosen.map((nodes, place) => ({
        name: place === 0 ? id : `${id}_${place}`,
        partition: nodes[0]?.partition ?? PARTITION,
        nodes: nodes.map(({ name }) => name),
      }));
  const present = new Set((await listReservations(dir)).map(({ name }) => name));
  const taken = planned.find(({ name }) => present.has(name));
  if (taken === undefined) return planned;
  throw new MentoError({
    code: "facility-beamtime",
    message: `Slurm has a reservation ${taken.name} already.`,
    hint: `If nothing needs it: SLURM_CONF=${placesOf(dir).slurmConf} scontrol delete ReservationName=${taken.name}`,
  });
}

async function reserve(
  dir: string,
  reservations: readonly Reservation[],
  forWhom: { account: string; seconds: number },
  say: Say,
  undo: Undo,
): Promise<void> {
  for (const reservation of reservations) {
    // On record before it exists: Slurm may have made it although the answer was lost.
    undo.push(() => deleteReservation(dir, reservation.name));
    await createReservation(dir, reservation, forWhom);
    say(`Created reservation ${reservation.name} of ${reservation.nodes.join(", ")}`);
  }
}

/** The pre-start's reservation goes, now that the metadata file names the new ones. */
async function leavePreStart(
  dir: string,
  session: OpenSession,
  before: OpenSession,
  say: Say,
): Promise<void> {
  for (const { name } of before.reservations) {
    const ended = await endReservation(dir, name);
    if (ended !== "deleted") session.leftReservations.push(name);
    say(WHAT_BECAME[ended](name));
  }
  writeSession(dir, session);
}

const WHAT_BECAME: Record<Ended, (name: string) => string> = {
  deleted: (name) => `Deleted reservation ${name}.`,
  ending: (name) => `Reservation ${name} ends within half a minute, and the jobs that wait for it are held.`,
  "in use": (name) => `Reservation ${name} stays until the beamtime is stopped, since jobs run in it.`,
};

/** Gives the file its present text again, or removes it if there is none: a pre-start's may be there. */
function restore(file: string): () => void {
  if (!existsSync(file)) return () => rmSync(file, { force: true });
  const before = readText(file);
  return () => writeFileAtomically(file, before, 0o644);
}

function describe(session: OpenSession, root: string): StartedSession {
  const { kind, id, beamline, account, reservations, corePath, beamlinePath } = session;
  const [first] = reservations;
  return {
    ...{ kind, id, beamtimeId: id, beamline },
    account: account?.name ?? null,
    reservation: first?.name ?? null,
    partition: first?.partition ?? null,
    nodes: first === undefined ? null : reservations.flatMap(({ nodes }) => nodes),
    reservations,
    privateKey: account === null ? null : join(root, PRIVATE_KEY_PATH),
    ...{ corePath, beamlinePath, metadataFile: join(root, metadataFileName(session)) },
  };
}

/** As it begins the tool's sentences. */
export function sessionName({ kind }: Pick<OpenSession, "kind">): string {
  return kind === "beamtime" ? "Beamtime" : "Commissioning";
}
