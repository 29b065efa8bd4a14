import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { beamtime, facility, TestSite } from "../support/site.ts";

/** Another facility: no metadata files, no reservations; one file system that detectors and nodes see alike. */
const folder = mkdtempSync(join(tmpdir(), "mento-other-"));
const data = join(folder, "visitor/proposal-17");
const privateKey = join(folder, "key");
const node = facility.slurm.nodes[0]?.name ?? "";

const site = new TestSite([{ name: "cat", run: ["/bin/cat", "{{ path }}"], slurm: { time: 2 } }], {
  site: {
    gpfs: join(folder, "gpfs"),
    core: join(folder, "asap3"),
    sessions: [
      {
        id: "proposal-17",
        beamline: "id13",
        paths: { beamline: "/data/visitor/proposal-17", core: data },
        account: beamtime.account,
        privateKey,
        reservations: [{ partition: facility.slurm.partition, nodes: [node] }],
      },
    ],
  },
});

beforeAll(async () => {
  chmodSync(folder, 0o755);
  copyFileSync(beamtime.privateKey, privateKey);
  for (const name of ["raw", "scratch_cc", "processed"]) {
    mkdirSync(join(data, name), { recursive: true });
    chmodSync(join(data, name), 0o777);
  }
  await site.startWorker();
});
afterAll(async () => {
  await site.tearDown();
  rmSync(folder, { recursive: true });
});

it("a facility without metadata files and reservations runs jobs by what its configuration says", async () => {
  writeFileSync(join(data, "raw/a.dat"), "data");
  const client = await site.client();
  const { id } = await publishDataReady(client, { path: "/data/visitor/proposal-17/raw/a.dat", bytes: 4 });
  const { data: event } = await site.event("job.completed", id);
  expect(event).toMatchObject({
    session: { beamline: "id13", id: "proposal-17", corePath: data },
    slurm: { reservation: null, partition: facility.slurm.partition },
    paths: [join(data, "raw/a.dat")],
    error: null,
  });
});
