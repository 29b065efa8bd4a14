import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { metadataFileName, PRIVATE_KEY_PATH } from "../../src/facility/metadata-file.ts";
import type { OpenSession } from "../../src/facility/state.ts";
import { mento } from "./mento.ts";

/** What `mento facility up --json` and `start-beamtime --json` print, as far as tests use it. */
export interface TestFacility {
  dir: string;
  broker: { url: string; managementUrl: string; user: string; password: string; nodeName: string };
  slurm: { conf: string; restUrl: string; partition: string; nodes: { name: string }[] };
  ssh: { address: string; port: number; knownHosts: string; hostKeyFingerprint: string };
  roots: { gpfs: string; beamline: string; core: string };
}

export interface TestBeamtime {
  beamtimeId: string;
  beamline: string;
  account: string;
  reservation: string;
  partition: string;
  nodes: string[];
  corePath: string;
  metadataFile: string;
  privateKey: string;
}

interface SharedFacility {
  facility: TestFacility;
  beamtime: TestBeamtime;
  /** Ends what it has started. */
  close: () => Promise<void>;
}

const BEAMTIME = ["--beamtimeId", "11010000", "--beamline", "p11"];
const NODES = 2;

/** The facility with an open beamtime that tests share: one of their own, or the one in MENTO_TEST_FACILITY. */
export async function openSharedFacility(): Promise<SharedFacility> {
  const given = process.env["MENTO_TEST_FACILITY"];
  const dir = given ?? mkdtempSync(join(tmpdir(), "mento-test-"));
  // The beamtime's account must be able to go through it.
  if (given === undefined) chmodSync(dir, 0o755);
  else await mento("facility", "status", "--dir", dir);
  const down = async () => {
    await mento("facility", "down", "--dir", dir);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    const up = await mento("facility", "up", "--dir", dir, "--json");
    const facility = JSON.parse(up.stdout) as TestFacility;
    facility.broker = givenBroker() ?? facility.broker;
    const open = await openBeamtime(dir);
    if (open !== undefined) return { facility, beamtime: open, close: () => Promise.resolve() };
    const dedicated = ["--online", "--resources", "dedicated", "--nodes", String(NODES)];
    const started = await mento(
      "facility",
      "start-beamtime",
      "--dir",
      dir,
      ...BEAMTIME,
      ...dedicated,
      "--json",
    );
    const stop = async () => {
      await mento("facility", "stop-beamtime", "--dir", dir, ...BEAMTIME);
    };
    return {
      facility,
      beamtime: JSON.parse(started.stdout) as TestBeamtime,
      close: given === undefined ? down : stop,
    };
  } catch (error) {
    if (given === undefined) await down();
    throw error;
  }
}

/** The tests' beamtime, if it is open there already as they open it. */
async function openBeamtime(dir: string): Promise<TestBeamtime | undefined> {
  const { stdout } = await mento("facility", "status", "--dir", dir, "--json");
  const { sessions } = JSON.parse(stdout) as { sessions: OpenSession[] };
  const session = sessions.find(({ id }) => BEAMTIME.includes(id));
  const [reservation, ...others] = session?.reservations ?? [];
  if (session?.account == null || session.beamlinePath === null) return undefined;
  if (reservation?.nodes.length !== NODES || others.length > 0) return undefined;
  const { id, beamline, account, corePath, beamlinePath } = session;
  return {
    ...{ beamtimeId: id, beamline, account: account.name, corePath },
    ...{ reservation: reservation.name, partition: reservation.partition, nodes: reservation.nodes },
    metadataFile: join(beamlinePath, metadataFileName(session)),
    privateKey: join(beamlinePath, PRIVATE_KEY_PATH),
  };
}

/** The broker in MENTO_TEST_BROKER, whose user is an administrator. */
function givenBroker(): TestFacility["broker"] | undefined {
  const url = process.env["MENTO_TEST_BROKER"];
  const managementUrl = process.env["MENTO_TEST_BROKER_MANAGEMENT"];
  if (url === undefined) return undefined;
  if (managementUrl === undefined) throw new Error("MENTO_TEST_BROKER needs MENTO_TEST_BROKER_MANAGEMENT");
  const { username, password } = new URL(url);
  const [user, secret] = [decodeURIComponent(username), decodeURIComponent(password)];
  return { url, managementUrl: managementUrl.replace(/\/$/, ""), user, password: secret, nodeName: "" };
}
