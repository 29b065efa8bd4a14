import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { Deferred, Misconfigured, Unavailable } from "../../../src/errors.ts";
import { SlurmRest, type SlurmRestOptions } from "../../../src/slurm/rest/slurm-rest.ts";
import { asRecorded, type Behaviour, RECORDED, recordedOf, startServer, tokenOf, USER } from "./recorded.ts";
import { endFromSlurm } from "../../../src/slurm/job-states.ts";

const TOKEN = tokenOf({ exp: 4e9, sun: USER });
const job = {
  script: "#!/bin/sh\ntrue\n",
  name: "checksum",
  comment: "mento:0123456789abcdef",
  directory: "/tmp",
  standardOutput: "/dev/null",
  environment: { PATH: "/usr/bin:/bin" },
};

const closings: (() => void)[] = [];
afterEach(() => {
  for (const close of closings.splice(0)) close();
});

async function clientOf(behaviour: Behaviour, options: Partial<SlurmRestOptions> = {}) {
  const server = await startServer(behaviour);
  closings.push(server.close);
  const slurm = new SlurmRest({
    url: server.url,
    token: () => Promise.resolve(TOKEN),
    timeoutMs: 5000,
    ...options,
  });
  const calls = () => server.asked.map(({ method, path }) => `${method} ${path}`);
  return { slurm, server, calls };
}

/** slurmrestd itself has no such header; a proxy before it has. */
function withDate(answer: ReturnType<Behaviour>, date: string): ReturnType<Behaviour> {
  if (typeof answer === "function") return answer;
  return (response) =>
    response
      .writeHead(answer.status, { "content-type": "application/json", date })
      .end(JSON.stringify(answer.body));
}

const text = (status: number, body: string) => () => ({ status, contentType: "text/html", body });

describe.each(RECORDED)("a slurmrestd of $api", (recorded) => {
  const { api, jobs, answers } = recorded;
  const at = (path: string) => `/slurm/${api}/${path}`;

  it("submits", async () => {
    const { slurm, server, calls } = await clientOf(asRecorded(recorded));
    const { body } = answers["submit"] as { body: { job_id: number } };
    expect(await slurm.submit(job)).toEqual({ kind: "submitted", slurmJobId: String(body.job_id) });
    expect(calls()).toEqual(["GET /openapi/v3", `POST ${at("job/submit")}`]);
    expect(server.asked[1]?.headers).toMatchObject({
      "content-type": "application/json",
      "x-slurm-user-name": USER,
      "x-slurm-user-token": TOKEN,
    });
  });

  it("hands on why Slurm refuses", async () => {
    const { slurm } = await clientOf(
      asRecorded(recorded, { [`POST ${at("job/submit")}`]: "submit-unknown-partition" }),
    );
    expect(await slurm.submit(job)).toEqual({
      kind: "refused",
      error: "Invalid partition name specified",
      number: 2000,
    });
  });

  it("lists the account's jobs, and no other's", async () => {
    const { slurm } = await clientOf(asRecorded(recorded));
    const { jobs: listed, isWhole } = await slurm.list();
    expect(isWhole).toBe(true);
    expect(listed.map(({ id }) => id)).not.toContain(String(jobs.root));
    expect(listed).toHaveLength(Object.keys(jobs).length - 1);
  });

  it("knows one job, and which it does not", async () => {
    const { slurm } = await clientOf(asRecorded(recorded));
    expect(await slurm.get(String(jobs.seven))).toMatchObject({ state: "FAILED", exitCode: "7:0" });
    expect(await slurm.get("999999")).toBeUndefined();
    expect(await slurm.get(String(jobs.root))).toBeUndefined();
  });

  it("cancels what runs or waits, and touches nothing else", async () => {
    const { slurm, calls } = await clientOf(asRecorded(recorded));
    expect(await slurm.cancel(String(jobs.running))).toBe("cancelled");
    expect(await slurm.cancel(String(jobs.wait))).toBe("cancelled");
    expect(await slurm.cancel(String(jobs.seven))).toBe("gone");
    expect(await slurm.cancel(String(jobs.root))).toBe("unknown");
    expect(await slurm.cancel("999999")).toBe("unknown");
    expect(calls().filter((call) => call.startsWith("DELETE"))).toEqual([
      `DELETE ${at(`job/${jobs.running}`)}`,
      `DELETE ${at(`job/${jobs.wait}`)}`,
    ]);
  });

  it("says how reservations, nodes and jobs stand, with its clock", async () => {
    const date = new Date(1_795_340_000_000).toUTCString();
    const { slurm, calls } = await clientOf((asked) => withDate(asRecorded(recorded)(asked), date), {
      version: api,
    });
    const now = await slurm.now();
    expect(now.at).toBe(1_795_340_000);
    expect([...now.reservations.keys()]).toEqual(["11010000", "11010000_1"]);
    expect(now.nodes.get("max-p11-002")).toMatchObject({ isIdle: true, isUp: true });
    // Of the recorded jobs one waits.
    expect(now.pending).toBe(1);
    await Promise.all(Array.from({ length: 100 }, () => slurm.now()));
    expect(calls().sort()).toEqual([`GET ${at("jobs")}`, `GET ${at("nodes")}`, `GET ${at("reservations")}`]);
  });

  it.each([
    ["no list", { errors: [] }, 200],
    ["no list, in place of one", { errors: [], jobs: null }, 200],
    ["nothing, with status 500", { errors: [], jobs: [] }, 500],
    ["more than can be read", { errors: [], jobs: Array(200_001).fill(1) }, 200],
  ])("does not say by %s that there are no jobs", async (_, body, status) => {
    const { slurm } = await clientOf((asked) =>
      asked.path.includes("job")
        ? { status, body, contentType: "application/json" }
        : asRecorded(recorded)(asked),
    );
    await expect(slurm.list()).rejects.toMatchObject({ code: "slurm-unavailable" });
    await expect(slurm.get("4711")).rejects.toMatchObject({ code: "slurm-unavailable" });
  });

  it.each([
    ["no id", { job_id: {}, job_state: "RUNNING", comment: "mento:a" }],
    ["an id that is none", { job_id: "7;rm", job_state: "RUNNING", comment: "mento:a" }],
    ["half an id", { job_id: 7.5, job_state: "RUNNING" }],
    ["an id too long", { job_id: 1e30, job_state: "RUNNING" }],
    ["no comment that can be read", { job_id: 7, job_state: "RUNNING", comment: { text: "mento:a" } }],
    ["nothing", {}],
    ["no form", "job 7"],
  ])("lists the others beside a job with %s, and says that its list is not whole", async (_, strange) => {
    const { body } = answers.list;
    const { slurm } = await clientOf((asked) =>
      /\/jobs?(\/|$)/.test(asked.path)
        ? { status: 200, body: { ...body, jobs: [strange, ...body.jobs] }, contentType: "application/json" }
        : asRecorded(recorded)(asked),
    );
    const listed = await slurm.list();
    expect(listed.isWhole).toBe(false);
    expect(listed.jobs).toHaveLength(Object.keys(jobs).length - 1);
    expect(await slurm.get(String(jobs.seven))).toMatchObject({ state: "FAILED" });
    await expect(slurm.get("4711")).rejects.toMatchObject({ code: "slurm-unavailable" });
    expect((await slurm.now()).nodes.size).toBeGreaterThan(0);
  });

  it.each([
    ["state", { job_state: 7 }],
    ["nodes", { job_state: "RUNNING", nodes: 12 }],
    ["exit code", { job_state: "COMPLETED", exit_code: "none" }],
  ])("lists a job whose %s cannot be read, without an end", async (_, strange) => {
    const { slurm } = await clientOf((asked) =>
      asked.path.endsWith("/jobs")
        ? {
            status: 200,
            body: { errors: [], jobs: [{ job_id: 7, comment: "mento:a", ...strange }] },
            contentType: "application/json",
          }
        : asRecorded(recorded)(asked),
    );
    const listed = await slurm.list();
    expect(listed).toMatchObject({ isWhole: true, jobs: [{ id: "7", comment: "mento:a" }] });
    expect(endFromSlurm(listed.jobs[0]?.state ?? "")).toBeUndefined();
  });

  it("lists reservations of many nodes in bounded room", async () => {
    const reservations = Array.from({ length: 600 }, (_, at) => ({
      name: `r${at}`,
      node_list: "n[00001-65000]",
    }));
    const { slurm } = await clientOf((asked) =>
      asked.path.endsWith("reservations")
        ? { status: 200, body: { errors: [], reservations }, contentType: "application/json" }
        : asRecorded(recorded)(asked),
    );
    const now = await slurm.now();
    const listed = [...now.reservations.values()].reduce((sum, { nodes }) => sum + nodes.length, 0);
    expect(listed).toBeLessThanOrEqual(262_144);
    expect(now.reservations.size).toBe(600);
  });

  it("is wanted by its version alone, if that is configured", async () => {
    const { slurm, calls } = await clientOf(asRecorded(recorded), { version: api });
    await slurm.list();
    expect(calls()).toEqual([`GET ${at("jobs")}`]);
  });
});

describe.each(RECORDED.filter(({ api }) => api !== "v0.0.39"))(
  "a slurmrestd of $api in trouble",
  (recorded) => {
    const { api } = recorded;
    const submit = `POST /slurm/${api}/job/submit`;
    const list = `GET /slurm/${api}/jobs`;

    it("without slurmctld: nothing is listed, and nothing was submitted", async () => {
      const { slurm } = await clientOf(
        asRecorded(recorded, { [submit]: "down-submit", [list]: "down-list" }),
      );
      await expect(slurm.list()).rejects.toThrow(expect.objectContaining({ code: "slurm-unavailable" }));
      await expect(slurm.submit(job)).rejects.toThrow(Unavailable);
    });

    it("without slurmctld: it is asked for reservations once, whoever wants to know", async () => {
      const down = Object.fromEntries(
        ["reservations", "nodes"].map((what) => [`GET /slurm/${api}/${what}`, `down-${what}`]),
      );
      const { slurm, calls } = await clientOf(asRecorded(recorded, { ...down, [list]: "down-list" }));
      const looks = await Promise.allSettled(Array.from({ length: 100 }, () => slurm.now()));
      for (const look of looks) {
        expect(look).toMatchObject({ status: "rejected", reason: { code: "slurm-unavailable" } });
      }
      expect(calls().filter((call) => call.endsWith("/reservations"))).toHaveLength(1);
    });

    it("that does not accept the token: a submit has no job, or one of which nobody knows", async () => {
      const { slurm } = await clientOf(
        asRecorded(recorded, { [submit]: "expired-submit", [list]: "expired-list" }),
      );
      // v0.0.38 says of it what it says without slurmctld, or with half a connection.
      const isOld = api === "v0.0.38";
      const code = isOld ? "slurm-unavailable" : "slurm-rest-refused";
      await expect(slurm.list()).rejects.toThrow(expect.objectContaining({ code }));
      if (isOld) expect(await slurm.submit(job)).toMatchObject({ kind: "unknown" });
      else await expect(slurm.submit(job)).rejects.toThrow(expect.objectContaining({ code }));
    });

    it("without an environment Slurm refuses, with a number", async () => {
      const { slurm } = await clientOf(asRecorded(recorded, { [submit]: "submit-no-environment" }));
      const outcome = await slurm.submit(job);
      expect(outcome).toMatchObject({ kind: "refused", number: expect.toBeOneOf([2127, 2019]) as number });
    });

    it("with a job that no node can run: submitted, if Slurm says an id", async () => {
      const { slurm } = await clientOf(asRecorded(recorded, { [submit]: "submit-more-cpus-than-a-node" }));
      const { body } = recorded.answers["submit-more-cpus-than-a-node"] as { body: { job_id?: number } };
      const outcome = await slurm.submit(job);
      expect(outcome.kind).toBe(body.job_id === undefined ? "refused" : "submitted");
    });
  },
);

describe("the version of the API", () => {
  const v42 = recordedOf("v0.0.42");

  it("is found once, also by many at a time", async () => {
    const { slurm, calls } = await clientOf(asRecorded(v42));
    await Promise.all([slurm.list(), slurm.list(), slurm.submit(job)]);
    await slurm.list();
    expect(calls().filter((call) => call === "GET /openapi/v3")).toHaveLength(1);
  });

  it.each([
    ["v0.0.38", "v0.0.38"],
    ["v0.0.40", "v0.0.42"],
    ["v0.0.44", "v0.0.45"],
  ] as const)("is the newest that both know, of what the real one with %s lists", async (one, newest) => {
    const { answers } = recordedOf(one);
    const { slurm, calls } = await clientOf(
      ({ path }) => answers[path === "/openapi/v3" ? "openapi" : "list"] ?? text(404, "")(),
    );
    await slurm.list();
    expect(calls().at(-1)).toBe(`GET /slurm/${newest}/jobs`);
  });

  it("is found again when slurmrestd was upgraded", async () => {
    let behaviour = asRecorded(v42);
    const { slurm, calls } = await clientOf((asked) => behaviour(asked));
    await slurm.list();
    behaviour = asRecorded(recordedOf("v0.0.44"));
    expect((await slurm.submit(job)).kind).toBe("submitted");
    expect(calls().at(-1)).toBe("POST /slurm/v0.0.44/job/submit");
  });

  it("is tried from the newest down where slurmrestd lists no paths", async () => {
    const recorded = asRecorded(v42, { "GET /openapi/v3": "unknown-path" });
    const { slurm, calls } = await clientOf((asked) =>
      asked.path.endsWith("v0.0.42/ping")
        ? { status: 200, contentType: null, body: v42.answers["ping"]?.body }
        : recorded(asked),
    );
    await slurm.list();
    expect(calls().filter((call) => call.endsWith("/ping"))).toEqual([
      "GET /slurm/v0.0.45/ping",
      "GET /slurm/v0.0.44/ping",
      "GET /slurm/v0.0.43/ping",
      "GET /slurm/v0.0.42/ping",
    ]);
  });

  it("none in common: it says what is offered and what is known", async () => {
    const paths = { "/slurm/v0.0.36/jobs": {}, "/slurm/v0.0.46/jobs/": {}, "/slurmdb/v0.0.40/jobs/": {} };
    const { slurm } = await clientOf(() => ({ status: 200, contentType: null, body: { paths } }));
    await expect(slurm.list()).rejects.toThrow(
      /offers v0\.0\.36, v0\.0\.46; wanted is v0\.0\.38 to v0\.0\.45/,
    );
    await expect(slurm.submit(job)).rejects.toThrow(Misconfigured);
  });

  it("the configured one is not offered, or something else answers: it says so", async () => {
    const { slurm } = await clientOf(asRecorded(v42), { version: "v0.0.44" });
    await expect(slurm.list()).rejects.toThrow(/offers v0\.0\.42; wanted is v0\.0\.44/);
    const other = await clientOf(text(404, "<html>not here</html>"));
    await expect(other.slurm.list()).rejects.toThrow(expect.objectContaining({ code: "slurm-rest-version" }));
  });

  it("is asked for behind the url's path", async () => {
    const { slurm, server } = await clientOf((asked) =>
      asRecorded(v42)({ ...asked, path: asked.path.replace(/^\/sapi/, "") }),
    );
    const behind = new SlurmRest({
      url: `${server.url}/sapi/`,
      token: () => Promise.resolve(TOKEN),
      timeoutMs: 5000,
    });
    await behind.list();
    expect(server.asked.map(({ path }) => path)).toEqual(["/sapi/openapi/v3", "/sapi/slurm/v0.0.42/jobs"]);
    expect(slurm).toBeDefined();
  });
});

const versions = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, at) => [`/slurm/v9.${at}/jobs`, {}]));

describe("a server that does not answer as it should", () => {
  const version = "v0.0.42" as const;

  const bad: [string, Behaviour][] = [
    ["nothing, for ever", () => () => undefined],
    ["half an answer, for ever", () => (response) => response.writeHead(200).write('{"errors": [')],
    [
      "half an answer, and hangs up",
      () => (response) => {
        response.writeHead(200, { "content-length": 100 }).write('{"errors": [');
        setTimeout(() => response.destroy(), 50);
      },
    ],
    ["no JSON", text(200, "<html>Please log in</html>")],
    ["other JSON", () => ({ status: 200, contentType: null, body: { message: "hello" } })],
    ["a proxy's error", text(502, "Bad Gateway")],
    ["a proxy's error", text(503, "Service Unavailable")],
  ];

  it.each(bad)("says %s: a submit's outcome is unknown, and nothing is listed", async (_, behaviour) => {
    const { slurm } = await clientOf(behaviour, { version, timeoutMs: 500 });
    const [submitted, listed] = await Promise.allSettled([slurm.submit(job), slurm.list()]);
    expect(submitted).toMatchObject({ status: "fulfilled", value: { kind: "unknown" } });
    expect(listed).toMatchObject({ status: "rejected", reason: { code: "slurm-unavailable" } });
  });

  it("says more than can be held", async () => {
    const chunk = Buffer.alloc(1024 * 1024, " ");
    const { slurm } = await clientOf(
      () => (response) => {
        const more = () => {
          while (!response.destroyed && response.write(chunk));
        };
        response.writeHead(200).on("drain", more);
        more();
      },
      { version, timeoutMs: 20_000 },
    );
    expect(await slurm.submit(job)).toEqual({ kind: "unknown", why: "its answer is larger than 64 MiB" });
  });

  it("a whole answer without a job id is unknown too", async () => {
    const { slurm } = await clientOf(() => ({ status: 200, contentType: null, body: { errors: [] } }), {
      version,
    });
    expect((await slurm.submit(job)).kind).toBe("unknown");
  });

  it.each([
    ["302 that names a job", 302, { errors: [], job_id: 4711 }],
    ["304 that names a job", 304, { errors: [], job_id: 4711 }],
    ["500 that names a job", 500, { errors: [], job_id: 4711 }],
    [
      "500 with an error of Slurm's that names a job",
      500,
      { errors: [{ error_number: 2000 }], job_id: 4711 },
    ],
    ["404 that names a job", 404, { errors: [], result: { job_id: 4711 } }],
    ["302 without a job", 302, { errors: [] }],
    ["302 with an error of Slurm's", 302, { errors: [{ error_number: 2000 }] }],
    ["400 without an error", 400, { errors: [] }],
    ["200 with two ids", 200, { errors: [], job_id: 4711, result: { job_id: 4712 } }],
    ["200 with an id that is none", 200, { errors: [], job_id: "4711; rm -rf /" }],
    ["200 with half an id", 200, { errors: [], job_id: 4711.5 }],
    ["200 with an id below 0", 200, { errors: [], job_id: -1 }],
    ["200 with an id that is an object", 200, { errors: [], job_id: { number: 4711 } }],
  ])("says %s: whether there is a job is not known", async (_, status, body) => {
    // 304 has no body in HTTP; a proxy can make anything of it.
    const { slurm } = await clientOf(() => ({ status, contentType: null, body }), { version });
    expect(await slurm.submit(job)).toMatchObject({ kind: "unknown" });
  });

  it.each<[string, Behaviour]>([
    ["versions", () => ({ status: 200, contentType: null, body: { paths: versions(30_000) } })],
    [
      "errors",
      () => ({
        status: 500,
        contentType: null,
        body: {
          errors: Array.from({ length: 50_000 }, (_, at) => ({ error_number: 6001, error: `no ${at}` })),
        },
      }),
    ],
    ["words", text(403, "no ".repeat(500_000))],
    [
      "address",
      () => (response) => response.writeHead(301, { location: `http://x/${"a".repeat(12_000)}` }).end(),
    ],
  ])("says ever more %s: an error stays short", async (_, behaviour) => {
    const { slurm } = await clientOf(behaviour);
    for (const call of [slurm.list(), slurm.submit(job), slurm.now()]) {
      const error: unknown = await call.catch((one: unknown) => one);
      expect((error as Error).message.length).toBeLessThan(1000);
    }
  });

  it("nobody listens: certainly nothing was submitted", async () => {
    const { slurm, server } = await clientOf(text(200, ""), { version });
    server.close();
    await expect(slurm.submit(job)).rejects.toThrow(expect.objectContaining({ code: "slurm-unavailable" }));
    await expect(slurm.list()).rejects.toThrow(Unavailable);
  });

  it("never takes the connection", async () => {
    const deaf = createServer((socket) => socket.pause());
    await new Promise<void>((resolve) => deaf.listen(0, "127.0.0.1", resolve));
    const { port } = deaf.address() as AddressInfo;
    const options = { token: () => Promise.resolve(TOKEN), timeoutMs: 300, version };
    const slurm = new SlurmRest({ url: `http://127.0.0.1:${port}`, ...options });
    expect(await slurm.submit(job)).toMatchObject({ kind: "unknown", why: "no whole answer within 300 ms" });
    deaf.close();
  });

  it("sends callers elsewhere: the token stays here", async () => {
    const elsewhere = await clientOf(text(200, ""));
    const { slurm } = await clientOf(
      () => (response) => response.writeHead(301, { location: elsewhere.server.url }).end("moved"),
    );
    await expect(slurm.submit(job)).rejects.toThrow(expect.objectContaining({ code: "wrong-configuration" }));
    expect(elsewhere.server.asked).toEqual([]);
  });

  it("cannot read a request: that is a refusal", async () => {
    const { slurm } = await clientOf(text(400, "Unable to parse query."), { version });
    expect(await slurm.submit(job)).toEqual({
      kind: "refused",
      error: "Unable to parse query.",
      number: undefined,
    });
  });

  it.each([
    ["no reservations", { errors: [], jobs: [], nodes: [] }, 200],
    ["that nothing has changed", "", 304],
  ])("says %s: nothing is known of reservations", async (_, body, status) => {
    const { slurm } = await clientOf(() => ({ status, contentType: null, body }), { version });
    await expect(slurm.now()).rejects.toThrow(expect.objectContaining({ code: "slurm-unavailable" }));
  });

  it("was not there for another request: who asks for reservations is told so", async () => {
    const { slurm, server, calls } = await clientOf(asRecorded(recordedOf(version)), { version });
    server.close();
    await expect(slurm.list()).rejects.toThrow(Unavailable);
    await expect(slurm.now()).rejects.toThrow(Unavailable);
    expect(calls()).toEqual([]);
  });

  it("loses a job between two looks: it is gone", async () => {
    const recorded = recordedOf(version);
    const id = String(recorded.jobs.running);
    const ended = { [`DELETE /slurm/${version}/job/${id}`]: "cancel-ended" };
    const { slurm } = await clientOf(asRecorded(recorded, ended), { version });
    expect(await slurm.cancel(id)).toBe("gone");
  });

  it("did not say whether it cancelled: an error", async () => {
    const recorded = recordedOf(version);
    const id = String(recorded.jobs.running);
    const { slurm } = await clientOf(
      (asked) => (asked.method === "DELETE" ? text(502, "Bad Gateway")() : asRecorded(recorded)(asked)),
      { version },
    );
    await expect(slurm.cancel(id)).rejects.toThrow(Unavailable);
  });
});

describe("an error whose number is the token's", () => {
  const answer = (error: string, number: number, status = 500) => ({
    status,
    contentType: "application/json",
    body: { errors: [{ error_number: number, error, source: "slurm_load_job()" }] },
  });

  it("is a job that is not there, if its words say so", async () => {
    const { slurm } = await clientOf(() => answer("Job 7 not found", 1007), { version: "v0.0.44" });
    expect(await slurm.get("7")).toBeUndefined();
    expect(await slurm.cancel("7")).toBe("unknown");
  });

  it("is about the token otherwise", async () => {
    for (const words of ["Protocol authentication error", "authentication: user not found"]) {
      const { slurm } = await clientOf(() => answer(words, 1007), { version: "v0.0.44" });
      await expect(slurm.get("7")).rejects.toMatchObject({ code: "slurm-rest-refused" });
    }
  });
});

describe("the token", () => {
  const v40 = recordedOf("v0.0.40");

  it("is refused: Deferred, with what to do, and never shown", async () => {
    const { slurm } = await clientOf(() => v40.answers["no-token"] ?? text(401, "")());
    for (const call of [slurm.list(), slurm.submit(job), slurm.cancel("1")]) {
      const error = await call.catch((one: unknown) => one);
      expect(error).toBeInstanceOf(Deferred);
      expect(error).toMatchObject({ code: "slurm-rest-refused" });
      expect(JSON.stringify(error) + String(error)).not.toContain(TOKEN);
    }
  });

  it("is refused, and another is there: the request is sent once more with that", async () => {
    const better = tokenOf({ exp: 4e9, sun: USER, iat: 1 });
    const recorded = asRecorded(v40);
    const { slurm, server } = await clientOf(
      (asked) =>
        asked.headers["x-slurm-user-token"] === better
          ? recorded(asked)
          : { ...(v40.answers["expired-submit"] ?? text(511, "")()) },
      { version: "v0.0.40", token: (refused) => Promise.resolve(refused === undefined ? TOKEN : better) },
    );
    expect((await slurm.submit(job)).kind).toBe("submitted");
    expect(server.asked).toHaveLength(2);
  });

  it("says whose it is, unless the configuration does", async () => {
    const { slurm, server } = await clientOf(asRecorded(v40), { user: "root" });
    expect((await slurm.list()).jobs.map(({ id }) => id)).toEqual([String(v40.jobs.root)]);
    expect(server.asked[0]?.headers["x-slurm-user-name"]).toBe("root");
    const nameless = await clientOf(asRecorded(v40), { token: () => Promise.resolve("opaque") });
    await expect(nameless.slurm.list()).rejects.toThrow(
      expect.objectContaining({ code: "slurm-rest-token" }),
    );
  });
});
