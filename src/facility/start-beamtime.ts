import { chmodSync, chownSync, copyFileSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { errorText, MentoError } from "../errors.ts";
import { makeAccount, removeAccount } from "./accounts.ts";
import { requireGoodNames } from "./beamtime-names.ts";
import { runningFacility } from "./facility.ts";
import { withLock } from "./lock.ts";
import { metadataFileName, metadataText, PRIVATE_KEY_PATH, PUBLIC_KEY_PATH } from "./metadata-file.ts";
import type { Say } from "./packages.ts";
import { runChecked } from "./processes.ts";
import { createReservation, deleteReservation } from "./reservations.ts";
import { PARTITION } from "./slurm.ts";
import {
  type Account,
  makeDirectory,
  type OpenBeamtime,
  placesOf,
  readBeamtimes,
  removeBeamtime,
  writeBeamtime,
  writeFileAtomically,
} from "./state.ts";

const RESERVED_NODES = 2;
const RESERVED_HOURS = 8;

export interface BeamtimeRequest {
  beamtimeId: string;
  beamline: string;
  online: boolean;
}

export interface StartedBeamtime {
  beamtimeId: string;
  beamline: string;
  /** These five are null for a beamtime without online resources. */
  account: string | null;
  reservation: string | null;
  partition: string | null;
  nodes: string[] | null;
  privateKey: string | null;
  corePath: string;
  beamlinePath: string;
  metadataFile: string;
}

/** Opens a beamtime as the real `startBeamtime` does. What it has done when it fails, it undoes. */
export async function startBeamtime(
  directory: string,
  request: BeamtimeRequest,
  say: Say,
): Promise<StartedBeamtime> {
  requireGoodNames(request.beamtimeId, request.beamline);
  const { dir } = runningFacility(directory);
  return withLock(dir, async () => {
    requireNoneOpen(dir, request.beamline);
    const undo: (() => void | Promise<void>)[] = [];
    try {
      return await start(dir, request, say, undo);
    } catch (error) {
      for (const step of undo.reverse()) await step();
      if (error instanceof MentoError) throw error;
      throw new MentoError({
        code: "facility-beamtime",
        message: `Beamtime ${request.beamtimeId} could not be started: ${errorText(error)}`,
        hint: `Look into the log files in ${placesOf(dir).log}.`,
        cause: error,
      });
    }
  });
}

async function start(
  dir: string,
  { beamtimeId, beamline, online }: BeamtimeRequest,
  say: Say,
  undo: (() => void | Promise<void>)[],
): Promise<StartedBeamtime> {
  const now = new Date();
  const end = new Date(now.getTime() + RESERVED_HOURS * 3_600_000);

  say("[Beamline File System]");
  const beamlinePath = makeBeamlineDirectories(dir, `${beamline}-${beamtimeId}-${now.getTime()}`);
  undo.push(() => rmSync(beamlinePath, { recursive: true, force: true }));
  say(`Created ${beamlinePath}`);

  say("[Core File System]");
  const account = online ? await makeAccount(dir, beamtimeId) : null;
  if (account?.own === true) undo.push(() => removeAccount(dir, account.name));
  const corePath = join(
    placesOf(dir).core,
    "petra3/gpfs",
    beamline,
    String(now.getFullYear()),
    "data",
    beamtimeId,
  );
  makeCoreDirectories(corePath, account);
  say(`Created ${corePath}`);

  let nodes: string[] | null = null;
  if (account !== null) {
    say("[Maxwell Online Analysis Resources]");
    await makeKeys(dir, beamlinePath, corePath, account);
    undo.push(() => rmSync(authorizedKeysOf(dir, account), { force: true }));
    say(`Created SSH keys for ${account.name}`);
    // On record before it exists: Slurm may have made it although the answer was lost.
    undo.push(() => deleteReservation(dir, beamtimeId));
    nodes = await createReservation(dir, {
      name: beamtimeId,
      account: account.name,
      hours: RESERVED_HOURS,
      nodeCount: RESERVED_NODES,
    });
    say(`Created reservation ${beamtimeId} of ${nodes.join(", ")}`);
  }

  say("[Beamtime]");
  const beamtime: OpenBeamtime = {
    beamtimeId,
    beamline,
    beamlinePath,
    corePath,
    account,
    reservation: account === null ? null : beamtimeId,
    closing: false,
  };
  undo.push(() => removeBeamtime(dir, beamline));
  writeBeamtime(dir, beamtime);
  for (const link of currentLinks(dir, beamline)) {
    makeDirectory(dirname(link));
    undo.push(() => rmSync(link, { force: true }));
    symlinkSync(beamlinePath, link);
  }

  // Last, since whoever sees it may use everything else.
  const metadata = metadataText({
    ...{ beamtimeId, beamline, corePath, generated: new Date(), eventStart: now, eventEnd: end },
    ...(account !== null && {
      onlineAnalysis: {
        reservedNodes: nodes ?? [],
        slurmPartition: PARTITION,
        slurmReservation: beamtimeId,
        userAccount: account.name,
      },
    }),
  });
  const name = metadataFileName(beamtimeId);
  undo.push(() => rmSync(join(corePath, name), { force: true }));
  writeFileAtomically(join(corePath, name), metadata, 0o644);
  writeFileAtomically(join(beamlinePath, name), metadata, 0o644);
  say("Beamtime has been started.");
  return {
    beamtimeId,
    beamline,
    account: account?.name ?? null,
    reservation: beamtime.reservation,
    partition: account === null ? null : PARTITION,
    nodes,
    corePath,
    beamlinePath,
    metadataFile: join(beamlinePath, name),
    privateKey: account === null ? null : join(beamlinePath, PRIVATE_KEY_PATH),
  };
}

/** Where beamline computers and reserved nodes see the open beamtime. */
export function currentLinks(dir: string, beamline: string): string[] {
  const { gpfs, beamline: mounts } = placesOf(dir);
  return [join(gpfs, "current"), join(mounts, beamline, "current")];
}

export function authorizedKeysOf(dir: string, account: Account): string {
  return join(placesOf(dir).authorizedKeys, account.name);
}

/** Only one beamtime has the link `gpfs/current`, as on a real beamline's computers. */
function requireNoneOpen(dir: string, beamline: string): void {
  const [open] = readBeamtimes(dir);
  if (open === undefined) return;
  const same = open.beamline === beamline;
  throw new MentoError({
    code: "facility-beamtime",
    message: `Beamtime ${open.beamtimeId} is open at ${open.beamline}${same ? "" : ", and a facility is one beamline's at a time"}.`,
    hint: `Stop it first: mento facility stop-beamtime --dir ${dir} --beamtimeId ${open.beamtimeId} --beamline ${open.beamline}`,
  });
}

/** Everybody may write there: the detector, the control system and the users have different accounts. */
function makeBeamlineDirectories(dir: string, name: string): string {
  const root = join(placesOf(dir).gpfs, ".beamtimes", name);
  makeDirectory(root);
  for (const top of ["raw", "processed", "shared", "scratch_bl"]) makeWithMode(join(root, top), 0o777);
  return root;
}

function makeCoreDirectories(corePath: string, account: Account | null): void {
  makeDirectory(corePath);
  const modes = { raw: 0o755, shared: 0o755, processed: 0o777, scratch_cc: 0o777 };
  for (const [name, mode] of Object.entries(modes)) {
    const path = join(corePath, name);
    makeWithMode(path, mode);
    if (account?.own === true) chownSync(path, account.uid, account.gid);
  }
}

/** The umask has no say in it. */
function makeWithMode(path: string, mode: number): void {
  mkdirSync(path, { recursive: true });
  chmodSync(path, mode);
}

/** A key pair on both file systems that only the present user can read, and a login for it. */
async function makeKeys(
  dir: string,
  beamlinePath: string,
  corePath: string,
  account: Account,
): Promise<void> {
  const privateKey = join(beamlinePath, PRIVATE_KEY_PATH);
  const comment = `${account.name}@mento-facility`;
  await runChecked("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", privateKey]);
  for (const path of [PRIVATE_KEY_PATH, PUBLIC_KEY_PATH]) {
    const target = join(corePath, path);
    // A beamtime that was open before has left its key, which the owner of the directory may have replaced by a link.
    rmSync(target, { force: true });
    copyFileSync(join(beamlinePath, path), target);
    chmodSync(target, path === PRIVATE_KEY_PATH ? 0o600 : 0o644);
  }
  copyFileSync(join(beamlinePath, PUBLIC_KEY_PATH), authorizedKeysOf(dir, account));
  chmodSync(authorizedKeysOf(dir, account), 0o644);
}
