import { describe, expect, it } from "vitest";
import { Rejected } from "../../src/errors.ts";
import type { DataReady } from "../../src/messages/data-ready.ts";
import { jobEvent, toCloudEvent } from "../../src/messages/job-event.ts";
import { readTriggerInput } from "../../src/messages/trigger-input.ts";
import { LONGEST_CHAIN, planJob } from "../../src/triggers/plan.ts";
import { Trigger } from "../../src/triggers/trigger-config.ts";
import { CORE, jobEnded, jobEndedEvent } from "./job-ended.ts";

const session = {
  id: "11010000",
  beamline: "p11",
  roots: { beamline: "/gpfs/current", core: CORE, node: "/beamline/p11/current" },
};
const message = (data: DataReady) =>
  readTriggerInput({ specversion: "1.0", id: "1", source: "/det", type: "mento.data.ready.v1", data });
const plan = (trigger: object, data: DataReady = { path: "/gpfs/current/raw/s1/a.b_master.h5" }) =>
  planJob(message(data), Trigger.parse({ name: "t", run: ["true"], ...trigger }), session, "default");

describe("planJob", () => {
  it.each([
    ["parameters", "'", {}],
    ["standard input", "\r", { stdin: "{{ parameters.a }}" }],
  ])(
    "refuses %s that would be many times as long when quoted, and takes as much of others",
    (_, odd, trigger) => {
      const given = (character: string) =>
        plan(trigger, { path: "/gpfs/current/raw/a", parameters: { a: character.repeat(500_000) } });
      expect(() => given(odd)).toThrow(/when it is quoted for a shell; 4194304 are the most/);
      expect(given("ü").facts.parameters["a"]).toHaveLength(500_000);
    },
  );

  it.each([
    ["an argument", 131_071, { run: ["p", "{{ parameters.a }}"] }],
    ["a variable", 131_069, { env: { A: "{{ parameters.a }}" } }],
  ])("refuses %s that Linux gives no program", (_, most, trigger) => {
    const given = (a: string) => plan(trigger, { path: "/gpfs/current/raw/a", parameters: { a } });
    expect(given("a".repeat(most)).jobId).not.toBe("");
    expect(() => given("a".repeat(most + 1))).toThrow(/would have 131072 bytes; 131071 are the most/);
    expect(() => given("ü".repeat(most / 2 + 1))).toThrow(/are the most that Linux gives a program/);
  });

  it("fills the program, its environment, folder and input, with the path in all views", () => {
    const run = [
      "p",
      "{{ path }}",
      "{{ path.core }}",
      "{{ path.beamline }}",
      "{{ path.node }}",
      "{{ path.stem }}",
      "{{ path.name }}",
    ];
    const filled = plan({
      run,
      env: { FOLDER: "{{ path.folder }}" },
      workdir: "{{ session.core }}/shared",
      stdin: "{{ paths | join(' ') }}",
    });
    expect(filled).toMatchObject({
      argv: [
        "p",
        `${CORE}/raw/s1/a.b_master.h5`,
        `${CORE}/raw/s1/a.b_master.h5`,
        "/gpfs/current/raw/s1/a.b_master.h5",
        "/beamline/p11/current/raw/s1/a.b_master.h5",
        "a.b_master",
        "a.b_master.h5",
      ],
      env: { FOLDER: `${CORE}/raw/s1` },
      workdir: `${CORE}/shared`,
      stdin: `${CORE}/raw/s1/a.b_master.h5`,
    });
  });

  it("gives a program on this host no path at the beamline of a session that is not open there", () => {
    const planFor = (isOpen: boolean, path: string, method = "local-bash-script") =>
      planJob(
        message({ path: "/gpfs/current/raw/s1/a.h5" }),
        Trigger.parse({ name: "t", method, run: ["p", path] }),
        { ...session, isOpen },
        "default",
      ).argv[1];
    expect(() => planFor(false, "{{ path }}")).toThrow("not open at the beamline");
    expect(() => planFor(false, "--in={{ path }}")).toThrow("not open at the beamline");
    expect(planFor(false, "{{ path.core }}")).toBe(`${CORE}/raw/s1/a.h5`);
    expect(planFor(true, "{{ path }}")).toBe("/gpfs/current/raw/s1/a.h5");
    expect(planFor(false, "{{ path }}", "remote-sbatch-script")).toBe(`${CORE}/raw/s1/a.h5`);
  });

  it("maps a default that is a path at the beamline, as it maps any argument", () => {
    const run = ["p", '{{ parameters.poni | default("/gpfs/current/shared/a.poni") }}'];
    expect(plan({ run }).argv[1]).toBe(`${CORE}/shared/a.poni`);
  });

  it("gives a chained job the results of the one before", () => {
    const results = [
      {
        path: `${CORE}/processed/a.png`,
        beamlinePath: "/gpfs/current/processed/a.png",
        bytes: 1,
        mediaType: "image/png",
      },
    ];
    const input = jobEnded({ type: "job.completed", results });
    const local = { name: "plot", method: "local-bash-script", on: { type: "job.completed" } };
    const run = ["./plot.sh", "{{ results[0].beamlinePath }}", "{{ cause.trigger }}"];
    expect(planJob(input, Trigger.parse({ ...local, run }), session, "default").argv).toEqual([
      "./plot.sh",
      "/gpfs/current/processed/a.png",
      "azimuthal",
    ]);
  });

  it("of a job on this host: events name the data on the core file system, the program sees the beamline's", () => {
    const local = { method: "local-bash-script", run: ["p", "{{ path }}"] };
    for (const path of ["/gpfs/current/raw/a.h5", `${CORE}/raw/a.h5`]) {
      const { argv, paths, announcedPaths } = plan(local, { path });
      expect(argv[1]).toBe("/gpfs/current/raw/a.h5");
      expect(paths).toEqual(["/gpfs/current/raw/a.h5"]);
      expect(announcedPaths).toEqual([`${CORE}/raw/a.h5`]);
    }
    const nowhere = planJob(
      message({ path: "/data/a.h5" }),
      Trigger.parse({ name: "t", ...local }),
      null,
      "g",
    );
    expect(nowhere).toMatchObject({ paths: ["/data/a.h5"], announcedPaths: ["/data/a.h5"] });
  });

  it("of a chained job has the first message's time, and stays in its trace", () => {
    const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    const first = message({ path: `${CORE}/raw/a.h5` });
    const trigger = Trigger.parse({ name: "t", run: ["p", "{{ message.time }}"] });
    const event = {
      ...first.event,
      time: "2026-11-22T11:00:00+01:00",
      traceparent: `00-${trace}-00f067aa0ba902b7-00`,
    };
    const firstPlan = planJob(readTriggerInput(event), trigger, session, "default");
    expect(firstPlan.argv[1]).toBe("2026-11-22T11:00:00+01:00");

    const { data } = jobEndedEvent({ type: "job.completed" });
    const times = { ...data.times, ready: "2026-11-22T11:00:00+01:00" };
    const { traceparent } = firstPlan;
    const ended = jobEvent({ ...data, times }, new Date("2026-11-22T12:00:00Z"), { traceparent });
    const input = readTriggerInput(toCloudEvent(ended, "/mento/default"));
    expect(input.ready).toBe("2026-11-22T11:00:00+01:00");
    const chained = planJob(input, trigger, session, "default");
    expect(chained.argv[1]).toBe("2026-11-22T11:00:00+01:00");
    expect(chained.traceparent).toMatch(new RegExp(`^00-${trace}-[0-9a-f]{16}-00$`));
    expect(chained.traceparent).not.toBe(traceparent);
  });

  it("rejects what follows so many jobs that it must be a circle", () => {
    const chainOf = (length: number) =>
      Array.from({ length }, (_, index) => ({ job: `j${index}`, trigger: `t${index % 2}` }));
    const trigger = Trigger.parse({ name: "t", run: ["true"], on: { type: "job.completed" } });
    // The event's own job is one of the chain too.
    const planAfter = (jobs: number) => () =>
      planJob(jobEnded({ type: "job.completed", chain: chainOf(jobs - 1) }), trigger, session, "default");
    expect(planAfter(LONGEST_CHAIN - 1)().chain).toHaveLength(LONGEST_CHAIN - 1);
    expect(planAfter(LONGEST_CHAIN)).toThrow(Rejected);
    expect(planAfter(LONGEST_CHAIN)).toThrow("t would follow 16 jobs, the last of t1 → t0 → azimuthal");
  });
});

describe("a job's event names no file but its session's", () => {
  const localJobs = "/var/lib/mento/jobs";
  const result = { path: `${CORE}/processed/a.png`, beamlinePath: null, bytes: 1, mediaType: "image/png" };
  const planOf = (
    change: (event: ReturnType<typeof jobEndedEvent>) => void,
    trigger: object = {},
    at: typeof session | null = session,
  ) => {
    const event = jobEndedEvent({ type: "job.completed", results: [result] });
    change(event);
    const parsed = Trigger.parse({ name: "t", run: ["p"], on: { type: "job.completed" }, ...trigger });
    return planJob(readTriggerInput(event), parsed, at, "default", (method) =>
      method === "local-bash-script" ? localJobs : `${CORE}/scratch_cc/mento`,
    );
  };
  const codeOf = (...given: Parameters<typeof planOf>) => {
    try {
      return planOf(...given).argv.join(" ");
    } catch (error) {
      return error instanceof Rejected ? error.code : String(error);
    }
  };
  const here = { method: "local-bash-script" };

  it.each([{}, here])("whatever the method, and wherever in the event the path is: %j", (method) => {
    for (const path of ["/etc/passwd", `${CORE}/../11010001/raw/a`, "relative", `${CORE}x/a`, ""]) {
      expect(codeOf(({ data }) => (data.paths = [path]), method)).toBe("path-outside-beamtime");
      expect(codeOf(({ data }) => (data.results = [result, { ...result, path }]), method)).toBe(
        "path-outside-beamtime",
      );
      expect(codeOf(({ data }) => (data.results = [{ ...result, beamlinePath: path }]), method)).toBe(
        "path-outside-beamtime",
      );
    }
    expect(codeOf(({ data }) => (data.results = [{ ...result, path: `${CORE}/scratch_bl/x` }]), method)).toBe(
      "path-not-synced",
    );
  });

  it("in any view, normalised, as the program's place sees it", () => {
    const run = ["p", "{{ results[0].path }}", "{{ results[0].beamlinePath }}"];
    const path = `${CORE}/raw/../processed//b.png`;
    const change = ({ data }: ReturnType<typeof jobEndedEvent>) =>
      (data.results = [{ ...result, path, beamlinePath: "/gpfs/current/processed/./b.png" }]);
    expect(codeOf(change, { run })).toBe(`p ${CORE}/processed/b.png /gpfs/current/processed/b.png`);
  });

  it("nor, without that session, any file at all but of the job's own folder on this host", () => {
    expect(codeOf(() => undefined, here, null)).toBe("path-outside-beamtime");
    const ofHost = (path: string) => (event: ReturnType<typeof jobEndedEvent>) => {
      event.data.job.method = "local-bash-script";
      event.data.session = { beamline: null, id: null, corePath: null };
      event.data.results = [{ ...result, path, beamlinePath: path }];
    };
    const plot = { ...here, run: ["plot", "{{ cause.results }}"] };
    expect(codeOf(ofHost(`${localJobs}/k3f7/results/a`), plot, null)).toBe(
      `plot ${localJobs}/k3f7/results/a`,
    );
    for (const path of [`${localJobs}/other/a`, `${localJobs}/k3f7/../other/a`, "/etc/passwd"]) {
      expect(codeOf(ofHost(path), plot, null)).toBe("path-outside-beamtime");
    }
  });

  it("and hands on no list of which a part was left out", () => {
    const run = ["p", "{{ cause.results }}"];
    expect(codeOf(({ data }) => (data.resultsCut = 1), { run })).toBe("template-value-missing");
    expect(codeOf(({ data }) => (data.resultsUnknown = true), { run })).toBe("template-value-missing");
  });

  it("and the directory of a job is one of that job", () => {
    const run = ["p", "{{ cause.directory }}"];
    expect(codeOf(() => undefined, { run })).toBe(`p ${CORE}/scratch_cc/mento/k3f7`);
    for (const directory of ["/etc", "/etc/k3f7", `${CORE}/scratch_cc/mento/other`, `${localJobs}/k3f7/..`]) {
      expect(codeOf(({ data }) => (data.job.directory = directory), { run })).toBe("template-value-missing");
    }
  });
});

describe("a name that begins with - is no option", () => {
  const argvOf = (run: string[], more: Partial<DataReady> = {}) => {
    try {
      return plan(
        { run },
        { path: "/gpfs/current/raw/s1/--out=x.h5", sample: "-rf", scan: "-5", ...more },
      ).argv.slice(1);
    } catch (error) {
      return error instanceof Rejected ? error.code : String(error);
    }
  };

  it.each([
    "{{ sample }}",
    "{{ path.name }}",
    "{{ path.stem }}x",
    '{{ detector | default("") }}{{ sample }}',
  ])("an argument that begins so is refused: %s", (template) => {
    expect(argvOf(["p", template])).toBe("wrong-argument");
  });

  it("but not behind other text or after --, nor a number, a default, or a parameter", () => {
    expect(argvOf(["p", "--name={{ sample }}", "./{{ path.name }}"])).toEqual(["--name=-rf", "./--out=x.h5"]);
    expect(argvOf(["p", "--", "{{ sample }}"])).toEqual(["--", "-rf"]);
    expect(argvOf(["p", "{{ scan }}", '{{ detector | default("-q") }}'])).toEqual(["-5", "-q"]);
    const parameters = { one: "-v", list: ["-a", "b"], number: -1.5 };
    const run = ["p", "{{ parameters.one }}", "{{ parameters.list }}", "{{ parameters.number }}"];
    expect(argvOf(run, { parameters })).toEqual(["-v", "-a", "b", "-1.5"]);
  });

  it("nor of the folder that the program starts in", () => {
    expect(() => plan({ workdir: "{{ sample }}" }, { path: "/gpfs/current/raw/a", sample: "-P" })).toThrow(
      "-P",
    );
  });
});
