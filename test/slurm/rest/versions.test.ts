import { Ajv } from "ajv";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  API_VERSIONS,
  decodeJob,
  decodeNode,
  decodeReservation,
  encodeSubmit,
  newestKnown,
  type RestJob,
} from "../../../src/slurm/rest/versions.ts";
import { RECORDED } from "./recorded.ts";
import { meaningOf } from "../../../src/slurm/job-states.ts";

const word = fc.string({ minLength: 1 });
const maybe = <T>(one: fc.Arbitrary<T>) => fc.option(one, { nil: null });
const positive = fc.integer({ min: 1, max: 100_000 });
const job: fc.Arbitrary<RestJob> = fc.record({
  script: word,
  name: word,
  comment: word,
  directory: word,
  standardOutput: word,
  environment: fc.dictionary(word, fc.string()),
  timeLimitMinutes: maybe(fc.double({ min: 0.1, max: 100_000, noNaN: true })),
  account: maybe(word),
  partition: maybe(word),
  reservation: maybe(word),
  constraint: maybe(word),
  nodes: maybe(positive),
  tasks: maybe(positive),
  cpusPerTask: maybe(positive),
  memoryMb: maybe(positive),
  dependency: maybe(word),
  qos: maybe(word),
  gres: maybe(word),
  exclusive: fc.boolean(),
  nice: maybe(positive),
});

interface Encoded {
  script?: string;
  job: Record<string, unknown> & { script?: string; environment: string[] | Record<string, string> };
}

/** What jobs.c of v0.0.38 takes, and its openapi.json has otherwise or not at all. */
const V38_REALLY = {
  nodes: { type: "string" },
  exclusive: { enum: ["exclusive"] },
  no_requeue: { type: "boolean" },
};

describe.each(RECORDED)("Slurm's API $api", ({ api, submitSchema, jobs, answers }) => {
  it("is given what its own schema wants, whatever the job is", () => {
    const schema = structuredClone(submitSchema);
    if (api === "v0.0.38") Object.assign(schema.properties.job.properties, V38_REALLY);
    const isValid = new Ajv({ strict: false }).compile(schema);
    fc.assert(
      fc.property(job, (one) => {
        expect(isValid(encodeSubmit(api, one)), JSON.stringify(isValid.errors)).toBe(true);
      }),
    );
  });

  it("is given script and environment whole, and never an empty environment", () => {
    fc.assert(
      fc.property(job, (one) => {
        const encoded = encodeSubmit(api, one) as Encoded;
        expect(encoded.script ?? encoded.job.script).toBe(one.script);
        const { environment } = encoded.job;
        const lines = Array.isArray(environment)
          ? environment
          : Object.entries(environment).map(([name, value]) => `${name}=${value}`);
        const wanted = Object.entries(one.environment).map(([name, value]) => `${name}=${value}`);
        expect(lines).toEqual(wanted.length === 0 ? ["PATH=/usr/local/bin:/usr/bin:/bin"] : wanted);
      }),
    );
  });

  it("is not told of what the job leaves open", () => {
    const { job } = encodeSubmit(api, {
      script: "#!/bin/sh\n",
      name: "n",
      comment: "c",
      directory: "/d",
      standardOutput: "/o",
      environment: { A: "b" },
      partition: null,
    }) as Encoded;
    const always = [
      "name",
      "comment",
      "current_working_directory",
      "standard_output",
      "environment",
      "open_mode",
    ];
    const other = Object.keys(job).filter((key) => !always.includes(key));
    expect(other).toEqual(api === "v0.0.38" ? ["no_requeue"] : ["requeue", "script"]);
  });

  it("has its jobs understood", () => {
    const found = Object.fromEntries(
      answers.list.body.jobs.flatMap((one) => {
        const { id = "", state, reason, exitCode } = decodeJob(one) ?? {};
        return [[id, { state, reason, exitCode }]];
      }),
    );
    const inOneWord = (id: number) => found[String(id)];
    expect(inOneWord(jobs.running)).toEqual({ state: "RUNNING", reason: "None", exitCode: "0:0" });
    expect(inOneWord(jobs.wait)).toEqual({ state: "PENDING", reason: "Dependency", exitCode: "0:0" });
    expect(inOneWord(jobs.zero)).toEqual({ state: "COMPLETED", reason: "None", exitCode: "0:0" });
    expect(inOneWord(jobs.seven)).toEqual({ state: "FAILED", reason: "NonZeroExitCode", exitCode: "7:0" });
    expect(inOneWord(jobs.segv)).toMatchObject({ state: "FAILED", exitCode: "0:11" });
    // The signal meets the shell first, or the program.
    const exitCode = expect.stringMatching(/^(0:15|143:0)$/) as string;
    expect(inOneWord(jobs.cancelled)).toMatchObject({ state: "CANCELLED", exitCode });
    expect(inOneWord(jobs.cancelledPending)).toMatchObject({ state: "CANCELLED", exitCode: "0:0" });
    expect(inOneWord(jobs.time)).toEqual({ state: "TIMEOUT", reason: "TimeLimit", exitCode });
    for (const { state } of Object.values(found)) expect(meaningOf(state ?? "")).toBeDefined();
  });

  it("has the rest of a job understood too", () => {
    const seven = answers.list.body.jobs.find(({ job_id }) => job_id === jobs.seven);
    expect(decodeJob(seven)).toMatchObject({
      id: String(jobs.seven),
      nodes: "max-p11-001",
      comment: "mento:0123456789abcdef",
      directory: "/tmp",
      user: "bt11010000",
    });
  });

  it("has its reservations understood", () => {
    const { reservations } = answers["reservations"]?.body as { reservations: unknown[] };
    const [first, second] = reservations.map((one) => decodeReservation(one));
    expect(first).toMatchObject({
      name: "11010000",
      partition: "ponline_p11",
      nodes: ["max-p11-001", "max-p11-002"],
      users: [expect.stringMatching(/^bt11010000/)],
    });
    expect((first?.end ?? 0) - (first?.start ?? 0)).toBe(8 * 3600);
    expect(second).toMatchObject({ name: "11010000_1", nodes: ["max-p11-003"] });
    expect(second?.users).toEqual([expect.stringMatching(/^bt11010000/), "root"]);
  });

  it("has its nodes understood as sinfo shows them", () => {
    const { nodes } = answers["nodes"]?.body as { nodes: unknown[] };
    const of = Object.fromEntries(
      nodes.flatMap((one) => decodeNode(one) ?? []).map((node) => [node.name, node]),
    );
    const features = (api === "v0.0.38" ? ["AP", "AC", "cpu"] : ["cpu", "AP"]) as unknown;
    const reserved = { features, isIdle: true, isUp: true, idleCpus: 8 };
    expect(of["max-p11-002"]).toEqual({ name: "max-p11-002", ...reserved });
    const mixed = of[api === "v0.0.38" ? "max-display001" : "max-p11-001"];
    expect(mixed).toMatchObject({ isIdle: false, isUp: true, idleCpus: 7 });
    expect(of["max-p11-004"]).toMatchObject({ isUp: false });
    if (api !== "v0.0.38")
      expect(of["max-wn001"]).toMatchObject({ features: [], isIdle: false, isUp: false });
  });

  it("shows a job that is being cancelled as squeue does: as one that goes on", () => {
    const { jobs: just } = answers["get-just-cancelled"]?.body as { jobs: unknown[] };
    expect(decodeJob(just[0])?.state).toBe("COMPLETING");
  });
});

describe("decodeJob", () => {
  const set = (number: number) => ({ set: true, infinite: false, number });
  const timedOut = { job_id: 1, job_state: ["TIMEOUT"], start_time: set(1000), time_limit: set(10) };

  it("says DEADLINE of a job that ended with its reservation, before its own limit", () => {
    expect(decodeJob({ ...timedOut, end_time: set(1120) })?.state).toBe("DEADLINE");
    expect(decodeJob({ ...timedOut, end_time: set(1600) })?.state).toBe("TIMEOUT");
  });

  it("does without everything but an id and a state", () => {
    expect(decodeJob({ job_id: "12", job_state: "PENDING" })).toEqual({
      ...{ id: "12", state: "PENDING", reason: "", nodes: "", comment: "", directory: "", user: "" },
      ...{ reservation: "", partition: "" },
    });
    expect(decodeJob({ job_id: 12 })).toBeUndefined();
    expect(decodeJob({ job_id: 12, comment: "mento:a" })).toMatchObject({ id: "12", comment: "mento:a" });
    expect(decodeJob(null)).toBeUndefined();
  });

  it("survives whatever is sent", () => {
    fc.assert(
      fc.property(fc.anything(), (value) => {
        decodeJob(value);
        decodeJob({ job_id: 1, job_state: [], exit_code: value, time_limit: value });
      }),
    );
  });
});

describe("encodeSubmit", () => {
  const job = { script: "", name: "", comment: "", directory: "", standardOutput: "", environment: {} };
  const sent = (one: Partial<RestJob>) =>
    API_VERSIONS.map((version) => (encodeSubmit(version, { ...job, ...one }) as Encoded).job);

  it("tells `nice` only to who can read it", () => {
    const [v38, v39, v40, ...later] = sent({ nice: 1000 }).map((one) => one["nice"]);
    expect([v38, v39, v40]).toEqual([1000, undefined, undefined]);
    expect(later).toEqual([1000, 1000, 1000, 1000, 1000]);
  });

  it("names each generic resource as sbatch of the same Slurm does", () => {
    const [v38, v39, ...later] = sent({ gres: "gpu:a100:2,nvme" });
    expect(v38?.["gres"]).toBe("gpu:a100:2,nvme");
    expect(v39?.["tres_per_node"]).toBe("gres:gpu:a100:2,gres:nvme");
    for (const one of later) expect(one["tres_per_node"]).toBe("gres/gpu:a100:2,gres/nvme");
  });
});

describe("decodeReservation and decodeNode", () => {
  it("do without everything but a name and a state", () => {
    const none = { partition: null, nodes: [], users: [], start: 0, end: Infinity };
    expect(decodeReservation({ name: "r" })).toEqual({ name: "r", ...none });
    const end = { set: false, infinite: true, number: 0 };
    expect(decodeReservation({ name: "r", partition: null, end_time: end })).toEqual({ name: "r", ...none });
    expect(decodeReservation({ name: "r", users: ["a", "b"] })?.users).toEqual(["a", "b"]);
    expect(decodeReservation({ partition: "p" })).toBeUndefined();
    const node = { features: [], isUp: true, isIdle: false, idleCpus: 0 };
    expect(decodeNode({ name: "n", state: ["UNKNOWN"], features: null })).toEqual({ name: "n", ...node });
    expect(decodeNode({ name: "n" })).toBeUndefined();
  });

  it.each([
    [["IDLE"], "idle"],
    [["IDLE", "MAINTENANCE", "RESERVED"], "idle"],
    [["IDLE", "PLANNED"], "idle"],
    [["IDLE", "COMPLETING"], "busy"],
    [["IDLE", "REBOOT_REQUESTED"], "busy"],
    [["ALLOCATED"], "busy"],
    [["UNKNOWN", "NOT_RESPONDING"], "busy"],
    [["IDLE", "DRAIN"], "down"],
    [["MIXED", "FAIL"], "down"],
    [["DOWN", "NOT_RESPONDING"], "down"],
    [["IDLE", "INVALID_REG"], "down"],
    [["IDLE", "BLOCKED"], "down"],
  ])("%j is %s", (state, meaning) => {
    const { isIdle, isUp } = decodeNode({ name: "n", state }) ?? {};
    expect(isUp ? (isIdle ? "idle" : "busy") : "down").toBe(meaning);
  });

  it("survive whatever is sent", () => {
    fc.assert(
      fc.property(fc.anything(), (value) => {
        decodeReservation(value);
        decodeReservation({ name: "r", users: value, node_list: value, end_time: value });
        decodeNode({ name: "n", state: value, features: value, idle_cpus: value });
        decodeNode({ name: "n", state: "idle", state_flags: value });
      }),
    );
  });
});

describe("newestKnown", () => {
  it("is the newest that both know", () => {
    expect(newestKnown(["v0.0.36", "v0.0.37", "v0.0.38"])).toBe("v0.0.38");
    expect(newestKnown(["v0.0.42", "v0.0.46", "v0.0.45", "v0.0.43"])).toBe("v0.0.45");
    expect(newestKnown(["v0.0.37", "v0.0.46"])).toBeUndefined();
  });
});
