import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { Sessions } from "../../src/beamtime/session.ts";
import { cleanUp } from "../../src/worker/clean-up.ts";
import { MentoConfig } from "../../src/config/config-schema.ts";
import type { Log } from "../../src/log.ts";
import type { SessionShells } from "../../src/submission/session-shells.ts";
import type { Shell } from "../../src/shells/shell.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-clean-"));
afterAll(() => rmSync(folder, { recursive: true }));
mkdirSync(join(folder, "slurm/11010000"), { recursive: true });
const { site, worker } = MentoConfig.parse({
  site: { localJobs: join(folder, "local"), slurmJobs: join(folder, "slurm") },
});

describe("jobs that this host has submitted itself, and that nothing is known of", () => {
  it.each([
    ["sh: 1: squeue: not found", "debug"],
    ["timeout: failed to run command \u2018squeue\u2019: No such file or directory", "debug"],
    ["squeue: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host", "debug"],
    ["squeue: fatal: Could not establish a configuration source", "debug"],
    ["slurm_load_jobs error: Unable to contact slurm controller (connect failure)", "info"],
  ])("because of %s, are left, which is said at %s", async (stderr, level) => {
    const said: string[] = [];
    const log = {
      info: () => said.push("info"),
      debug: () => said.push("debug"),
    } as unknown as Log;
    const here = {
      ...{ host: "h", account: "a" },
      run: (command: string) => {
        const isSlurms = command.includes("living=$(");
        return Promise.resolve({
          ...{ code: isSlurms ? 1 : 0, signal: null },
          ...{ stdout: Buffer.from(isSlurms ? "" : "mento:0\n"), stderr: isSlurms ? stderr : "" },
        });
      },
    } as unknown as Shell;
    const sessions = { open: () => Promise.resolve({ open: [] }) } as unknown as Sessions;
    await cleanUp({ site, worker }, { sessions, shells: {} as unknown as SessionShells, here }, log);
    expect(said).toEqual([level]);
  });
});
