import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { requireOnline, Sessions } from "../../src/beamtime/session.ts";
import { codeOf } from "../support/code-of.ts";
import { cpuTime } from "../support/cpu-time.ts";

let top: string;
let warnings: string[];
let sessions: Sessions;

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "mento-sessions-"));
  warnings = [];
  const roots = { gpfs: join(top, "gpfs"), beamline: join(top, "beamline"), core: join(top, "asap3") };
  sessions = new Sessions(roots, (message) => warnings.push(message));
});
afterEach(() => rmSync(top, { recursive: true }));

const online = {
  reservedNodes: ["max-p11-001"],
  slurmReservation: "11010000",
  slurmPartition: "ponline",
  sshPrivateKeyPath: "shared/id_rsa",
  userAccount: "bttest",
};

function writeMetadata(folder: string, id: string, more: object = { onlineAnalysis: online }) {
  const directory = join(top, folder);
  mkdirSync(directory, { recursive: true });
  const file = join(directory, `beamtime-metadata-${id}.json`);
  const corePath = folder.startsWith("asap3/") ? `/${folder}` : `/asap3/petra3/gpfs/p11/2026/data/${id}`;
  writeFileSync(file, JSON.stringify({ beamtimeId: id, beamline: "p11", corePath, unixId: "None", ...more }));
  return file;
}

describe("finding a session", () => {
  it("takes the one that is open at the beamline", async () => {
    const metadataFile = writeMetadata("gpfs/current", "11010000");
    expect(await sessions.find(undefined)).toMatchObject({
      isOpen: true,
      id: "11010000",
      metadataFile,
      roots: { core: "/asap3/petra3/gpfs/p11/2026/data/11010000", node: join(top, "beamline/p11/current") },
      online: {
        reservations: [{ name: "11010000", partition: "ponline", nodes: ["max-p11-001"] }],
        account: "bttest",
      },
    });
  });

  it("finds another by its id on the core file system, whatever the facility, beamline and year", async () => {
    writeMetadata("gpfs/current", "11010000");
    writeMetadata("asap3/petra3/gpfs/p11/2025/data/11000007", "11000007");
    expect(await sessions.find("11000007")).toMatchObject({ isOpen: false, id: "11000007" });
    expect(await codeOf(sessions.find("11000008"))).toBe("unknown-beamtime");
  });

  it("finds those whose neighbours' names it may not see", async () => {
    writeMetadata("asap3/petra3/gpfs/p11/2025/data/11000007", "11000007");
    chmodSync(join(top, "asap3/petra3/gpfs/p11/2025/data"), 0o311);
    expect(await sessions.find("11000007")).toMatchObject({ id: "11000007" });
    chmodSync(join(top, "asap3/petra3/gpfs/p11/2025/data"), 0o755);
  });

  it("looks at a large core file system a few times for a flood of unknown ids, and always finds what is new", async () => {
    for (let beamline = 0; beamline < 20; beamline++)
      for (let year = 2010; year < 2026; year++)
        mkdirSync(join(top, `asap3/petra3/gpfs/q${beamline}/${year}/data`), { recursive: true });
    const used = cpuTime();
    const asked = Array.from({ length: 1000 }, (_, nth) => codeOf(sessions.find(`x${nth}`)));
    expect(new Set(await Promise.all(asked))).toEqual(new Set(["unknown-beamtime"]));
    // One after the other they take a hundred times as long.
    expect(used()).toBeLessThan(5_000);
    const asking = sessions.find("x1");
    expect(await codeOf(asking)).toBe("unknown-beamtime");
    writeMetadata("asap3/petra3/gpfs/q3/2025/data/11000009", "11000009");
    expect(await sessions.find("11000009")).toMatchObject({ id: "11000009" });
  });

  it("is not stopped by a folder that it may not see", async () => {
    writeMetadata("asap3/petra3/gpfs/p11/2025/data/11000007", "11000007");
    mkdirSync(join(top, "asap3/lost+found"));
    chmodSync(join(top, "asap3/lost+found"), 0o000);
    expect(await codeOf(sessions.find("11000008"))).toBe("unknown-beamtime");
    expect(await sessions.find("11000007")).toMatchObject({ id: "11000007" });
  });

  it("reads the file again when it has changed", async () => {
    writeMetadata("gpfs/current", "11010000");
    await sessions.find(undefined);
    writeMetadata("gpfs/current", "11010000", {
      onlineAnalysis: { ...online, slurmReservation: "11010000_1" },
    });
    expect(await sessions.find(undefined)).toMatchObject({
      online: { reservations: [{ name: "11010000_1" }] },
    });
  });

  it("goes on with the last good facts while the file is broken, and warns once", async () => {
    const file = writeMetadata("gpfs/current", "11010000");
    await sessions.find(undefined);
    writeFileSync(file, "Something{ wrong");
    for (let look = 0; look < 3; look++)
      expect(await sessions.find(undefined)).toMatchObject({ id: "11010000" });
    expect(warnings).toHaveLength(1);
  });

  it.each([
    ["no metadata file", () => undefined, "no-session-open"],
    [
      "a corePath that holds all beamtimes' data",
      () => writeMetadata("gpfs/current", "1", { corePath: join(top, "asap3") }),
      "metadata-unreadable",
    ],
    [
      "a named pipe as the file",
      () => {
        const file = writeMetadata("gpfs/current", "1");
        rmSync(file);
        execFileSync("mkfifo", [file]);
      },
      "metadata-unreadable",
    ],
    [
      "a link as the file, to one that only this account may read",
      () => {
        const file = writeMetadata("gpfs/current", "1");
        rmSync(file);
        symlinkSync("/etc/shadow", file);
      },
      "metadata-unreadable",
    ],
    [
      "a file of 1.9 GB without content",
      () => truncateSync(writeMetadata("gpfs/current", "1"), 1_900_000_000),
      "metadata-unreadable",
    ],
    [
      "a file that is not JSON",
      () => writeFileSync(writeMetadata("gpfs/current", "1"), "{"),
      "metadata-unreadable",
    ],
    [
      "two files",
      () => [writeMetadata("gpfs/current", "1"), writeMetadata("gpfs/current", "2")],
      "metadata-unreadable",
    ],
  ])("with %s: not now, %s", async (_, prepare, code) => {
    prepare();
    expect(await codeOf(sessions.find(undefined))).toBe(code);
  });
});

describe("what only looks like a session's metadata", () => {
  it("a key that is missing stops only what needs it, and is named", async () => {
    for (const key of ["reservedNodes", "slurmReservation", "sshPrivateKeyPath", "userAccount"]) {
      const file = writeMetadata("gpfs/current", "1", { onlineAnalysis: { ...online, [key]: undefined } });
      const session = requireOnline(await sessions.find(undefined));
      const needs = {
        reservedNodes: () => session.online.nodes,
        slurmReservation: () => session.online.reservations,
        sshPrivateKeyPath: () => session.online.privateKey,
        userAccount: () => session.online.account,
      };
      for (const [name, take] of Object.entries(needs)) {
        if (name === key) expect(take).toThrow(`${key} in the onlineAnalysis of ${file} is missing.`);
        else expect(take).not.toThrow();
      }
    }
  });

  it("a folder that somebody fills with files is not listed over and over, and its session goes on", async () => {
    writeMetadata("gpfs/current", "1");
    await sessions.find(undefined);
    for (let number = 0; number < 10_001; number++) writeFileSync(join(top, `gpfs/current/${number}`), "");
    expect(await sessions.find(undefined)).toMatchObject({ id: "1" });
    expect(await sessions.find(undefined)).toMatchObject({ id: "1" });
    expect(warnings).toEqual([expect.stringMatching(/more than 10000 files in it.*goes on being used/)]);
  });
});

describe("a beamtime and a commissioning run at the same time", () => {
  const run = "c20210823_000_MAA";
  const corePath = `/asap3/petra3/gpfs/p11/2021/commissioning/${run}`;
  const writeRun = (folder: string) => {
    mkdirSync(join(top, folder), { recursive: true });
    const file = join(top, folder, `commissioning-metadata-${run}.json`);
    writeFileSync(
      file,
      JSON.stringify({ id: run, beamline: "P11", tag: "MAA", corePath, onlineAnalysis: online }),
    );
    return file;
  };

  it("are told apart by the data's path, in any view, or by the id", async () => {
    writeMetadata("gpfs/current", "11010000");
    writeRun("gpfs/commissioning");
    expect(await sessions.find(undefined, [join(top, "gpfs/commissioning/raw/x")])).toMatchObject({
      kind: "commissioning",
      id: run,
      beamline: "p11",
      roots: { beamline: join(top, "gpfs/commissioning"), node: join(top, "beamline/p11/commissioning") },
    });
    expect(await sessions.find(undefined, [`${corePath}/raw/x`])).toMatchObject({ id: run });
    expect(await sessions.find(undefined, [join(top, "gpfs/current/raw/x")])).toMatchObject({
      id: "11010000",
    });
    expect(await sessions.find(run)).toMatchObject({ id: run, isOpen: true });
  });

  it("are named both when nothing tells which is meant", async () => {
    writeMetadata("gpfs/current", "11010000");
    writeRun("gpfs/commissioning");
    const finding = sessions.find(undefined, ["/elsewhere/x"]);
    await expect(finding).rejects.toMatchObject({ code: "session-unclear" });
    await expect(finding).rejects.toThrow(`11010000 and ${run} are open`);
  });

  it("do not stop each other when one's file is broken", async () => {
    writeMetadata("gpfs/current", "11010000");
    writeFileSync(writeRun("gpfs/commissioning"), "{");
    expect(await sessions.find(undefined, [join(top, "gpfs/current/raw/x")])).toMatchObject({
      id: "11010000",
    });
    expect(await sessions.find("11010000")).toMatchObject({ id: "11010000" });
    expect(await codeOf(sessions.find(undefined, ["/elsewhere/x"]))).toBe("metadata-unreadable");
  });

  it("a commissioning run alone is the one that is meant, and is found on core by its id", async () => {
    writeRun("gpfs/commissioning");
    expect(await sessions.find(undefined)).toMatchObject({ id: run });
    rmSync(join(top, "gpfs"), { recursive: true });
    writeRun(`asap3/petra3/gpfs/p11/2021/commissioning/${run}`);
    expect(await sessions.find(run)).toMatchObject({ kind: "commissioning", isOpen: false });
  });
});

it("a path on the core file system leads to the session whose folder it lies in", async () => {
  writeMetadata("gpfs/current", "11010000");
  const folder = "asap3/petra3/gpfs/p11/2024/data/11000001";
  writeMetadata(folder, "11000001");
  expect(await sessions.find(undefined, [join(top, folder, "raw/a/b.h5")])).toMatchObject({ id: "11000001" });
});

it("a session without onlineAnalysis is found, and runs no jobs", async () => {
  writeMetadata("gpfs/current", "1", {});
  const session = await sessions.find(undefined);
  expect(session).toMatchObject({ id: "1", online: null });
  expect(() => requireOnline(session)).toThrow(expect.objectContaining({ code: "no-online-resources" }));
});

describe("a metadata file on the core file system that a user has put there", () => {
  const folder = "asap3/petra3/gpfs/p11/2024/data/11000001";

  it("below the session's folder is not believed", async () => {
    writeMetadata("gpfs/current", "11010000");
    writeMetadata(folder, "11000001");
    writeMetadata(`${folder}/scratch_cc/mine`, "11010000");
    const path = join(top, folder, "scratch_cc/mine/raw/a.h5");
    expect(await sessions.find(undefined, [path])).toMatchObject({ id: "11000001" });
  });

  it.each([
    ["another id", { beamtimeId: "11010000" }],
    ["a folder above", { corePath: "/asap3" }],
    ["the root", { corePath: "/" }],
    ["another's folder", { corePath: "/asap3/petra3/gpfs/p11/2024/data/11000002" }],
  ])("that speaks of %s is not believed", async (_, change) => {
    writeMetadata(folder, "11000001", { onlineAnalysis: online, ...change });
    expect(await codeOf(sessions.find("11000001"))).toMatch(/unknown-beamtime|metadata-unreadable/);
  });
});

it("an id is not unknown while the core file system is not mounted", async () => {
  expect(await codeOf(sessions.find("11000001"))).toBe("metadata-unreadable");
  mkdirSync(join(top, "asap3/petra3"), { recursive: true });
  expect(await codeOf(sessions.find("11000001"))).toBe("unknown-beamtime");
});

describe("sessions of the configuration", () => {
  const one = {
    id: "proposal-17",
    beamline: "id13",
    paths: { beamline: "/data/id13/proposal-17", core: "/scratch/proposal-17" },
    account: "svc",
    privateKey: "/etc/mento/id13",
    reservations: [{ partition: "online", nodes: ["n1", "n2"] }],
  };

  it("are open without any metadata file, and found by their paths", async () => {
    const site = { gpfs: join(top, "gpfs"), beamline: "/beamline", core: join(top, "asap3") };
    const withStatic = new Sessions(
      {
        ...site,
        sessions: [one, { ...one, id: "p18", paths: { beamline: "/data/p18", core: "/scratch/p18" } }],
      },
      () => undefined,
    );
    expect(await withStatic.find(undefined, ["/data/id13/proposal-17/raw/a.h5"])).toMatchObject({
      id: "proposal-17",
      isOpen: true,
      online: { account: "svc", reservations: [{ name: null, partition: "online", nodes: ["n1", "n2"] }] },
    });
    expect(await withStatic.find("p18")).toMatchObject({ roots: { node: "/scratch/p18" } });
    expect(await codeOf(withStatic.find(undefined, ["/elsewhere/a"]))).toBe("session-unclear");
  });
});
