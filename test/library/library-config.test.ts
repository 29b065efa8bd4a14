import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { knownHostsHere } from "../../src/shells/known-hosts-here.ts";
import { libraryConfig } from "../../src/library/library-config.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-library-config-"));
const file = join(folder, "mento.yaml");
writeFileSync(file, "site: { gpfs: /data, core: /core }\n");
afterEach(() => vi.unstubAllEnvs());
afterAll(() => rmSync(folder, { recursive: true }));

describe("libraryConfig", () => {
  it("without a configuration is DESY's folders and ssh's known hosts", () => {
    vi.stubEnv("MENTO_CONFIG", undefined);
    const { site, ssh } = libraryConfig({});
    expect(site).toMatchObject({ gpfs: "/gpfs", core: "/asap3" });
    expect(ssh.knownHosts).toEqual(knownHostsHere());
  });

  it("takes the environment's, the caller's, and the caller's root first", () => {
    vi.stubEnv("MENTO_CONFIG", file);
    expect(libraryConfig({}).site).toMatchObject({ gpfs: "/data", core: "/core" });
    expect(libraryConfig({ beamlineRoot: "/other" }).site).toMatchObject({ gpfs: "/other", core: "/core" });
    expect(libraryConfig({ config: libraryConfig({ config: file }) }).site.gpfs).toBe("/data");
  });

  it("does not go on without a configuration that is named, or with a wrong environment", () => {
    vi.stubEnv("MENTO_CONFIG", join(folder, "none.yaml"));
    expect(() => libraryConfig({})).toThrow(/none\.yaml cannot be read/);
    expect(() => libraryConfig({ config: join(folder, "none.yaml") })).toThrow(/none\.yaml cannot be read/);
    vi.stubEnv("MENTO_CONFIG", undefined);
    vi.stubEnv("MENTO_WORKER_CONCURRENCY", "many");
    expect(() => libraryConfig({})).toThrow(
      /The environment has mistakes: worker.concurrency: must be a number/,
    );
  });
});
