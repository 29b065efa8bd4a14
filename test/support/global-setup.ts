import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";
import { errorText } from "../../src/errors.ts";
import { findProgram, installPackages } from "../../src/facility/packages.ts";
import { makeRunFolder, removeRunFolder } from "./run-folder.ts";
import { findServers, nodeThere, type Servers, there } from "./servers.ts";
import { openSharedFacility, type TestBeamtime, type TestFacility } from "./shared-facility.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** None for unit tests. */
    servers: Servers | undefined;
    facility: TestFacility;
    beamtime: TestBeamtime;
    /** The program of a browser without a window; null where there is none to install. */
    browser: string | null;
  }
}

const PACKAGES = ["faketime", "python3-pika", "python3-h5py", "python3-pyfai", "python3-matplotlib"];
const INSTALL = fileURLToPath(new URL("install-packages.mjs", import.meta.url));
const BROWSER = "chromium-headless-shell";

/** One facility with one open beamtime, for all integration tests. */
export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const { servers, stop } = await findServers();
  const folder = makeRunFolder();
  project.provide("servers", servers);
  const tearDown = async (close: () => Promise<void>) => {
    try {
      await close();
    } finally {
      stop();
      removeRunFolder(folder);
    }
  };
  try {
    const close = await setUpThere(project);
    return () => tearDown(close);
  } catch (error) {
    await tearDown(() => Promise.resolve());
    throw error;
  }
}

async function setUpThere(project: TestProject): Promise<() => Promise<void>> {
  execFileSync(...there(nodeThere(), [INSTALL, ...PACKAGES]), { stdio: "inherit" });
  project.provide("browser", await findBrowser());
  const { facility, beamtime, close } = await openSharedFacility();
  project.provide("facility", facility);
  project.provide("beamtime", beamtime);
  return close;
}

/** It runs here, wherever the servers are. */
async function findBrowser(): Promise<string | null> {
  const say = (step: string) => console.error(`test facility: ${step}`);
  // Debian has it, Ubuntu has not.
  await installPackages([BROWSER], say).catch((error: unknown) => {
    if (/^ID=debian$/m.test(readFileSync("/etc/os-release", "utf8"))) throw error;
    say(`without a browser, its tests are left out: ${errorText(error)}`);
  });
  return findProgram(BROWSER) ?? null;
}
