import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, it } from "vitest";
import { Sessions, type OnlineSession } from "../../src/beamtime/session.ts";
import type { LastJobEvent } from "../../src/cancel/job-history.ts";
import { cancelJobs, cancelKnown, type CancelDeps } from "../../src/cancel/cancel-jobs.ts";
import { MentoConfig } from "../../src/config/config-schema.ts";
import { Unavailable } from "../../src/errors.ts";
import { REQUEST_PREFIX } from "../../src/jobs/run-script.ts";
import type { CancelOutcome } from "../../src/messages/job-cancel.ts";
import type { JobMethod, JobState } from "../../src/messages/job-event.ts";
import type { SessionShells } from "../../src/submission/session-shells.ts";
import { LocalShell } from "../../src/shells/local.ts";
import { quote } from "../../src/shells/quote.ts";
import type { RunOptions, Shell } from "../../src/shells/shell.ts";
import { jobData } from "../support/job-data.ts";

const top = mkdtempSync(join(tmpdir(), "mento-cancel-"));
afterAll(() => rmSync(top, { recursive: true }));

const request = { who: "me", reason: null, at: new Date().toISOString() };
const { site } = MentoConfig.parse({ site: { gpfs: top, core: top, localJobs: join(top, "jobs") } });

/** The directory of a process of this account, on a host that has the same home folder. */
function processOn(host: string, records: Record<string, Record<string, string>> = {}) {
  const id = `job-${Math.random().toString(36).slice(2)}`;
  const directory = join(top, "jobs", id);
  mkdirSync(directory, { recursive: true });
  const asked = JSON.stringify({ method: "local-bash-script", submittedAt: request.at });
  writeFileSync(join(directory, "run.sh"), `#!/bin/sh\n${REQUEST_PREFIX}${asked}\n`);
  writeFileSync(join(directory, "submitted"), `999999;${host}\n`);
  for (const [name, fields] of Object.entries(records)) {
    const text = Object.entries(fields).map(([key, value]) => `${key}=${value}\0`);
    writeFileSync(join(directory, `${name}.999999`), text.join(""));
  }
  return { id, directory };
}

function deps(lastEvents: LastJobEvent[] = []) {
  const asked: string[] = [];
  const all: CancelDeps = {
    site,
    sessions: new Sessions(site, () => undefined),
    shells: undefined as never,
    here: new LocalShell(30_000),
    rest: null,
    destinations: [],
    lastEvents: () => Promise.resolve(new Map(lastEvents.map((one) => [one.data.job.id, one]))),
    askHost: (host, group, id): Promise<CancelOutcome> => {
      asked.push(`${group} on ${host}`);
      const none = { end: null, cancelledBy: null, error: null };
      return Promise.resolve({ job: id, id, outcome: "cancelled", ...none });
    },
  };
  return { all, asked };
}

const eventOf = ({ id, directory }: { id: string; directory: string }, host: string): LastJobEvent => {
  const { job, ...data } = jobData("started", { process: { host, pid: 999999 } });
  const data_ = { ...data, job: { ...job, id, directory, method: "local-bash-script" as const } };
  return { group: "saxs", isContested: false, data: data_ };
};

describe("cancelling a process of another host, whose folder is this host's too", () => {
  const start = { at: request.at, node: "visu-2", restart: "0", boot: "another" };

  it("asks that host's worker, which alone knows whether it lives", async () => {
    const job = processOn("visu-2", { started: start });
    const { all, asked } = deps([eventOf(job, "visu-2")]);
    expect(await cancelJobs([job.id], request, all)).toMatchObject([{ outcome: "cancelled" }]);
    expect(asked).toEqual(["saxs on visu-2"]);
  });

  it("says where it can be cancelled if no worker has announced it", async () => {
    const job = processOn("visu-2", { started: start });
    const [outcome] = await cancelJobs([job.id], request, deps().all);
    expect(outcome).toMatchObject({ outcome: "failed", id: job.id, error: { code: "worker-silent" } });
    expect(outcome?.error?.message).toMatch(/visu-2/);
  });

  it("needs nobody if it has recorded its end", async () => {
    const job = processOn("visu-2", { started: start, ended: { at: request.at, code: "7", stoppedBy: "" } });
    const { all, asked } = deps([eventOf(job, "visu-2")]);
    expect(await cancelJobs([job.id], request, all)).toMatchObject([{ outcome: "gone", end: { code: 7 } }]);
    expect(asked).toEqual([]);
  });

  it("says of a process of this host itself that it is gone", async () => {
    const job = processOn(hostname(), { started: start });
    expect(await cancelJobs([job.id], request, deps().all)).toMatchObject([{ outcome: "gone" }]);
  });
});

describe("cancelling a job that one has started oneself", () => {
  it("asks nobody if it has ended", async () => {
    const { all } = deps();
    const ended = jobData("failed", { exit: { code: 3, signal: null, reason: "exit-code" } });
    expect(await cancelKnown(ended, request, all)).toMatchObject({ outcome: "gone", end: { code: 3 } });
  });

  it("looks into its own directory", async () => {
    const job = processOn(hostname());
    const { data } = eventOf(job, hostname());
    expect(await cancelKnown(data, request, deps().all)).toMatchObject({ outcome: "gone", id: job.id });
    rmSync(job.directory, { recursive: true });
    expect(await cancelKnown(data, request, deps().all)).toMatchObject({ outcome: "unknown" });
  });

  it("says why if its place is out of reach", async () => {
    const outcome = await cancelKnown(jobData("started"), request, deps().all);
    expect(outcome).toMatchObject({ outcome: "failed", id: "k3f7", error: { code: "unknown-beamtime" } });
  });
});

/**
 * Two open sessions. Each one's account has its job folder, and decides what `squeue` prints on its nodes; whoever runs
 * this test is the account.
 */
class TwoSessions {
  readonly #here = new LocalShell(30_000);
  /** How the nodes of a session answer, if not as they are. */
  readonly answers = new Map<string, () => Promise<never>>();
  /** Nodes that are connected to by name. */
  readonly named: string[] = [];
  readonly site;

  constructor() {
    const sessions = ["a", "b"].map((id) => ({
      id,
      ...{ beamline: "p11", account: "bt", privateKey: "/none" },
      paths: { beamline: this.#folderOf(id), core: this.#folderOf(id) },
      reservations: [{ partition: "p", nodes: [`node-${id}`] }],
    }));
    this.site = MentoConfig.parse({
      site: { gpfs: top, core: top, localJobs: join(top, "jobs"), slurmJobs: join(top, "slurm"), sessions },
    }).site;
    for (const { id } of sessions) {
      mkdirSync(this.#bin(id), { recursive: true });
      mkdirSync(this.jobs(id), { recursive: true });
      this.squeue(id, []);
    }
  }

  #folderOf(id: string): string {
    return join(this.#top, id);
  }
  readonly #top = mkdtempSync(join(top, "sessions-"));
  #bin(id: string): string {
    return join(this.#top, id, "bin");
  }
  jobs(id: string): string {
    return join(this.#top, id, "scratch_cc/mento");
  }

  /** What `squeue` prints: Slurm's id, state and comment. */
  squeue(id: string, lines: readonly (readonly [string, string, string])[]): void {
    const printed = lines.map(
      ([job, state, comment]) => `${job}|${state}|1:00|1:00:00|n|${comment}|/elsewhere|`,
    );
    writeFileSync(
      join(this.#bin(id), "squeue"),
      `#!/bin/sh\nprintf '%s\\n' ${printed.map(quote).join(" ")}\n`,
      {
        mode: 0o755,
      },
    );
  }

  /** A job directory, as a run script of this method would have it; empty if it is nobody's. */
  directory(id: string, job: string, method?: JobMethod, records: Record<string, string> = {}): string {
    const directory = join(this.jobs(id), job);
    mkdirSync(directory);
    const asked = JSON.stringify({ method, submittedAt: request.at });
    if (method !== undefined)
      writeFileSync(join(directory, "run.sh"), `#!/bin/sh\n${REQUEST_PREFIX}${asked}\n`);
    for (const [name, text] of Object.entries(records)) writeFileSync(join(directory, name), text);
    return directory;
  }

  #shellOf({ id, online }: OnlineSession, host = online.nodes[0] ?? ""): Shell {
    const run = (script: string, options?: RunOptions) =>
      this.answers.get(id)?.() ?? this.#here.run(`PATH=${quote(this.#bin(id))}:$PATH\n${script}`, options);
    return { host, account: online.account, run };
  }

  /** @param lastEvents what was announced; an error: the broker cannot be asked */
  deps(lastEvents: ReadonlyMap<string, LastJobEvent> | Error = new Map()) {
    const { all, asked } = deps();
    const shells = {
      open: (session: OnlineSession, host?: string) => {
        if (host !== undefined) this.named.push(host);
        return Promise.resolve(this.#shellOf(session, host));
      },
    } as unknown as SessionShells;
    const told = () =>
      lastEvents instanceof Error ? Promise.reject(lastEvents) : Promise.resolve(lastEvents);
    const sessions = new Sessions(this.site, () => undefined);
    return { asked, all: { ...all, site: this.site, sessions, shells, lastEvents: told } };
  }

  /** Of a job of session b, unless it is told otherwise. */
  event(
    job: string,
    changes: { state?: JobState; method?: JobMethod; directory?: string; host?: string } = {},
  ) {
    const { state = "started", method = "remote-sbatch-script", host } = changes;
    const { directory = join(this.jobs("b"), job) } = changes;
    const data = jobData(state, { process: host === undefined ? null : { host, pid: 999999 } });
    const session = { ...data.session, id: "b" };
    const told = { ...data, session, job: { ...data.job, id: job, method, directory } };
    return { group: "default", isContested: false, data: told };
  }
}

const brokerAway = new Unavailable({ code: "broker-unreachable", message: "It is away.", hint: "-" });
const SUBMITTED = { submitted: "4711\n" };
const COMPLETED = { ...SUBMITTED, "ended.4711": "at=2026-11-22T02:32:33Z\0code=0\0stoppedBy=\0" };

describe("what another session's account claims of a job", () => {
  it("is not believed: the job is where its event says", async () => {
    const both = new TwoSessions();
    both.directory("a", "ended");
    both.directory("b", "ended", "remote-sbatch-script", COMPLETED);
    both.directory("a", "local");
    both.directory("a", "removed");
    both.directory("b", "runs", "remote-sbatch-script", COMPLETED);
    both.squeue("a", [["12", "PENDING", "mento:runs"]]);
    const { all, asked } = both.deps(
      new Map([
        ["ended", both.event("ended")],
        ["removed", both.event("removed", { state: "failed" })],
        ["runs", both.event("runs")],
        [
          "local",
          both.event("local", { method: "local-bash-script", directory: "/elsewhere/local", host: "visu-2" }),
        ],
      ]),
    );
    expect(await cancelJobs(["ended", "local", "removed", "runs"], request, all)).toMatchObject([
      { job: "ended", outcome: "gone", end: { state: "completed" }, cancelledBy: null },
      { job: "local", outcome: "cancelled" },
      { job: "removed", outcome: "gone", end: { state: "failed" } },
      { job: "runs", outcome: "gone", end: { state: "completed" } },
    ]);
    expect(asked).toEqual(["default on visu-2"]);
  });

  it("is not believed while the node of the job's own session is away", async () => {
    const both = new TwoSessions();
    both.directory("a", "job");
    both.answers.set("b", () =>
      Promise.reject(new Unavailable({ code: "ssh-unreachable", message: "It is away.", hint: "-" })),
    );
    const { all } = both.deps(new Map([["job", both.event("job")]]));
    expect(await cancelJobs(["job"], request, all)).toMatchObject([
      { outcome: "failed", id: "job", error: { code: "ssh-unreachable" } },
    ]);
  });

  it("counts of a job that nothing is announced of, and where the broker cannot be asked", async () => {
    const both = new TwoSessions();
    both.directory("a", "job");
    expect(await cancelJobs(["job"], request, both.deps().all)).toMatchObject([{ outcome: "cancelled" }]);
    expect(await cancelJobs(["job", "none"], request, both.deps(brokerAway).all)).toMatchObject([
      { outcome: "cancelled" },
      { outcome: "failed", error: { code: "broker-unreachable" } },
    ]);
  });

  it("is not waited for where another place is believed, and throws nothing later", async () => {
    const both = new TwoSessions();
    both.directory("b", "job", "remote-sbatch-script", COMPLETED);
    let fail: (error: Error) => void = () => undefined;
    both.answers.set("a", () => new Promise((_, reject) => (fail = reject)));
    const { all } = both.deps(new Map([["job", both.event("job")]]));
    expect(await cancelJobs(["job"], request, all)).toMatchObject([{ outcome: "gone" }]);
    const thrown: unknown[] = [];
    const note = (error: unknown) => thrown.push(error);
    process.on("unhandledRejection", note);
    fail(new Error("a bug"));
    await sleep(50);
    process.off("unhandledRejection", note);
    expect(thrown).toEqual([]);
  });

  it("does not decide which of two jobs has Slurm's id, and cancels neither", async () => {
    const both = new TwoSessions();
    both.directory("b", "job", "remote-sbatch-script", SUBMITTED);
    both.squeue("b", [["4711", "RUNNING", "mento:job"]]);
    const { all } = both.deps(new Map([["4711", { ...both.event("job"), isContested: true }]]));
    const [outcome] = await cancelJobs(["4711"], request, all);
    expect(existsSync(join(both.jobs("b"), "job", ".cancelled"))).toBe(false);
    const unread = await cancelJobs(["4711"], request, both.deps(brokerAway).all);
    expect(unread).toMatchObject([{ outcome: "failed", error: { code: "broker-unreachable" } }]);
    expect(existsSync(join(both.jobs("b"), "job", ".cancelled"))).toBe(false);
    const known = both.deps(new Map([["4711", both.event("job")]]));
    await cancelJobs(["4711"], request, known.all);
    expect(existsSync(join(both.jobs("b"), "job", ".cancelled"))).toBe(true);
    expect(outcome).toMatchObject({
      job: "4711",
      id: null,
      outcome: "failed",
      error: { code: "job-unknown" },
    });
  });

  it("about Slurm's id is nothing if the event tells whose it is", async () => {
    const both = new TwoSessions();
    both.directory("a", "mine", "remote-sbatch-script", SUBMITTED);
    both.directory("b", "job", "remote-sbatch-script", COMPLETED);
    both.squeue("a", [["4711", "RUNNING", "somebody's"]]);
    const { all } = both.deps(new Map([["4711", both.event("job")]]));
    expect(await cancelJobs(["4711"], request, all)).toMatchObject([
      { job: "4711", id: "job", outcome: "gone", end: { state: "completed" } },
    ]);
  });
});

describe("a process of a session", () => {
  const records = (host: string) => ({ submitted: `999999;${host}\n` });

  it("is looked for on the session's nodes and the triggers' only, whatever its directory says", async () => {
    const both = new TwoSessions();
    both.directory("b", "own", "remote-command", records("node-b"));
    both.directory("b", "other", "remote-command", records("victim"));
    both.directory("b", "trigger", "remote-command", records("maxwell"));
    const { all } = both.deps();
    const deps = { ...all, destinations: ["maxwell"] };
    const outcomes = await cancelJobs(["own", "other", "trigger"], request, deps);
    expect(outcomes).toMatchObject([
      { outcome: "gone" },
      { outcome: "unknown", error: { code: "job-unknown" } },
      { outcome: "gone" },
    ]);
    expect(outcomes[1]?.error?.message).toContain("victim");
    expect(both.named.sort()).toEqual(["maxwell", "node-b"]);
  });

  it("is looked for where its event says", async () => {
    const both = new TwoSessions();
    both.directory("b", "job", "remote-command", records("replaced"));
    const event = both.event("job", { method: "remote-command", host: "replaced" });
    const { all } = both.deps(new Map([["job", event]]));
    expect(await cancelJobs(["job"], request, all)).toMatchObject([{ outcome: "gone" }]);
    expect(both.named).toEqual(["replaced"]);
  });
});
