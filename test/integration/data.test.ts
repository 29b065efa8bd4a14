import { execFileSync, spawn } from "node:child_process";
import { appendFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { there } from "../support/servers.ts";
import { beamtime, TestSite } from "../support/site.ts";

const site = new TestSite([
  { name: "size", on: { path: "**/*.dat" }, run: ["/usr/bin/stat", "-c", "size %s", "{{ path }}"] },
  {
    name: "master",
    on: { path: "**/*_master.h5" },
    run: ["/bin/sh", "-c", 'ls "${0%_master.h5}"_data_*', "{{ path }}"],
    companions: true,
  },
  {
    name: "impatient",
    on: { path: "**/*.never" },
    run: ["/bin/true"],
    dataTimeout: 3,
  },
]);
beforeAll(() => site.startWorker());
afterAll(() => site.tearDown());

const onCore = (name: string) => join(beamtime.corePath, "raw", `${site.prefix}-${name}`);

async function publish(path: string, more: object = {}) {
  const { id } = await publishDataReady(await site.client(), { path, ...more });
  return id;
}

async function logOf(causeId: string): Promise<string> {
  const { data } = await site.event("job.completed", causeId);
  return readFileSync(join(data.job.directory, "job.log"), "utf8");
}

describe("data of unknown size", () => {
  it("that was just written runs after a second look, without a word", async () => {
    writeFileSync(onCore("quick.dat"), "data");
    const id = await publish(onCore("quick.dat"));
    expect(await logOf(id)).toBe("size 4\n");
    expect(site.eventsOf(id).map(({ type }) => type)).not.toContain("mento.message.deferred.v1");
  });

  it("that is still being written waits until it stays the same", async () => {
    const path = onCore("growing.dat");
    writeFileSync(path, "");
    const id = await publish(path);
    for (let second = 0; second < 20; second++) {
      appendFileSync(path, "0123456789");
      await sleep(200);
    }
    expect((await site.event("message.deferred", id)).data.error).toMatchObject({ code: "data-changing" });
    expect(await logOf(id)).toBe("size 200\n");
  });
});

describe("data that does not come", () => {
  it("is rejected after the trigger's dataTimeout, with what was seen; other messages pass meanwhile", async () => {
    const never = onCore("a.never");
    const id = await publish(never, { bytes: 5 });
    writeFileSync(onCore("other.dat"), "data");
    const other = await publish(onCore("other.dat"), { bytes: 4 });
    await site.event("job.completed", other);
    expect(site.eventsOf(id).map(({ type }) => type)).not.toContain("mento.message.rejected.v1");
    writeFileSync(never, "dat");
    const { data } = await site.event("message.rejected", id);
    expect(data.error?.code).toBe("waited-too-long");
    expect(data.error?.message).toContain(`${never} has 3 of 5 bytes so far`);
  });
});

describe("an HDF5 master", () => {
  it("waits for the data files that it links to", async () => {
    const master = onCore("s1_master.h5");
    const script = `
import h5py, sys
with h5py.File(sys.argv[1], "w") as f:
    g = f.create_group("entry/data")
    for n in (1, 2):
        g["data_%06d" % n] = h5py.ExternalLink(sys.argv[2] % n, "/entry/data/data")
`;
    const names = `${site.prefix}-s1_data_%06d.h5`;
    execFileSync(...there("/usr/bin/python3", ["-c", script, master, names]));
    const id = await publish(master);
    const { data } = await site.event("message.deferred", id);
    expect(data.error?.message).toContain("s1_data_");
    for (const number of ["000001", "000002"]) writeFileSync(onCore(`s1_data_${number}.h5`), "images");
    expect((await logOf(id)).trim().split("\n")).toEqual(
      ["000001", "000002"].map((number) => onCore(`s1_data_${number}.h5`)),
    );
  });
});

describe("a symbolic link", () => {
  it("that leads out of the beamtime is rejected, and its target is not read", async () => {
    symlinkSync("/etc/passwd", onCore("link.dat"));
    const id = await publish(onCore("link.dat"));
    const { data } = await site.event("message.rejected", id);
    expect(data.error).toMatchObject({ code: "path-outside-beamtime" });
    expect(data.error?.message).toContain("/etc/passwd");
  });
});

it("data in a folder that is made while the message waits is found", async () => {
  const folder = onCore("late");
  const id = await publish(join(folder, "a.dat"), { bytes: 4 });
  await site.event("message.deferred", id);
  mkdirSync(folder);
  const writer = spawn("/bin/sh", ["-c", `sleep 0.5; printf data > '${folder}/a.dat'`]);
  await new Promise((resolve) => writer.on("exit", resolve));
  expect(await logOf(id)).toBe("size 4\n");
});
