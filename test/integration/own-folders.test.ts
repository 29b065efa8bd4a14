import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { jobIdFor } from "../../src/triggers/plan.ts";
import { mento } from "../support/mento.ts";
import { beamtime, facility, TestSite, writeData, writeOnCore } from "../support/site.ts";
import { there } from "../support/servers.ts";
import { slurmRestSection } from "../support/submit-host.ts";

// This host is a submit host too.
process.env["SLURM_CONF"] = facility.slurm.conf;
// All accounts can go through it: jobs of other accounts write there.
const top = mkdtempSync("/tmp/mento-own-folders-");
chmodSync(top, 0o755);
/** A file of the worker's account that others would like to have written. */
const victim = join(top, "authorized_keys");
const open = join(top, "open");
const elsewhere = join(top, "elsewhere");
const show = ["/bin/sh", "-c", 'cat "$1" > "$MENTO_RESULTS_DIR/shown"', "sh", "{{ path }}"];
const triggers = [
  {
    name: "from-here",
    method: "local-sbatch-script",
    run: ["/bin/true"],
    // The reservation is for the beamtime's account alone.
    slurm: { reservation: 99, fallback: { partition: facility.slurm.partition } },
  },
  {
    name: "show-from-here",
    method: "local-sbatch-script",
    run: show,
    slurm: {
      ...{ reservation: 99, fallback: { partition: facility.slurm.partition } },
      extra: ["--begin=now+4"],
    },
  },
  { name: "by-rest", method: "slurm-rest-api", run: ["/bin/sleep", "300"] },
  { name: "show", method: "local-bash-script", run: show },
  { name: "lay-link", run: ["/bin/ln", "-s", victim, "out.txt"] },
  {
    ...{ name: "follow", method: "local-bash-script", on: { type: "job.completed", trigger: "lay-link" } },
    run: ["/bin/cat", "{{ cause.directory }}/out.txt"],
  },
].map((trigger) => ({ on: { technique: trigger.name }, ...trigger }));
const folders = { localJobs: join(top, "jobs"), slurmJobs: join(top, "slurm-jobs") };
const slurmRest = slurmRestSection();
const worker = { reconcileSeconds: 1 };
const site = new TestSite(triggers, { site: folders, slurmRest, worker });
const inOpen = { localJobs: join(open, "jobs"), slurmJobs: join(open, "slurm-jobs") };
const careless = new TestSite(triggers, { site: inOpen, slurmRest });
const closed = new TestSite(triggers, {
  site: { ...folders, gpfs: join(top, "gpfs"), localData: [join(top, "gpfs"), elsewhere] },
  slurmRest,
});

beforeAll(async () => {
  // Whoever comes first makes them, and here that would be root: other tests' jobs write there.
  const made = ["scratch_cc/mento", "processed/onlineanalysis"].map((name) => join(beamtime.corePath, name));
  execFileSync(...there("mkdir", ["-p", ...made], { account: beamtime.account }));
  for (const folder of [open, elsewhere, join(top, "gpfs")]) mkdirSync(folder);
  chmodSync(open, 0o777);
  await Promise.all([site.startWorker(), careless.startWorker(), closed.startWorker()]);
});
afterAll(async () => {
  await Promise.all([site.tearDown(), careless.tearDown(), closed.tearDown()]);
  rmSync(top, { recursive: true, force: true });
});

async function publish(technique: string, where = site, path = writeOnCore(), id: string = randomUUID()) {
  await publishDataReady(await where.client(), { path, technique }, { id, source: "/test" });
  return id;
}

describe("jobs that run as the worker's account", () => {
  it("are written where nobody else can: a link that was prepared in the session's folder is not met", async () => {
    writeFileSync(victim, "a key\n");
    const id = randomUUID();
    const jobs = join(beamtime.corePath, "scratch_cc/mento");
    const prepared = join(jobs, jobIdFor({ source: "/test", id }, "default", "from-here"));
    mkdirSync(prepared, { recursive: true });
    writeFileSync(join(prepared, ".failed"), "");
    symlinkSync(victim, join(prepared, "run.sh"));
    chmodSync(prepared, 0o777);
    await publish("from-here", site, writeOnCore(), id);
    const { data } = await site.event("job.completed", id);
    expect(data.job.directory).toBe(join(folders.slurmJobs, beamtime.beamtimeId, data.job.id));
    expect(readFileSync(victim, "utf8")).toBe("a key\n");
    expect(readdirSync(prepared).sort()).toEqual([".failed", "run.sh"]);
  });

  it("have their results there too: what was prepared in the session's results is not met", async () => {
    writeFileSync(victim, "a key\n");
    const path = writeOnCore("not a key\n");
    const results = join(beamtime.corePath, "processed/onlineanalysis/show-from-here");
    const before = join(results, relative(join(beamtime.corePath, "raw"), path));
    execFileSync(...there("mkdir", ["-p", before], { account: beamtime.account }));
    execFileSync(...there("ln", ["-s", victim, join(before, "shown")], { account: beamtime.account }));
    const { data } = await site.event("job.completed", await publish("show-from-here", site, path));
    expect(data.results).toMatchObject([{ path: join(data.job.directory, "results/shown"), bytes: 10 }]);
    expect(readFileSync(victim, "utf8")).toBe("a key\n");
  });

  it("do not run with data that has become a link to somewhere else while they waited in Slurm", async () => {
    const path = writeOnCore();
    const id = await publish("show-from-here", site, path);
    await site.event("job.submitted", id);
    rmSync(path);
    symlinkSync(victim, path);
    const { data } = await site.event("job.failed", id);
    expect(data.exit).toMatchObject({ reason: "not-prepared" });
    expect(data.error?.message).toContain(`since its submit data has become a link to ${victim}`);
    expect(data.results).toEqual([]);
  });

  it.each(["from-here", "show"])("are not submitted (%s) where others could write", async (technique) => {
    const { data } = await careless.event("message.deferred", await publish(technique, careless));
    expect(data.error?.code).toBe("jobs-folder-unsafe");
    expect(data.error?.message).toContain(`${open} belongs to uid`);
    expect(readdirSync(open)).toEqual([]);
  });

  it("are not submitted where an ACL gives others what is made in the folder, which its mode does not show", async () => {
    const jobs = join(folders.slurmJobs, beamtime.beamtimeId);
    mkdirSync(jobs, { recursive: true });
    const attribute = `import os, struct
entries = [(1, 7, -1), (2, 7, 4711), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *one) for one in entries)
os.setxattr(${JSON.stringify(jobs)}, "system.posix_acl_default", acl)`;
    execFileSync("python3", ["-c", attribute]);
    expect(statSync(jobs).mode & 0o777).toBe(0o755);
    const { data } = await site.event("message.deferred", await publish("from-here"));
    const remove = `import os; os.removexattr(${JSON.stringify(jobs)}, "system.posix_acl_default")`;
    execFileSync("python3", ["-c", remove]);
    expect(data.error?.code).toBe("jobs-folder-unsafe");
    expect(data.error?.message).toContain("default ACL");
    expect(data.error?.hint).toContain("setfacl -k");
    await site.event("job.completed", data.cause.id);
  });

  it("over the REST API are cancelled without a word in their own folder", async () => {
    const { data } = await site.event("job.started", await publish("by-rest"));
    const { id, directory } = data.job;
    writeFileSync(victim, "a key\n");
    symlinkSync(victim, join(directory, ".cancelled"));
    await mento("cancel", "-c", site.configFile, "--reason", "enough", id);
    const { data: end } = await site.event("job.cancelled", data.cause.id);
    expect(end.cancelledBy?.reason).toBe("enough");
    expect(readFileSync(victim, "utf8")).toBe("a key\n");
    const owners = readdirSync(directory).map((name) => statSync(join(directory, name)).uid);
    expect(new Set(owners.filter((uid) => uid !== statSync(victim).uid)).size).toBe(1);
  });
});

describe("a job on the worker's host", () => {
  it("is not given its session's private key", async () => {
    const { path } = writeData();
    symlinkSync("../shared/id_rsa", `${path}.key`);
    for (const one of [`${path}.key`, join(facility.roots.gpfs, "current/shared/id_rsa")]) {
      const { data } = await site.event("message.rejected", await publish("show", site, one));
      expect(data.error).toMatchObject({ code: "path-outside-beamtime" });
    }
  });

  it("is not given what another's job has left, by a link", async () => {
    writeFileSync(join(elsewhere, "secret.dat"), "12345");
    const id = await publish("show", closed, join(elsewhere, "secret.dat"));
    const other = await closed.event("job.completed", id);
    const { path } = writeData();
    symlinkSync(join(other.data.job.directory, "job.log"), `${path}.log`);
    const { data } = await site.event("message.rejected", await publish("show", site, `${path}.log`));
    expect(data.error).toMatchObject({ code: "path-outside-beamtime" });
  });

  it("is not given what a link leads to in the folder of the job that it follows on", async () => {
    writeFileSync(victim, "a key\n");
    const { data } = await site.event("job.completed", await publish("lay-link"));
    const rejected = await site.event("message.rejected", data.cause.id);
    expect(rejected.data.error).toMatchObject({ code: "path-outside-beamtime" });
    expect(rejected.data.error?.message).toContain(victim);
  });

  it("is given nothing that a link leads to outside its session", async () => {
    const { path } = writeData();
    symlinkSync("/etc/hostname", `${path}.link`);
    const { data } = await site.event("message.rejected", await publish("show", site, `${path}.link`));
    expect(data.error).toMatchObject({ code: "path-outside-beamtime" });
    expect(data.error?.message).toContain("/etc/hostname");
    const shown = await site.event("job.completed", await publish("show", site, path));
    expect(shown.data.results).toMatchObject([{ bytes: 5 }]);
  });

  it("has its end announced though its message names a beamtime that nobody knows", async () => {
    const id = randomUUID();
    const message = { path: writeData().path, technique: "show", beamtimeId: "11019999" };
    await publishDataReady(await site.client(), message, { id, source: "/test" });
    expect((await site.event("job.completed", id)).data.results).toMatchObject([{ bytes: 5 }]);
  });

  it("is given, while no session is open, what the configuration allows, and nothing else", async () => {
    const allowed = join(elsewhere, "picture.dat");
    writeFileSync(allowed, "12345");
    symlinkSync("/etc/hostname", join(elsewhere, "link"));
    const shown = await closed.event("job.completed", await publish("show", closed, allowed));
    expect(shown.data.results).toMatchObject([{ bytes: 5 }]);
    for (const path of ["/etc/hostname", join(elsewhere, "link")]) {
      const { data } = await closed.event("message.rejected", await publish("show", closed, path));
      expect(data.error).toMatchObject({ code: "path-outside-beamtime" });
      expect(data.error?.hint).toContain("site.localData");
    }
  });
});
