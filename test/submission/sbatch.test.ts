import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Deferred, MentoError, Rejected, Unavailable } from "../../src/errors.ts";
import { parseSubmitAnswer } from "../../src/jobs/submit-said.ts";
import type { SubmittedJob } from "../../src/submission/method.ts";
import { notesOf, sbatch, sbatchArguments } from "../../src/submission/sbatch.ts";
import type { Shell } from "../../src/shells/shell.ts";
import type { JobPlan } from "../../src/triggers/plan.ts";
import { Trigger, TriggerSlurm } from "../../src/triggers/trigger-config.ts";

const plan: JobPlan = {
  jobId: "k3f7",
  group: "default",
  correlationId: null,
  trigger: Trigger.parse({ name: "t", run: ["/bin/true"] }),
  cause: { source: "/s", id: "1", type: "mento.data.ready.v1" },
  chain: [],
  facts: { detector: null, technique: null, scan: null, sample: null, parameters: {} },
  traceparent: "00-0-0-01",
  session: null,
  beamline: null,
  sessionId: null,
  env: {},
  workdir: null,
  stdin: null,
  key: null,
  logFile: null,
  givenBytes: 0,
  paths: ["/c/raw/a.h5"],
  announcedPaths: ["/c/raw/a.h5"],
  bytes: undefined,
  causeResults: [],
  causeDirectory: null,
  argv: ["/bin/true"],
  resultsDirectory: "/c/processed/a",
};

/** What the remote call printed, recorded from Slurm 22.05.8 or taken from slurm_errno.c; the real one says it rarely. */
async function submitWith(stdout: string, stderr: string, leaveHost: () => void = () => undefined) {
  const scripts: string[] = [];
  const shell: Shell = {
    host: "max-p11-001",
    account: "bttest",
    leaveHost,
    run: (script) => {
      scripts.push(script);
      return Promise.resolve({ code: 0, signal: null, stdout: Buffer.from(stdout), stderr });
    },
  };
  const allocation = { reservation: "r", partition: "p", time: "01:00:00" };
  const target = {
    shell,
    corePath: "/c",
    jobsDirectory: "/c/scratch_cc/mento",
    maxPending: null,
    allocation,
    slurm: { time: "01:00:00", fallback: "wait" as const },
    rest: null,
    userScript: null,
    notice: null,
  };
  const options = { dataTimeout: 600, dataCheck: undefined, received: new Date(0) };
  const result = await sbatch.submit(plan, target, options).catch((error: unknown) => error);
  return { result, target, isWithdrawn: scripts.some((script) => script.includes("rm -rf")) };
}

const daysAgo = (days: number) => new Date(Date.now() - days * 24 * 3600_000).toISOString();

const FAILED = "\nmento:failed 1\n";

describe("sbatch fails", () => {
  it.each([
    [
      "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
      Unavailable,
      "slurm-unavailable",
    ],
    [
      "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
      Unavailable,
      "slurm-unavailable",
    ],
    ["sbatch: error: Batch job submission failed: Some text of a Slurm to come", Deferred, "submit-not-now"],
    ["sbatch: error: Batch job submission failed: Protocol authentication error", Deferred, "submit-not-now"],
    ["sh: 12: sbatch: not found", Deferred, "submit-not-now"],
    ["", Deferred, "submit-not-now"],
  ])("%j: the job may exist, so its directory stays", async (stderr, kind, code) => {
    const { result, isWithdrawn } = await submitWith(FAILED, stderr);
    expect(result).toBeInstanceOf(kind);
    expect((result as MentoError).code).toBe(code);
    expect(isWithdrawn).toBe(false);
  });

  it.each([
    [
      "sbatch: error: Batch job submission failed: Requested reservation is invalid",
      Deferred,
      "submit-not-now",
    ],
    [
      "sbatch: error: Batch job submission failed: Requested reservation not usable now",
      Deferred,
      "submit-not-now",
    ],
    ["sbatch: error: Batch job submission failed: Invalid feature specification", Rejected, "submit-refused"],
    [
      "sbatch: error: Batch job submission failed: Invalid partition name specified",
      Rejected,
      "submit-refused",
    ],
    [
      "sbatch: error: Batch job submission failed: Requested node configuration is not available",
      Rejected,
      "submit-refused",
    ],
    ["sbatch: error: Invalid --time specification", Rejected, "submit-refused"],
  ])("%j: there is no job, so its directory goes", async (stderr, kind, code) => {
    const { result, isWithdrawn } = await submitWith(FAILED, stderr);
    expect(result).toBeInstanceOf(kind);
    expect((result as MentoError).code).toBe(code);
    expect(isWithdrawn).toBe(true);
  });
});

describe("an sbatch that does not say itself that it was refused", () => {
  const refusal = "sbatch: error: Batch job submission failed: Invalid feature specification";
  const codes = fc.integer({ min: 0, max: 255 }).filter((code) => code !== 1);
  const line = fc.oneof(
    fc.string(),
    fc.constantFrom(
      refusal,
      "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying.",
      "sbatch: error: Invalid --time specification",
      "Requested reservation is invalid",
    ),
  );

  it("keeps the job's directory, whatever stands on its stderr", async () => {
    await fc.assert(
      fc.asyncProperty(codes, fc.array(line, { maxLength: 4 }), async (code, lines) => {
        const { result, isWithdrawn } = await submitWith(`mento:failed ${code}\n`, lines.join("\n"));
        expect([(result as MentoError).code, isWithdrawn]).toEqual(["submit-not-now", false]);
      }),
      { numRuns: 50 },
    );
  });

  it.each([
    "motd: Invalid feature specification; Invalid account; try --help",
    "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying.",
    `user: ${refusal}`,
    `${refusal} (perhaps)`,
    `${refusal}\nsbatch: error: Batch job submission failed: Unspecified error`,
  ])("keeps it, though %j has words of a refusal", async (stderr) => {
    expect((await submitWith(FAILED, stderr)).isWithdrawn).toBe(false);
  });

  it("a greeting around the line that reports the failure changes nothing", async () => {
    const { result, isWithdrawn } = await submitWith(
      FAILED,
      `Welcome\n${refusal}\nBye: Connection refused\n`,
    );
    expect([(result as MentoError).code, isWithdrawn]).toEqual(["submit-refused", true]);
  });
});

describe("a folder that cannot be written to", () => {
  it.each([
    ["mkdir: cannot create directory '/c/scratch_cc/mento/k3f7': No space left on device", false],
    ["mkdir: cannot create directory '/c/scratch_cc/mento/k3f7': Disk quota exceeded", false],
    ["mkdir: cannot create directory '/c/scratch_cc/mento': Read-only file system", false],
    ["sh: printf: I/O error\nhead: error writing 'standard output': No space left on device", true],
  ])("is what the message hears of, not Slurm: %s", async (stderr, leaves) => {
    let left = false;
    const { result } = await submitWith("", stderr, () => void (left = true));
    expect(result).toBeInstanceOf(Deferred);
    const error = result as MentoError;
    expect(error.code).toBe("folder-not-writable");
    expect(error.message).toContain(stderr.split("\n").at(-1));
    expect(left).toBe(leaves);
  });
});

describe("the answer of the remote call", () => {
  it("is found behind what else was printed, and without a cluster's name", async () => {
    const { result } = await submitWith("Welcome to Maxwell\nmento:submitted 4711;maxwell\n", "");
    expect(result).toMatchObject({ slurmJobId: "4711" });
  });

  it("gives the time of the host, if it is one", async () => {
    for (const [said, time] of [
      ["2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z"],
      ["2026-01-01T00:00:00.%3NZ", undefined],
    ]) {
      const from = new Date().toISOString();
      const { result } = await submitWith(`mento:submitted 4711 at ${said ?? ""}\n`, "");
      const { slurmJobId, submittedAt } = result as SubmittedJob;
      expect(slurmJobId).toBe("4711");
      if (time !== undefined) expect(submittedAt).toBe(time);
      else expect(submittedAt >= from && submittedAt <= new Date().toISOString()).toBe(true);
    }
  });

  it("of a job that exists gives its own times, and when its message first came", async () => {
    const [receivedAt, submittedAt, endedAt] = [3, 2, 1].map(daysAgo);
    const request = { receivedAt, paths: plan.paths };
    const said = `mento:submitted 4711 at ${submittedAt ?? ""} ended ${endedAt ?? ""}  # mento-request: ${JSON.stringify(request)}`;
    const { result } = await submitWith(`\n${said}\n`, "");
    expect(result).toMatchObject({ receivedAt, submittedAt, endedAt });
  });

  it.each(["1900-01-01T00:00:00.000Z", "9999-12-31T23:59:59.000Z"])(
    "has no times of the account's that cannot be, such as %s",
    async (time) => {
      const from = new Date().toISOString();
      const request = { receivedAt: time, submittedAt: time, paths: plan.paths };
      for (const json of [JSON.stringify(request), "{}"]) {
        const said = `mento:submitted 4711 at ${time} ended ${time}  # mento-request: ${json}`;
        const { result } = await submitWith(`\n${said}\n`, "");
        const { receivedAt, submittedAt, endedAt } = result as SubmittedJob;
        expect([receivedAt, endedAt]).toEqual([new Date(0).toISOString(), null]);
        expect(submittedAt >= from && submittedAt <= new Date().toISOString()).toBe(true);
      }
    },
  );

  it("of a job that exists says which reservations were passed over then, whatever stands in the account's request", async () => {
    const notes = async (passedOver: unknown) => {
      const allocation = { reservation: "r", partition: "p", time: "1:00", passedOver };
      const said = `mento:submitted 4711 # mento-request: ${JSON.stringify({ paths: plan.paths, allocation })}\n`;
      const { result, target } = await submitWith(said, "");
      return notesOf(plan, target, result as SubmittedJob);
    };
    expect(await notes(["r_1 has ended"])).toEqual(["reservation passed over: r_1 has ended"]);
    for (const none of [undefined, null, "text", 5, { length: 3 }, [1, null, {}]])
      expect(await notes(none)).toEqual([]);
    const many = await notes(Array.from({ length: 2_000 }, () => "x".repeat(1000)));
    expect(many).toHaveLength(10);
    for (const note of many) expect(note.length).toBeLessThanOrEqual(200);
  });

  it("of a job that was submitted again says where it is now", async () => {
    const request = { submittedAt: daysAgo(2), paths: plan.paths };
    const said = `mento:submitted 4712 at ${daysAgo(1)} again - other preempted # mento-request: ${JSON.stringify(request)}\n`;
    const { result } = await submitWith(said, "");
    expect(result).toMatchObject({
      slurmJobId: "4712",
      allocation: { reservation: null, partition: "other" },
    });
  });

  it.each([
    ["a number without end", "9".repeat(500)],
    ["no number of a job", "0"],
    ["no name of a partition", "4711 again - \u001b[2J preempted"],
    ["a name without end", `4711 again ${"r".repeat(300)} - preempted`],
  ])("that has what nobody but the account has written is none: %s", async (_, said) => {
    const { result } = await submitWith(`mento:submitted ${said} # mento-request: {}\n`, "");
    expect(result).toMatchObject({ code: "submit-not-now" });
  });

  it.each([
    [
      "a slot without end",
      { allocation: { reservation: "r".repeat(3_000_000), partition: null, time: "1:00" } },
    ],
    [
      "a slot that acts on a terminal",
      { allocation: { reservation: null, partition: "\u001b[2J", time: "1:00" } },
    ],
    ["an array elsewhere", { array: "../../x" }],
    ["a time without end", { receivedAt: `2026-11-30T09:00:00.${"1".repeat(3_000_000)}Z` }],
  ])("is believed without the account's request, if that has %s", async (_, forged) => {
    const request = { receivedAt: daysAgo(1), paths: plan.paths, ...forged };
    const said = `mento:submitted 4711 # mento-request: ${JSON.stringify(request)}\n`;
    const { result } = await submitWith(said, "");
    expect(result).toMatchObject({
      slurmJobId: "4711",
      arrayId: null,
      receivedAt: "1970-01-01T00:00:00.000Z",
    });
    expect(JSON.stringify(result).length).toBeLessThan(1_000);
  });

  it.each([
    ["lists of what is no path", `{"paths":[${"1,".repeat(2_000_000)}1]}`],
    [
      "more paths than a message has",
      `{"receivedAt":"2026-01-01T00:00:00Z","paths":[${"1,".repeat(200_000)}1]}`,
    ],
    ["levels without end", "[".repeat(4_000_000)],
  ])(
    "is believed without the account's request, which is not even parsed, if that has %s",
    async (_, request) => {
      const said = `mento:submitted 4711 # mento-request: ${request}\n`;
      expect(parseSubmitAnswer(said, [])).toMatchObject({ runId: "4711", request: undefined });
      expect((await submitWith(said, "")).result).toMatchObject({ slurmJobId: "4711", arrayId: null });
    },
  );

  it("that is none leaves the message for later", async () => {
    for (const stdout of ["", "mento:submitted \n", "mento:hello\n"]) {
      expect((await submitWith(stdout, "cannot create")).result).toMatchObject({ code: "submit-not-now" });
    }
  });
});

describe("sbatchArguments", () => {
  const argumentsOf = (slurm: object) =>
    sbatchArguments({
      jobComment: "mento:k3f7",
      directory: "/c/k3f7",
      output: "/c/k3f7/job.log",
      name: "t",
      priority: 0,
      slurm: TriggerSlurm.parse(slurm),
      allocation: { reservation: "r", partition: "p", time: "0-00:05:00" },
    });

  it("pass on what the trigger says, and no flag for what it does not", () => {
    const few = argumentsOf({});
    expect(few).toContain("--time=0-00:05:00");
    const slurm = {
      nodes: 2,
      tasks: 8,
      cpusPerTask: 4,
      memory: "4G",
      constraint: "gpu&A100",
      gres: "gpu:1",
      account: "cfel",
      qos: "high",
      exclusive: true,
      dependency: "singleton",
      extra: ["--nice=10", "--mail-type=FAIL"],
    };
    const flags = [
      "--nodes=2",
      "--ntasks=8",
      "--cpus-per-task=4",
      "--mem=4G",
      "--constraint=gpu&A100",
      "--gres=gpu:1",
    ];
    const more = ["--account=cfel", "--qos=high", "--exclusive", "--dependency=singleton", ...slurm.extra];
    expect(new Set(argumentsOf(slurm))).toEqual(new Set([...few, ...flags, ...more]));
  });

  it("ask for nodes of one's own only when told to", () => {
    expect(argumentsOf({ exclusive: false })).not.toContain("--exclusive");
  });
});
