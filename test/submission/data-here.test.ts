import { describe, expect, it } from "vitest";
import { dataHere, dataHereOf } from "../../src/submission/data-here.ts";
import type { SubmitTarget } from "../../src/submission/method.ts";
import type { Session } from "../../src/beamtime/session.ts";
import type { JobPlan } from "../../src/triggers/plan.ts";

const session: Session = {
  ...{ kind: "beamtime", isOpen: true, id: "11010000", beamline: "p11" },
  roots: { beamline: "/gpfs/current", core: "/core/11010000", node: "/beamline/p11/current" },
  ...{ metadataFile: null, eventStart: null, eventEnd: null, asapo: null, online: null },
};
const site = { gpfs: "/gpfs", jobs: "scratch_cc/mento", localJobs: "/own/jobs", slurmJobs: "/own/slurm" };

function given(plan: Partial<JobPlan>, of: Session | null = session): ReturnType<typeof dataHere> {
  const whole = {
    ...{ paths: [], announcedPaths: [], causeResults: [], causeDirectory: null, session: of },
    ...{ argv: ["/bin/cat"], env: {}, workdir: null, stdin: null },
    ...{ cause: { source: "/s", id: "1", type: "mento.data.ready.v1" }, chain: [] },
    ...plan,
  } as unknown as JobPlan;
  return dataHere(whole, { dataHere: dataHereOf(site, of) } as SubmitTarget);
}

describe("what a job of the worker's account is given", () => {
  it("may lie in the session's folder in each view while it is open, and else at the core alone", () => {
    expect(given({})?.folders).toEqual(["/gpfs/current", "/core/11010000", "/beamline/p11/current"]);
    const folders = new Set(given({}, { ...session, isOpen: false })?.folders);
    expect([...folders]).toEqual(["/core/11010000"]);
    expect(given({}, null)?.folders).toEqual(["/gpfs"]);
  });

  it("may lie in the directory of the job before only if that is the worker's own", () => {
    const of = (causeDirectory: string) => given({ causeDirectory })?.folders;
    expect(of("/own/jobs/j1")).toContain("/own/jobs/j1");
    expect(of("/own/slurm/11010000/j1")).toContain("/own/slurm/11010000/j1");
    for (const others of ["/own/slurm/11010001/j1", "/core/11010000/scratch_cc/mento/j1", "/own/jobs/j1/x"])
      expect(of(others)).not.toContain(others);
  });

  it.each([
    [
      "a file beside the data",
      { argv: ["cat", "/gpfs/current/raw/mask.txt"] },
      ["/gpfs/current/raw/mask.txt"],
    ],
    ["another view", { env: { A: "/core/11010000/raw/a" } }, ["/core/11010000/raw/a"]],
    [
      "an option",
      { argv: ["p", "--in=/gpfs/current/a,/gpfs/current/b"] },
      ["/gpfs/current/a", "/gpfs/current/b"],
    ],
    ["a data set in a file", { argv: ["p", "/gpfs/current/a.h5::/entry/data"] }, ["/gpfs/current/a.h5"]],
    ["a slice", { argv: ["p", "/gpfs/current/a.h5?slice=0"] }, ["/gpfs/current/a.h5"]],
    [
      "a list on the standard input",
      { stdin: "/gpfs/current/a\n/gpfs/current/b c\n" },
      ["/gpfs/current/a", "/gpfs/current/b c"],
    ],
    ["a script", { argv: ["sh", "-c", "cat '/gpfs/current/a'"] }, ["/gpfs/current/a"]],
    [
      "the data at the core",
      { paths: ["/gpfs/current/a"], announcedPaths: ["/core/11010000/a"] },
      ["/gpfs/current/a", "/core/11010000/a"],
    ],
    [
      "a file in a folder that is called like another view",
      { argv: ["p", "/core/11010000/raw/gpfs/current/a", "/core/11010000/x,/gpfs/current/b"] },
      ["/core/11010000/raw/gpfs/current/a", "/core/11010000/x,/gpfs/current/b"],
    ],
    [
      "the directory of the job before",
      { causeDirectory: "/own/jobs/j1", argv: ["p", "/own/jobs/j1/a.h5,/own/jobs/j1/b.h5"] },
      ["/own/jobs/j1/a.h5", "/own/jobs/j1/b.h5"],
    ],
  ])("is looked at where an argument names %s", (_, plan: Partial<JobPlan>, paths) => {
    const { paths: named = [], texts = [] } = given(plan) ?? {};
    // A text is looked at from each place where a path may begin, to any length: see link-check.test.ts.
    const beginnings = texts.flatMap((pieces) => pieces.map((_piece, at) => pieces.slice(at).join("")));
    for (const path of paths)
      expect([...named, ...beginnings].some((one) => one.startsWith(path))).toBe(true);
  });

  it.each([
    "/gpfs/current/raw/nothing,/etc/passwd",
    "/gpfs/current/a\n/x",
    "/core/11010000/a:/b",
    "/gpfs/current/a /b",
  ])("is no path that a program may take for two: %j", (path) => {
    for (const named of [{ paths: [path] }, { causeResults: [path] }])
      expect(() => given(named)).toThrow(expect.objectContaining({ code: "wrong-argument" }) as Error);
  });

  it("may lie in folders with names of any language, and with brackets", () => {
    const paths = ["/gpfs/current/raw/Maß/試料/a (2)/b[1]/c-/d.h5", "/gpfs/current//raw/x, y.h5"];
    expect(given({ paths })?.paths).toEqual(paths);
  });

  it("works in no folder of the session's, unless whoever runs it is there himself", () => {
    for (const workdir of ["/core/11010000/shared", "/gpfs/current", "/own/jobs/../..//gpfs/current/raw"]) {
      const cause = { source: "/s", id: "1", type: "mento.data.ready.v1" };
      const refused = expect.objectContaining({ code: "wrong-argument" }) as Error;
      expect(() => given({ workdir, cause })).toThrow(refused);
      const run = { workdir, cause: { ...cause, type: "mento.run" } };
      expect(given(run)).not.toBeNull();
      expect(() => given({ ...run, chain: [{ job: "j", trigger: "t" }] })).toThrow(refused);
    }
    expect(given({ workdir: "/opt/programs" })).not.toBeNull();
  });

  it("is nothing where no folder is allowed", () => {
    const whole = { paths: [], announcedPaths: [], causeResults: [], causeDirectory: null, session: null };
    const plan = {
      ...whole,
      argv: ["/bin/true", "a"],
      env: {},
      workdir: null,
      stdin: null,
    } as unknown as JobPlan;
    const target = { dataHere: dataHereOf({ ...site, localData: [] }, null) } as SubmitTarget;
    expect(dataHere(plan, target)).toEqual({ folders: [], secrets: [], paths: [], texts: [] });
  });

  it("is not taken for a path where no folder of the session's begins, and is not much, however long", () => {
    expect(given({ argv: ["/bin/cat", "raw/a", "/etc/passwd", "/gpfs/current2/a"] })?.texts).toEqual([]);
    const list = Array.from({ length: 2_000 }, (_, number) => `/gpfs/current/raw/${number}`).join(",");
    const texts = given({ argv: ["p", list] })?.texts ?? [];
    expect([texts.length, texts[0]?.length, texts[0]?.join("")]).toEqual([1, 2_000, list]);
    const before = performance.now();
    expect(() => given({ argv: ["p", "/gpfs/current".repeat(60_000)] })).toThrow(
      "more than can be looked at",
    );
    expect(performance.now() - before).toBeLessThan(2_000);
  });
});
