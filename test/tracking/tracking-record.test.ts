import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  readTrackingRecord,
  requireOwnFolder,
  writeTrackingRecord,
  type TrackingRecord,
} from "../../src/tracking/tracking-record.ts";
import { derivedId } from "../../src/messages/derived-id.ts";
import { codeOf } from "../support/code-of.ts";
import { jobData } from "../support/job-data.ts";

const id = derivedId("a");
const { job } = jobData();
const data = jobData("submitted", { job: { ...job, id, directory: `/c/jobs/${id}` } });
const record: TrackingRecord = { version: 1, data, jobsDirectory: "/c/jobs", semaphores: ["default.t.abc"] };
const written = JSON.parse(writeTrackingRecord(record).toString()) as Record<string, object>;
const read = (value: unknown) => readTrackingRecord(Buffer.from(JSON.stringify(value)));

describe("a tracking record", () => {
  it("is read as it was written; its folder is that of its job", () => {
    expect(read(written)).toEqual(record);
    expect(written).not.toHaveProperty("jobsDirectory");
  });

  it("that is larger than the broker takes lacks its message's parameters, then paths, and is still read", () => {
    const large = (paths: number): TrackingRecord => ({
      ...record,
      data: {
        ...data,
        message: { ...data.message, parameters: { a: "x".repeat(5000) } },
        paths: Array.from({ length: paths }, (_, at) => `/c/raw/${at}.h5`),
      },
    });
    expect(writeTrackingRecord(large(1)).byteLength).toBeGreaterThan(5000);
    const withoutParameters = writeTrackingRecord(large(3), 4000);
    expect(withoutParameters.byteLength).toBeLessThanOrEqual(4000);
    const { data: kept } = readTrackingRecord(withoutParameters);
    expect(kept).toMatchObject({ parametersCut: true, job: data.job, paths: large(3).data.paths });
    const few = readTrackingRecord(writeTrackingRecord(large(1000), 4000)).data;
    expect(few).toMatchObject({ parametersCut: true, job: data.job });
    expect(few.paths.length + (few.pathsCut ?? 0)).toBe(1000);
  });

  it("may be of a process on a host that is not known", () => {
    const process = { host: "", pid: 4711 };
    expect(read({ ...written, data: { ...data, process } })).toMatchObject({ data: { process } });
  });

  it.each(["UNLIMITED", "infinite", "-1", "0", "1-0:30"])("may have a script's own time, %s", (time) => {
    const slurm = { fallback: "wait" as const, time, timeMin: time };
    expect(read(JSON.parse(writeTrackingRecord({ ...record, slurm }).toString()))).toMatchObject({ slurm });
  });

  it.each<[string, object]>([
    ["an id of another form", { job: { ...data.job, id: "pwn", directory: "/c/jobs/pwn" } }],
    ["a directory that is not the job's", { job: { ...data.job, directory: "/home/eve/jobs/x" } }],
    ["a directory with steps upwards", { job: { ...data.job, directory: `/c/jobs/../../${id}` } }],
    ["a relative directory", { job: { ...data.job, directory: id } }],
    ["a number of Slurm's that is none", { slurm: { ...data.slurm, jobId: "1;true" } }],
    ["a list of Slurm's numbers", { slurm: { ...data.slurm, jobId: "1,2" } }],
    ["a host that is an option", { process: { host: "-oProxyCommand=true", pid: 9 } }],
    ["the first process of all", { process: { host: "h", pid: 1 } }],
    ["a session that is a path", { session: { ...data.session, id: "../x" } }],
    ["unknown fields in its data", { more: 1 }],
  ])("with %s is refused", async (_, changes) => {
    const act = Promise.resolve().then(() => read({ ...written, data: { ...data, ...changes } }));
    expect(await codeOf(act)).toBe("record-unfit");
  });

  it.each<[string, object]>([
    ["that says which folder it is in", { jobsDirectory: "/home/eve" }],
    ["with unknown fields", { more: 1 }],
    ["with a row that is a path", { semaphores: ["../x"] }],
    ["with an array that is a path", { arrayId: "a/b" }],
    ["of another version", { version: 2 }],
  ])("%s is refused", async (_, changes) => {
    expect(await codeOf(Promise.resolve().then(() => read({ ...written, ...changes })))).toBe("record-unfit");
  });

  it("of any bytes is read or refused", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        expect(() => readTrackingRecord(Buffer.from(text))).toThrow(/does not fit/);
      }),
    );
  });

  it("does not count for another folder, or other data, than the configuration has for its session", async () => {
    const own = { jobsDirectory: "/c/jobs", corePath: "/c" };
    requireOwnFolder(record, own);
    for (const other of [
      { ...own, jobsDirectory: "/c/other" },
      { ...own, corePath: "/d" },
    ]) {
      const act = Promise.resolve().then(() => {
        requireOwnFolder(record, other);
      });
      expect(await codeOf(act)).toBe("record-unfit");
    }
  });
});
