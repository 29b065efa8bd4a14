import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { publishDataReady } from "../../src/broker/client.ts";
import { beamtime, eventually, TestSite, writeData } from "../support/site.ts";

const shell = (script: string) => ["/bin/sh", "-c", script, "sh", "{{ path }}", "{{ results }}"];
const when = (technique: string) => ({ technique });

const site = new TestSite([
  {
    name: "copy",
    on: when("copy"),
    run: shell('cat "$1" > "$2/copy.dat"; echo 1 > "$2/skip.tmp"'),
    results: ["*.dat"],
  },
  { name: "second", on: when("two"), run: shell("exit 0") },
  { name: "first", on: when("two"), run: shell("exit 0") },
  { name: "seven", on: when("seven"), run: shell("echo no such geometry >&2; exit 7") },
  { name: "segfault", on: when("segfault"), run: shell("kill -SEGV $$") },
  { name: "killed", on: when("killed"), run: shell("kill -KILL $$") },
  {
    name: "literal",
    on: when("literal"),
    run: ["/usr/bin/printf", "%s\\n", "{{ parameters.text }}", "{{ paths }}"],
  },
  {
    name: "impossible",
    on: when("impossible"),
    run: shell("exit 0"),
    slurm: { constraint: "no-such-feature" },
  },
  { name: "possible", on: when("impossible"), run: shell("exit 0") },
]);

beforeAll(() => site.startWorker());
afterAll(() => site.tearDown());

async function publish(technique: string, more: object = {}) {
  const data = writeData();
  const client = await site.client();
  const message = { path: data.path, bytes: data.bytes, technique, ...more };
  const { id } = await publishDataReady(client, message);
  return { ...data, id };
}

describe("one message, all the way", () => {
  it("becomes a job in the beamtime's reservation, and its end is announced with its results", async () => {
    const { id, path, corePath } = await publish("copy");
    const { data } = await site.event("job.completed", id);
    expect(data).toMatchObject({
      job: { trigger: "copy", method: "remote-sbatch-script", state: "completed" },
      slurm: { reservation: beamtime.reservation, partition: beamtime.partition },
      session: { beamline: "p11", id: "11010000", corePath: beamtime.corePath },
      cause: { id, type: "mento.data.ready.v1" },
      paths: [corePath],
      exit: { code: 0, signal: null, reason: null },
      error: null,
    });
    expect(beamtime.nodes).toContain(data.slurm.nodes[0]);
    expect(data.results).toMatchObject([{ bytes: 5, beamlinePath: null }]);
    expect(readFileSync(data.results[0]?.path ?? "", "utf8")).toBe(readFileSync(path, "utf8"));

    const kinds = site.jobEventsOf(id).map(({ type }) => type);
    expect(kinds).toEqual(["mento.job.submitted.v1", "mento.job.started.v1", "mento.job.completed.v1"]);
    const { ready, received, submitted, started, ended } = data.times;
    const times = [ready, received, submitted, started, ended].map((time) => Date.parse(time ?? ""));
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  it("becomes one job for each trigger that wants it", async () => {
    const { id } = await publish("two");
    await site.event("job.completed", id);
    await new Promise((resolve) => setTimeout(resolve, 3000));
    const completed = site.eventsOf(id).filter(({ type }) => type === "mento.job.completed.v1");
    // An event may come twice, with the same id.
    const triggers = new Map(completed.map((event) => [event.id, event.data.job.trigger]));
    expect([...triggers.values()].sort()).toEqual(["first", "second"]);
  });

  it("is handled beside another at the same time", async () => {
    const both = await Promise.all([publish("copy"), publish("copy")]);
    const ends = await Promise.all(both.map(({ id }) => site.event("job.completed", id)));
    expect(new Set(ends.map(({ data }) => data.slurm.jobId)).size).toBe(2);
  });

  it("published twice under one id runs once", async () => {
    const data = writeData();
    const client = await site.client();
    const message = { path: data.path, technique: "copy" };
    const { id } = await publishDataReady(client, message, { id: `twice-${data.path}`, source: "/test" });
    await site.event("job.completed", id);
    const { queue } = await client.link.consuming.createChannel().then((channel) => channel.assertQueue(""));
    const properties = { messageId: id, appId: "/test", replyTo: queue, correlationId: "scan 7" };
    const to = { exchange: client.topology.dataExchange, routingKey: "p11.-.data.ready" };
    await client.publisher.publish({ ...to, body: Buffer.from(JSON.stringify(message)), properties });
    const ignored = await site.event("message.ignored", id);
    const completedAgain = () =>
      site.eventsOf(id).filter(({ type }) => type === "mento.job.completed.v1").length > 1 || undefined;
    await eventually("its end is announced again", completedAgain);
    const events = site.jobEventsOf(id);
    expect(new Set(events.map((event) => event.data.slurm.jobId)).size).toBe(1);
    // Announced again, each is the same event.
    expect(new Set(events.map((event) => `${event.id} ${event.time}`)).size).toBe(3);
    const said = events.map(({ data }) => {
      return JSON.stringify({ ...data, correlationId: null, times: { ...data.times, ready: null } });
    });
    expect(new Set(said).size).toBe(3);
    const { submitted, ended } = events.at(-1)?.data.times ?? {};
    expect(ignored.data).toMatchObject({
      ...{ group: "default", reason: "already-run", correlationId: "scan 7" },
      reasons: [{ trigger: "copy", job: { id: events[0]?.data.job.id, submitted } }],
    });
    expect(Date.parse(ended ?? "")).toBeLessThan(Date.parse(ignored.time ?? ""));
    const answer = await eventually("its sender is answered", async () => {
      const channel = await client.link.consuming.createChannel();
      const got = await channel.get(queue, { noAck: true });
      await channel.close();
      return got === false ? undefined : got;
    });
    expect(answer.properties.correlationId).toBe("scan 7");
    expect(JSON.parse(answer.content.toString())).toEqual(ignored.data);
  });

  it("reaches the program as literal arguments, whatever it holds", async () => {
    const text = "; rm -rf ~ $(id) `id` 'quotes' \"double\" \n -option ü * \\";
    const { id, corePath } = await publish("literal", { parameters: { text } });
    const { data } = await site.event("job.completed", id);
    expect(readFileSync(`${data.job.directory}/job.log`, "utf8")).toBe(`${text}\n${corePath}\n`);
  });
});

describe("a job that does not complete", () => {
  it("with exit code 7 is announced as failed, with code, reason and the end of its log", async () => {
    const { id } = await publish("seven");
    const { data } = await site.event("job.failed", id);
    expect(data.exit).toEqual({ code: 7, signal: null, reason: "exit-code" });
    expect(data.error).toMatchObject({
      code: "exit-code",
      message: "The program ended with exit code 7. Its log ends: no such geometry",
    });
    expect(data.error?.hint).toContain(`${data.job.directory}/job.log`);
  });

  it("that a signal ended is announced with that signal", async () => {
    const { id } = await publish("segfault");
    const { data } = await site.event("job.failed", id);
    expect(data.exit).toMatchObject({ signal: "SIGSEGV", reason: "signal" });
    expect(data.error?.code).toBe("signal");
  });

  it("that SIGKILL ended is announced once Slurm has said that it was no memory limit", async () => {
    const { id } = await publish("killed");
    const { data } = await site.event("job.failed", id);
    expect(data.exit).toMatchObject({ signal: "SIGKILL", reason: "signal" });
  });

  it("because Slurm refuses it is rejected with Slurm's reports, and the other triggers' jobs run", async () => {
    const { id } = await publish("impossible");
    const { data: possible } = await site.event("job.completed", id);
    expect(possible.job.trigger).toBe("possible");
    const { data } = await site.event("message.rejected", id);
    expect(data.error?.code).toBe("submit-refused");
    expect(data.error?.message).toMatch(/feature/i);
  });
});
