import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TcpProxy } from "../../src/facility/tcp-proxy.ts";
import { MAIN, mento, tryMento } from "../support/mento.ts";
import { nodeThere, there } from "../support/servers.ts";
import { eventually, facility, TestSite, writeData, type AnyEvent } from "../support/site.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-commands-"));
const site = new TestSite([
  { name: "good", on: { technique: "good" }, run: ["/bin/true"] },
  { name: "bad", on: { technique: "bad" }, run: ["/bin/false"] },
]);

beforeAll(() => site.startWorker());
afterAll(async () => {
  await site.tearDown();
  rmSync(folder, { recursive: true });
});

const publish = (...args: string[]) =>
  tryMento(["publish", "data-ready", "-c", site.configFile, "--path", writeData().path, ...args]);

describe("mento publish data-ready", () => {
  it("prints the message's id, and with --wait its events: exit 0 when all jobs completed", async () => {
    const { code, stdout } = await publish("--technique", "good", "--wait");
    const lines = stdout.trim().split("\n");
    expect(lines[0]).toMatch(/^[0-9a-f-]{36}$/);
    expect(lines.at(-1)).toMatch(/job\.completed +good/);
    expect(code).toBe(0);
  });

  it("exits 1 when a job failed, or when no trigger wanted the message", async () => {
    const failed = await publish("--technique", "bad", "--wait");
    expect(failed.stdout).toContain("The program ended with exit code 1");
    expect(failed.code).toBe(1);
    const ignored = await publish("--technique", "other", "--wait");
    expect(ignored.stdout).toContain("technique is other; the trigger wants good");
    expect(ignored.code).toBe(1);
  });

  it("with --json prints the message and each event as sent", async () => {
    const { stdout } = await publish("--technique", "good", "--wait", "--json", "--parameters", '{"a": 1}');
    const [sent, ...events] = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as AnyEvent);
    expect(sent).toMatchObject({
      type: "mento.data.ready.v1",
      data: { technique: "good", parameters: { a: 1 } },
    });
    expect(events.at(-1)).toMatchObject({
      type: "mento.job.completed.v1",
      data: { cause: { id: sent?.id } },
    });
  });

  it("sends nothing that is not of the schema, and says why", async () => {
    const { code, stderr } = await publish("--beamtimeId", "../x");
    expect(code).toBe(1);
    expect(stderr).toContain("data.beamtimeId: must be an id like 11010000");
  });

  it("says what is wrong with the message also where the broker is away, and why no trigger wants it of the first", async () => {
    process.env["MENTO_BROKER_URL"] = "amqp://127.0.0.1:1";
    const publishing = publish("--beamtimeId", "../x");
    delete process.env["MENTO_BROKER_URL"];
    const { code, stderr } = await publishing;
    expect([code, stderr]).toEqual([1, expect.stringContaining("data.beamtimeId: must be an id")]);
    const names = Array.from({ length: 9 }, (_, nth) => `t${nth}`);
    const many = new TestSite(
      names.map((name) => ({ name, on: { technique: name }, run: ["/bin/true"] })),
      {},
    );
    await many.startWorker();
    const args = ["--path", writeData().path, "--technique", "none"];
    const unwanted = await tryMento(["publish", "data-ready", "-c", many.configFile, ...args]);
    expect(unwanted.stderr).toMatch(/t4: technique is none; .*; and 4 more \(mento trace \S+\)\.\n$/);
    await many.tearDown();
  });

  it("says what is wrong with its options: exit 2", async () => {
    expect((await tryMento(["publish", "data-ready", "-c", site.configFile])).code).toBe(2);
    const { code, stderr } = await publish("--parameters", "[1]");
    expect(code).toBe(2);
    expect(stderr).toContain("--parameters cannot be used: it is not a JSON object");
  });

  it("says that no worker has run yet where there are no exchanges: exit 3", async () => {
    const empty = new TestSite([]);
    for (const args of [[], ["--wait"]]) {
      const { code, stderr } = await tryMento([
        ...["publish", "data-ready", "-c", empty.configFile, "--path", "/gpfs/current/raw/x"],
        ...args,
      ]);
      expect(code).toBe(3);
      expect(stderr).toContain("[exchange-missing]");
    }
    await empty.tearDown();
  });
});

describe("mento watch", () => {
  it("waits for the first worker on the broker", async () => {
    const young = new TestSite([{ name: "good", run: ["/bin/true"] }]);
    const watch = spawn(...there(nodeThere(), [MAIN, "watch", "-c", young.configFile]), { stdio: "pipe" });
    let stdout = "";
    let stderr = "";
    watch.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    watch.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    try {
      await eventually("waiting", () => stderr.includes("Waiting for the first worker") || undefined);
      await young.startWorker();
      await tryMento(["publish", "data-ready", "-c", young.configFile, "--path", writeData().path]);
      await eventually("its first job's events", () => stdout.includes("job.completed") || undefined);
      expect(stdout).toContain("job.submitted");
      expect(stderr).toContain("a worker has started; no event is missed");
    } finally {
      watch.kill("SIGINT");
      await young.tearDown();
    }
  });

  it("prints events as they happen, one line each, of the wanted types", async () => {
    const args = ["watch", "-c", site.configFile, "--beamline", "p11", "--type", "job.completed"];
    const watch = spawn(...there(nodeThere(), [MAIN, ...args]), { stdio: "pipe" });
    let stdout = "";
    let stderr = "";
    watch.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    watch.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    await eventually("watching", () => (stderr.includes("watching") ? true : undefined));
    await publish("--technique", "good", "--wait");
    await eventually("a line", () => (stdout.includes("\n") ? true : undefined));
    watch.kill("SIGINT");
    expect(stdout.trim().split("\n")).toEqual([
      expect.stringMatching(/^\d\d:\d\d:\d\d +job\.completed +good/),
    ]);
  });
});

describe("mento watch of the past", () => {
  it("ends with the last event so far, or with the time that is named", async () => {
    const { path } = writeData();
    const { code: ran } = await tryMento([
      ...["publish", "data-ready", "-c", site.configFile, "--path", path, "--technique", "good", "--wait"],
    ]);
    expect(ran).toBe(0);
    const args = ["watch", "-c", site.configFile, "--since", "1h", "--path", basename(path)];
    const { stdout, code } = await tryMento([...args, "--no-follow"]);
    expect(code).toBe(0);
    const types = stdout
      .trim()
      .split("\n")
      .map((line) => line.split(/\s+/)[1]);
    expect(types).toEqual(["job.submitted", "job.started", "job.completed"]);
    const past = await tryMento([...args, "--until", "30m"]);
    expect(past).toMatchObject({ code: 0, stdout: "" });
  });

  it.each([
    [["--no-follow"], "from --since until now"],
    [["--no-follow", "--since", "1h", "--until", "1m"], "from --since until now"],
    [["--since", "1h", "--until", "2h"], "--until is not after --since"],
    [["--until", "2h"], "--until is not after now, where --since begins"],
    [["--until", "soon"], "It looks like 90s"],
  ])("%j is refused in words: exit 2", async (args, words) => {
    const { code, stderr } = await tryMento(["watch", "-c", site.configFile, ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(words);
  });

  it("says which trigger, session or beamline is not known here, and watches all the same", async () => {
    const names = ["--trigger", "azimutal", "--session", "99999999", "--beamline", "p99"];
    const args = ["watch", "-c", site.configFile, ...names, "--since", "1h", "--no-follow"];
    const { code, stderr } = await tryMento(args);
    expect(code).toBe(0);
    for (const name of ["trigger azimutal", "session 99999999", "beamline p99"])
      expect(stderr).toContain(`${name} is not known here`);
    expect((await tryMento(["watch", "-c", site.configFile, "--since", "1h", "--no-follow"])).stderr).toBe(
      "",
    );
  });
});

describe("mento watch --since", () => {
  it("prints first the events since then, and goes on over a broker that was lost: each once", async () => {
    const url = new URL(facility.broker.url);
    const proxy = await TcpProxy.to(Number(url.port));
    url.port = String(proxy.port);
    const past = await publish("--technique", "good", "--wait");
    const args = ["watch", "-c", site.configFile, "--since", "1h", "--json", "--type", "job.*", "message.*"];
    const env = { ...process.env, MENTO_BROKER_URL: url.href };
    const watch = spawn(...there(nodeThere(), [MAIN, ...args]), { stdio: "pipe", env });
    let stdout = "";
    let stderr = "";
    watch.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    watch.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    const idOf = ({ stdout: lines }: { stdout: string }) => lines.split("\n")[0] ?? "";
    const completed = (id: string) =>
      eventually("job.completed", () => new RegExp(`job.completed.*"${id}"`).test(stdout) || undefined);
    await completed(idOf(past));
    proxy.set("stall");
    proxy.cut();
    await eventually(
      "it says that the broker is lost",
      () => stderr.includes("Connecting again") || undefined,
    );
    const meanwhile = await publish("--technique", "good", "--wait");
    proxy.set("pass");
    await completed(idOf(meanwhile));
    expect(stderr).toContain("connected again; no event is missed");
    watch.kill("SIGINT");
    await proxy.close();
    const ids = stdout
      .split("\n")
      .filter(Boolean)
      .map((line) => (JSON.parse(line) as AnyEvent).id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it("says what is wrong with its options, even if the broker is away: exit 2", async () => {
    const watch = (...args: string[]) => tryMento(["watch", "-c", site.configFile, ...args]);
    expect((await watch("--since", "soon")).stderr).toContain("It looks like 90s, 30m, 2h, 3d");
    expect((await watch("--since", "2999-01-01")).stderr).toContain("It is in the future");
    expect((await watch("--type", "completed")).stderr).toContain("It looks like job.completed, job.*");
    const args = ["watch", "-c", site.configFile, "--since", "soon"];
    const away = await tryMento(args, { env: { MENTO_BROKER_URL: "amqp://127.0.0.1:1" } });
    expect(away.code).toBe(2);
  });
});

describe("mento validate", () => {
  it("takes good messages and configurations, from a file or standard input", async () => {
    await mento("validate", "schemas/examples/good/cloud-event-data-ready.json");
    await mento("validate", site.configFile);
    const { code, stdout } = await tryMento(["validate", "-"], { input: '{"path": "/gpfs/current/raw/a"}' });
    expect(code).toBe(0);
    expect(stdout).toContain("a valid mento.data.ready.v1 message with 1 path");
  });

  it("says what is wrong, where, and what would be right: exit 1", async () => {
    const message = await tryMento(["validate", "-"], { input: '{"path": "/a", "filename": "b"}' });
    expect(message.code).toBe(1);
    expect(message.stdout).toContain("filename");
    expect(message.stdout).toContain("data.parameters");
    const file = join(folder, "wrong.yaml");
    writeFileSync(file, "worker:\n  concurrency: many\n");
    const config = await tryMento(["validate", file]);
    expect(config.code).toBe(1);
    expect(config.stdout).toContain(`${file}:2:3: worker.concurrency:`);
  });

  it("says that a file is not there: exit 2", async () => {
    expect((await tryMento(["validate", "/nonexistent"])).code).toBe(2);
  });
});

describe("mento init", () => {
  it("writes a configuration that works against the open beamtime, and never over a file", async () => {
    const file = join(folder, "mento.yaml");
    const { stdout } = await mento("init", file, "--facility", facility.dir);
    expect(stdout).toContain("Open: beamtime 11010000 at p11");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    await mento("validate", file);
    expect(readFileSync(file, "utf8")).toContain('keys: ["p11.#","-.#"]');
    const [, schema = ""] = /^# yaml-language-server: \$schema=(.*)$/m.exec(readFileSync(file, "utf8")) ?? [];
    expect(JSON.parse(readFileSync(new URL(schema), "utf8"))).toHaveProperty("title", "mento.yaml");
    expect((await tryMento(["init", file, "--facility", facility.dir])).code).toBe(2);

    const worker = spawn(...there(nodeThere(), [MAIN, "worker", "-c", file]), { stdio: "pipe" });
    let log = "";
    worker.stdout.on("data", (chunk: Buffer) => (log += chunk.toString()));
    await eventually("ready", () => (log.includes('"msg":"ready"') ? true : undefined));
    const data = writeData();
    const publishing = await tryMento(["publish", "data-ready", "-c", file, "--path", data.path, "--wait"]);
    worker.kill("SIGTERM");
    expect(publishing.stdout).toMatch(/job\.completed +checksum/);
    expect(publishing.code).toBe(0);
  });

  it("without a facility writes the beamline's usual places", async () => {
    const file = join(folder, "beamline.yaml");
    await mento("init", file);
    expect(readFileSync(file, "utf8")).toContain('gpfs: "/gpfs"');
    await mento("validate", file);
  });
});

it("an unknown command or option is wrong usage: exit 2", async () => {
  expect((await tryMento(["wurker"])).code).toBe(2);
  expect((await tryMento(["worker", "--concurency", "3"])).code).toBe(2);
  expect((await tryMento(["--version"])).stdout.trim()).toMatch(/^\d+\.\d+\.\d+$/);
});
