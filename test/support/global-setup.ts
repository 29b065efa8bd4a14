import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { errorText } from "../../src/errors.ts";
import { findProgram, installPackages } from "../../src/facility/packages.ts";
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

declare module "vitest" {
  interface ProvidedContext {
    facility: TestFacility;
    beamtime: TestBeamtime;
    /** The program of a browser without a window; null where there is none to install. */
    browser: string | null;
  }
}

const BROWSER = "chromium-headless-shell";

/** One facility with one open beamtime, for all integration tests. */
export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const say = (step: string) => console.error(`test facility: ${step}`);
  await installPackages(["python3-pika", "python3-h5py", "python3-pyfai", "python3-matplotlib"], say);
  // Debian has it, Ubuntu has not.
  await installPackages([BROWSER], say).catch((error: unknown) => {
    if (/^ID=debian$/m.test(readFileSync("/etc/os-release", "utf8"))) throw error;
    say(`without a browser, its tests are left out: ${errorText(error)}`);
  });
  project.provide("browser", findProgram(BROWSER) ?? null);
  const dir = mkdtempSync(join(tmpdir(), "mento-test-"));
  // The beamtime's account must be able to go through it.
  chmodSync(dir, 0o755);
  const facility = await mento("facility", "up", "--dir", dir, "--json");
  const tearDown = async () => {
    await mento("facility", "down", "--dir", dir);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    const dedicated = ["--resources", "dedicated", "--nodes", "2"];
    const open = ["--beamtimeId", "11010000", "--beamline", "p11", "--online", ...dedicated, "--json"];
    const beamtime = await mento("facility", "start-beamtime", "--dir", dir, ...open);
    project.provide("facility", JSON.parse(facility.stdout) as TestFacility);
    project.provide("beamtime", JSON.parse(beamtime.stdout) as TestBeamtime);
  } catch (error) {
    await tearDown();
    throw error;
  }
  return tearDown;
}
