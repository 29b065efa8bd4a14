import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SlurmRest } from "../../src/slurm/rest/slurm-rest.ts";
import { tokenFromCommand, tokenFromFile } from "../../src/slurm/rest/token.ts";
import type { RestJob } from "../../src/slurm/rest/versions.ts";
import { eventually } from "../support/eventually.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { askSlurm } from "../support/servers.ts";
import { beamtime, facility } from "../support/site.ts";
import type { TestFacility } from "../support/shared-facility.ts";
import { tokenCommand } from "../support/submit-host.ts";

/** Where the beamtime's account may write. */
const folder = mkdtempSync(join(tmpdir(), "mento-rest-"));
chmodSync(folder, 0o777);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const now = () => new Date();

function clientOf(where: TestFacility, user: string) {
  return new SlurmRest({
    url: where.slurm.restUrl,
    token: tokenFromCommand(tokenCommand(where, user, 600), 10_000, now),
    timeoutMs: 30_000,
  });
}

function jobOf(script: string, more: Partial<RestJob> = {}): RestJob {
  return {
    script: `#!/bin/sh\n${script}\n`,
    name: "rest test",
    comment: "mento:rest",
    directory: folder,
    standardOutput: join(folder, "%j.log"),
    environment: { PATH: "/usr/bin:/bin", GREETING: 'it\'s = "fine"\n$HOME; äöü' },
    timeLimitMinutes: 5,
    memoryMb: 100,
    ...more,
  };
}

async function submitted(slurm: SlurmRest, job: RestJob): Promise<string> {
  const outcome = await slurm.submit(job);
  if (outcome.kind !== "submitted") throw new Error(JSON.stringify(outcome));
  return outcome.slurmJobId;
}

describe("the real slurmrestd", () => {
  const { account, reservation, partition } = beamtime;
  const slurm = clientOf(facility, account);
  const ended = (id: string) =>
    eventually(`job ${id} ends`, async () => {
      const job = (await slurm.list()).jobs.find((one) => one.id === id);
      return job === undefined || /^(PENDING|RUNNING|COMPLETING|CONFIGURING)$/.test(job.state)
        ? undefined
        : job;
    });

  it("runs a script in the reservation, as the account, with its environment, and says how it ended", async () => {
    const id = await submitted(
      slurm,
      jobOf('id -un; printf "%s\\n" "$GREETING"; exit 7', { reservation, partition }),
    );
    expect(await ended(id)).toMatchObject({
      id,
      state: "FAILED",
      reason: "NonZeroExitCode",
      exitCode: "7:0",
      comment: "mento:rest",
      directory: folder,
      nodes: expect.stringMatching(/^max-p11-/) as string,
      user: account,
    });
    const log = await eventually(
      "its log",
      () => readFileSync(join(folder, `${id}.log`), "utf8") || undefined,
    );
    expect(log).toBe(`${account}\nit's = "fine"\n$HOME; äöü\n`);
  });

  it("takes everything that a job can ask for", async () => {
    const asked = {
      constraint: "AC",
      nodes: 1,
      tasks: 1,
      cpusPerTask: 2,
      exclusive: true,
      dependency: "singleton",
    };
    const id = await submitted(
      slurm,
      jobOf("true", { ...asked, partition: "ponline_p11", timeLimitMinutes: 2.5 }),
    );
    const shown = askSlurm(facility, "scontrol", "--oneliner", "show", "job", id);
    for (const one of ["Features=AC", "CPUs/Task=2", "OverSubscribe=NO", "TimeLimit=00:03:00", "Requeue=0"]) {
      expect(shown).toContain(one);
    }
    expect(shown).toContain("MinMemoryNode=100M");
    await slurm.cancel(id);
  });

  it("cancels what runs, and what waits", async () => {
    const runs = await submitted(slurm, jobOf("exec sleep 300", { reservation, partition }));
    const waits = await submitted(
      slurm,
      jobOf("true", { reservation, partition, dependency: `afterok:${runs}` }),
    );
    await eventually("it runs", async () =>
      (await slurm.get(runs))?.state === "RUNNING" ? true : undefined,
    );
    expect(await slurm.get(waits)).toMatchObject({ state: "PENDING", reason: "Dependency" });
    expect(await Promise.all([slurm.cancel(waits), slurm.cancel(runs)])).toEqual(["cancelled", "cancelled"]);
    expect((await ended(runs)).state).toBe("CANCELLED");
    expect((await ended(waits)).state).toBe("CANCELLED");
    expect(await slurm.cancel(runs)).toBe("gone");
  });

  it("knows no unknown id, and shows no other account's job", async () => {
    const root = clientOf(facility, "root");
    const other = await submitted(root, jobOf("true"));
    expect(await slurm.get("999999")).toBeUndefined();
    expect(await slurm.cancel("999999")).toBe("unknown");
    expect(await slurm.cancel(other)).toBe("unknown");
    expect((await slurm.list()).jobs.map(({ id }) => id)).not.toContain(other);
  });

  it("refuses in Slurm's reports", async () => {
    const refused = async (more: Partial<RestJob>) => await slurm.submit(jobOf("true", more));
    expect(await refused({ partition: "nope" })).toMatchObject({ kind: "refused", number: 2000 });
    expect(await refused({ reservation: "nope" })).toEqual({
      kind: "refused",
      error: "Requested reservation is invalid",
      number: 2053,
    });
    expect(await refused({ constraint: "nope" })).toMatchObject({ error: "Invalid feature specification" });
    expect(await refused({ memoryMb: 10_000_000 })).toMatchObject({
      error: "Requested node configuration is not available",
    });
  });

  it("is not asked with an expired token, and takes a new one from the file at once", async () => {
    const file = join(folder, "token");
    const write = (seconds: number) => {
      const options = [`username=${account}`, `lifespan=${seconds}`];
      writeFileSync(file, askSlurm(facility, "scontrol", "token", ...options));
    };
    const ofFile = new SlurmRest({
      url: facility.slurm.restUrl,
      token: tokenFromFile(file, now),
      timeoutMs: 30_000,
    });
    write(1);
    await sleep(2100);
    await expect(ofFile.list()).rejects.toThrow(expect.objectContaining({ code: "slurm-rest-token" }));
    write(600);
    expect((await ofFile.list()).isWhole).toBe(true);
  });

  it("does not accept a token that slurmctld did not make", async () => {
    const forged = new SlurmRest({
      url: facility.slurm.restUrl,
      user: account,
      token: () => Promise.resolve("eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"),
      timeoutMs: 30_000,
    });
    // Slurm 22.05 says of it only that something went wrong.
    const isTold = !askSlurm(facility, "sinfo", "--version").includes("22.05");
    const code = isTold ? "slurm-rest-refused" : "slurm-unavailable";
    await expect(forged.list()).rejects.toThrow(expect.objectContaining({ code }));
    const submitting = forged.submit(jobOf("true"));
    if (isTold) await expect(submitting).rejects.toThrow(expect.objectContaining({ code }));
    else expect((await submitting).kind).not.toBe("submitted");
  });
});

describe("slurmrestd without its slurmctld", () => {
  let own: OwnFacility;
  beforeAll(async () => {
    own = await OwnFacility.start();
  });
  afterAll(async () => {
    await own.tearDown();
  });

  it("submits nothing, says so, and works again when slurmctld is back", async () => {
    const slurm = clientOf(own.facility, own.beamtime.account);
    const first = await submitted(
      slurm,
      jobOf("exec sleep 300", { directory: "/", standardOutput: "/dev/null" }),
    );
    // A controller that is stopped while it launches a job does not know of it for certain.
    await eventually("it runs", async () => {
      const [job] = (await slurm.list()).jobs;
      return job?.state === "RUNNING" || undefined;
    });
    const slurmctld = own.pidOf("slurmctld");
    process.kill(slurmctld, "SIGTERM");
    await eventually("slurmctld has ended", () => {
      return existsSync(`/proc/${slurmctld}`) ? undefined : true;
    });
    // Each takes 9 s, or twice that.
    const calls = await Promise.allSettled([slurm.list(), slurm.submit(jobOf("true")), slurm.cancel(first)]);
    for (const call of calls) {
      expect(call).toMatchObject({ status: "rejected", reason: { code: "slurm-unavailable" } });
    }
    await own.startMissing();
    expect((await slurm.list()).jobs).toEqual([expect.objectContaining({ id: first, state: "RUNNING" })]);
    expect(await slurm.cancel(first)).toBe("cancelled");
  });
});
