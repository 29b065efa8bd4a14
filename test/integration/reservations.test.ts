import { mkdirSync, readFileSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { mento } from "../support/mento.ts";
import { OwnFacility } from "../support/own-facility.ts";
import { askSlurm } from "../support/servers.ts";
import { eventually, TestSite, writeOnCore } from "../support/site.ts";

const own = await OwnFacility.start({ nodes: 2 });
const { beamtime, facility } = own;

/** Two nodes that the beamtime of the tests has not reserved; only they have a GPU. */
const [busy, free] = ["max-p11-003", "max-p11-004"];
const numbered = (number: number) => `${beamtime.reservation}_${number}`;
const [first, second, third, fourth] = [numbered(71), numbered(72), numbered(73), numbered(74)];
const [fifth, sixth, seventh] = [numbered(75), numbered(76), numbered(77)];
const [eighth, ninth] = [numbered(78), numbered(79)];

const gpu = { constraint: "gpu", time: "00:02:00" };
const site = new TestSite(
  [
    { name: "gpu", on: { technique: "gpu" }, run: ["/bin/echo", "ran"], slurm: gpu },
    {
      name: "array",
      on: { technique: "array" },
      run: ["/bin/echo", "ran"],
      slurm: gpu,
      array: { size: 3, window: 5 },
    },
    {
      name: "long",
      on: { technique: "long" },
      run: ["/bin/sleep", "300"],
      slurm: { ...gpu, reservation: 73 },
    },
    {
      name: "impatient",
      on: { technique: "impatient" },
      run: ["/bin/true"],
      slurm: { constraint: "P100", fallback: "fail" },
    },
    {
      name: "elsewhere",
      on: { technique: "elsewhere" },
      run: ["/bin/true"],
      slurm: { reservation: 99, fallback: { partition: facility.slurm.partition } },
    },
    {
      name: "short",
      on: { technique: "short" },
      run: ["/bin/true"],
      slurm: { time: "2-00:00:00", timeMin: 10 },
    },
  ],
  {},
  own,
);

const slurm = (program: string, ...args: string[]) => askSlurm(facility, program, ...args);
const reserve = (name: string, node: string, ...more: string[]) =>
  slurm(
    "scontrol",
    ...["create", "reservation", `ReservationName=${name}`, "StartTime=now", `Nodes=${node}`],
    ...[`PartitionName=${beamtime.partition}`, `Users=${beamtime.account}`, ...more],
  );
const remove = (name: string) => slurm("scontrol", "delete", `ReservationName=${name}`);
const end = (name: string) => slurm("scontrol", "update", `ReservationName=${name}`, "EndTime=now+3seconds");

async function publish(technique: string) {
  const { id } = await publishDataReady(await site.client(), { path: writeOnCore("data\n", own), technique });
  return id;
}

let occupant = "";
beforeAll(async () => {
  const script = [
    "--exclusive",
    `--nodelist=${busy}`,
    `--partition=${beamtime.partition}`,
    "--wrap=sleep 600",
  ];
  occupant = slurm("sbatch", "--parsable", "--output=/dev/null", ...script).trim();
  await eventually("the node is busy", () =>
    slurm("squeue", "--noheader", `--jobs=${occupant}`, "--format=%T").startsWith("RUNNING")
      ? true
      : undefined,
  );
  await site.startWorker();
});
afterAll(async () => {
  slurm("scancel", occupant);
  await site.tearDown();
  await own.tearDown();
});

it("a job whose reservation is deleted before it ran is submitted again, as the same job", async () => {
  reserve(first, busy, "Duration=1:00:00", "Flags=IGNORE_JOBS");
  const id = await publish("gpu");
  const { data: before } = await site.event("job.submitted", id);
  expect(before.slurm.reservation).toBe(first);
  expect(before.notes?.join("\n")).toMatch(
    new RegExp(`^reservation passed over: ${beamtime.reservation} has none of 1 node with gpu \\(`, "m"),
  );
  const traced = await mento("trace", "-c", site.configFile, before.job.id, "--wide");
  expect(traced.stdout).toContain(`reservation passed over: ${beamtime.reservation} has none of 1 node`);
  expect(traced.stdout).toMatch(/^◌ gpu is pending since .*\. Next in its queue\./);
  // Slurm 22.05 deletes no reservation by command that a job waits in; its end does the same.
  end(first);
  await eventually("Slurm holds the job", () =>
    slurm("squeue", "--noheader", `--jobs=${before.slurm.jobId}`, "--format=%T").includes("RESV_DEL_HOLD")
      ? true
      : undefined,
  );
  reserve(second, free, "Duration=1:00:00");
  const { data: after } = await site.event("job.completed", id);
  expect(after.job.id).toBe(before.job.id);
  expect(after.slurm).toMatchObject({ reservation: second, nodes: [free] });
  expect(after.slurm.jobId).not.toBe(before.slurm.jobId);
  expect(readFileSync(join(after.job.directory, "job.log"), "utf8")).toBe("ran\n");
  expect(site.jobEventsOf(id).map(({ type, data }) => `${type} ${data.slurm.jobId}`)).toEqual([
    `mento.job.submitted.v1 ${before.slurm.jobId}`,
    `mento.job.submitted.v1 ${after.slurm.jobId}`,
    `mento.job.started.v1 ${after.slurm.jobId}`,
    `mento.job.completed.v1 ${after.slurm.jobId}`,
  ]);
  expect(
    slurm("squeue", "--noheader", "--states=all", `--jobs=${before.slurm.jobId}`, "--format=%T").trim(),
  ).toBe("CANCELLED");
  remove(second);
});

it("a resubmit that was cut off after the old job was cancelled is taken up: one job, not cancelled", async () => {
  reserve(fifth, busy, "Duration=1:00:00", "Flags=IGNORE_JOBS");
  const id = await publish("gpu");
  const { data: before } = await site.event("job.submitted", id);
  end(fifth);
  const state = () =>
    slurm("squeue", "--noheader", "--states=all", `--jobs=${before.slurm.jobId}`, "--format=%T").trim();
  await eventually("Slurm holds the job", () => (state() === "RESV_DEL_HOLD" ? true : undefined));
  // What a worker leaves that dies there, three minutes ago.
  mkdirSync(join(before.job.directory, `.resubmit.${before.slurm.jobId}`));
  slurm("scancel", before.slurm.jobId);
  const ago = Date.now() / 1000 - 180;
  utimesSync(before.job.directory, ago, ago);
  reserve(sixth, free, "Duration=1:00:00");
  const { data: after } = await site.event("job.completed", id);
  expect(after.slurm.reservation).toBe(sixth);
  expect(state()).toBe("CANCELLED");
  expect(readFileSync(join(after.job.directory, "job.log"), "utf8")).toBe("ran\n");
  expect(site.jobEventsOf(id).map(({ type }) => type)).not.toContain("mento.job.cancelled.v1");
  remove(sixth);
});

it("so is each job of an array, once, and the others are not cancelled with it", async () => {
  reserve(eighth, busy, "Duration=1:00:00", "Flags=IGNORE_JOBS");
  const ids = await Promise.all(["array", "array", "array"].map(publish));
  const before = await Promise.all(ids.map((id) => site.event("job.submitted", id)));
  const [first = ""] = before.map(({ data }) => data.slurm.jobId);
  expect(new Set(before.map(({ data }) => data.slurm.jobId.split("_")[0])).size).toBe(1);
  end(eighth);
  await eventually("Slurm holds the array", () =>
    slurm("squeue", "--noheader", `--jobs=${first}`, "--format=%T").includes("RESV_DEL_HOLD")
      ? true
      : undefined,
  );
  reserve(ninth, free, "Duration=1:00:00");
  const ends = await Promise.all(ids.map((id) => site.event("job.completed", id, 90_000)));
  for (const { data } of ends) {
    expect(data.slurm).toMatchObject({
      reservation: ninth,
      jobId: expect.stringMatching(/^\d+$/) as string,
    });
    expect(readFileSync(join(data.job.directory, "job.log"), "utf8")).toBe("ran\n");
  }
  expect(new Set(ends.map(({ data }) => data.slurm.jobId)).size).toBe(3);
  remove(ninth);
});

it.each(["held by Slurm", "cancelled by a resubmit that was cut off"])(
  "a job that is %s can be cancelled, and is not submitted again",
  async (how) => {
    reserve(seventh, busy, "Duration=1:00:00", "Flags=IGNORE_JOBS");
    const id = await publish("gpu");
    const { data: before } = await site.event("job.submitted", id);
    end(seventh);
    const state = () =>
      slurm("squeue", "--noheader", "--states=all", `--jobs=${before.slurm.jobId}`, "--format=%T").trim();
    await eventually("Slurm holds the job", () => (state() === "RESV_DEL_HOLD" ? true : undefined));
    if (how !== "held by Slurm") {
      mkdirSync(join(before.job.directory, `.resubmit.${before.slurm.jobId}`));
      slurm("scancel", before.slurm.jobId);
    }
    const { stdout } = await mento("cancel", "-c", site.configFile, before.job.id, "--reason", how);
    expect(stdout).toContain("cancelled");
    reserve(seventh, free, "Duration=1:00:00");
    const { data: after } = await site.event("job.cancelled", id);
    expect(after.cancelledBy).toMatchObject({ reason: how });
    expect(after.slurm.jobId).toBe(before.slurm.jobId);
    expect(slurm("squeue", "--noheader", "--format=%k")).not.toContain(before.job.id);
    remove(seventh);
  },
);

it("a job that runs when its reservation ends has failed: deadline", async () => {
  reserve(third, free, "EndTime=now+200seconds");
  const id = await publish("long");
  await site.event("job.started", id);
  end(third);
  const { data } = await site.event("job.failed", id, 90_000);
  expect(data.exit).toMatchObject({ reason: "deadline" });
  expect(data.error?.message).toContain("reservation");
});

describe("if no reservation fits", () => {
  it("the message waits, is told why once, and runs when one does", async () => {
    const id = await publish("gpu");
    const { data } = await site.event("message.deferred", id);
    expect(data.error?.code).toBe("no-reservation-fits");
    expect(data.error?.message).toMatch(new RegExp(`${beamtime.reservation} has none of 1 node with gpu`));
    reserve(fourth, free, "Duration=1:00:00");
    const { data: ended } = await site.event("job.completed", id);
    expect(ended.slurm.reservation).toBe(fourth);
    expect(site.eventsOf(id).filter(({ type }) => type === "mento.message.deferred.v1")).toHaveLength(1);
    remove(fourth);
  });

  it("it is rejected if the trigger says so", async () => {
    const { data } = await site.event("message.rejected", await publish("impatient"));
    expect(data.error?.code).toBe("no-reservation-fits");
  });

  it("it runs in the trigger's partition, and the event says why", async () => {
    const id = await publish("elsewhere");
    const { data } = await site.event("job.submitted", id);
    expect(data.slurm).toMatchObject({ reservation: null, partition: facility.slurm.partition });
    expect(data.error).toMatchObject({ code: "no-reservation-fits" });
    expect((await site.event("job.completed", id)).data.error).toBeNull();
  });
});

it("a job that asks for more time than is left gets what is left, if its trigger allows", async () => {
  const id = await publish("short");
  const { data } = await site.event("job.submitted", id);
  const limit = slurm(
    "squeue",
    "--noheader",
    "--states=all",
    `--jobs=${data.slurm.jobId}`,
    "--format=%l",
  ).trim();
  expect(limit).toMatch(/^[67]:\d\d:00$/);
  await site.event("job.completed", id);
});
