import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Channel, Options } from "amqplib";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { connectBroker, publishDataReady, type BrokerClient } from "../../src/broker/client.ts";
import { DeadLetters } from "../../src/broker/dead-letters.ts";
import type { DeadLetter } from "../../src/messages/dead-letter.ts";
import { brokerPolicy, type BrokerPolicy } from "../support/broker-policy.ts";
import { MAIN, run, tryMento } from "../support/mento.ts";
import { eventually, facility, TestSite, writeData, writeOnCore, type AnyEvent } from "../support/site.ts";
import { openTcpProxy } from "../support/tcp-proxy.ts";
import { nodeThere } from "../support/servers.ts";

const site = new TestSite([
  { name: "powder", on: { technique: ["powder", "both"] }, run: ["/bin/true", "{{ path }}"], dataTimeout: 4 },
  { name: "geometry", on: { technique: ["geometry", "both"] }, run: ["/bin/true", "{{ parameters.poni }}"] },
]);
const deadQueue = `${site.prefix}.dead`;
let client: BrokerClient;
let channel: Channel;

beforeAll(async () => {
  await site.startWorker();
  client = await site.client();
  channel = await client.link.consuming.createChannel();
});
afterEach(async () => {
  for (const queue of [deadQueue, `${deadQueue}.returned`]) await channel.purgeQueue(queue);
});
afterAll(() => site.tearDown());

const dead = (...args: string[]) => tryMento(["dead", ...args, "-c", site.configFile]);
/** What is left of the header that the messages here have. */
const OTHERS = { "mento-other-headers": '{"theirs":"kept"}' };

const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const newId = (name: string) => `${name}-${randomUUID().slice(0, 8)}`;
const linesOf = (stdout: string) =>
  stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
const listed = async (...options: string[]) =>
  linesOf((await dead("list", "--json", ...(options.length === 0 ? ["--all-groups"] : options))).stdout);

/** Publishes what a worker rejects, and waits until it has. */
async function reject(id: string, body: Buffer, properties: Options.Publish = {}): Promise<void> {
  const before = site.eventsOf(id).length;
  await client.publisher.publish({
    exchange: client.topology.dataExchange,
    routingKey: "p11.-.data.ready",
    body,
    properties: { ...properties, messageId: id },
  });
  await eventually(`${id} is rejected`, () =>
    site
      .eventsOf(id)
      .slice(before)
      .find(({ type }) => type === "mento.message.rejected.v1"),
  );
}

/** Puts a letter into the queue as a worker does. */
async function putLetter(id: string, headers: Record<string, unknown> = {}, body = json({ path: "/etc/x" })) {
  const properties = {
    messageId: id,
    headers: { "mento-error-code": "not-json", "mento-queue": client.topology.intakeQueue, ...headers },
  };
  await client.publisher.publish({ exchange: "", routingKey: deadQueue, body, properties });
}

/** Reads all letters in this process, as every command does, and puts them back. */
async function readOnce(): Promise<DeadLetter[]> {
  const deadLetters = await DeadLetters.open(client);
  const found: DeadLetter[] = [];
  for await (const deadLetter of deadLetters.read()) found.push(deadLetter);
  await deadLetters.close();
  return found;
}

describe("why was my message not processed", () => {
  it("list says it in one line each: id, when, whose, code, file, sentence", async () => {
    const [one, other] = [newId("oops"), newId("outside")];
    await reject(one, Buffer.from("{oops"));
    await reject(other, json({ path: "/etc/passwd", technique: "powder" }));
    const { code, stdout, stderr } = await dead("list");
    expect(code).toBe(0);
    const lines = stdout.trim().split("\n");
    expect(lines).toEqual([
      expect.stringMatching(`^${one}  20\\d\\d-\\S*:\\d\\d  default  not-json  -  The message is not JSON`),
      expect.stringMatching(
        `^${other}  20\\S*  default  path-outside-beamtime  passwd  /etc/passwd does not`,
      ),
    ]);
    expect(stderr).toContain(`2 dead letters of group default on ${deadQueue}`);
    expect(await listed()).toMatchObject([
      { id: one, error: { code: "not-json" }, queue: client.topology.intakeQueue, attempts: 0 },
      { id: other, error: { code: "path-outside-beamtime" }, paths: ["/etc/passwd"] },
    ]);
  });

  it("show prints all of one: why, what to do, headers, the body set out", async () => {
    const id = newId("show");
    await reject(id, json({ path: "/etc/passwd", technique: "powder" }), { headers: { theirs: "kept" } });
    const { stdout } = await dead("show", id.slice(0, 8));
    expect(stdout).toContain("does not lie in this beamtime");
    expect(stdout).toContain("what to do: Send an absolute path inside the beamtime");
    expect(stdout).toContain('header mento-other-headers: {"theirs":"kept"}');
    expect(stdout).toContain('{\n  "path": "/etc/passwd",\n  "technique": "powder"\n}');
    const [shown] = linesOf((await dead("show", id, "--json")).stdout);
    expect(shown).toMatchObject({ id, headers: OTHERS, properties: { messageId: id } });
    expect(JSON.parse(String(shown?.["body"]))).toEqual({ path: "/etc/passwd", technique: "powder" });
  });

  it("takes bodies that are binary, of 1 MiB, or meant for the terminal", async () => {
    const [binary, large, odd] = [newId("binary"), newId("large"), `\u001b[31m${newId("odd")}`];
    const bytes = Buffer.from([0, 1, 2, 255, 27]);
    await putLetter(binary, {}, bytes);
    await putLetter(large, {}, Buffer.alloc(1024 * 1024, 0x61));
    await putLetter(odd, { "mento-error-message": "two\nlines\u001b[2J" }, Buffer.alloc(0));
    const list = await dead("list");
    expect(list.stdout.split("\n").length).toBe(4);
    expect(list.stdout).not.toContain("\u001b");
    expect((await dead("show", binary)).stdout).toContain("00 01 02 ff 1b");
    const [shown] = linesOf((await dead("show", binary, "--json")).stdout);
    expect(Buffer.from(String(shown?.["bodyBase64"]), "base64")).toEqual(bytes);
    expect((await dead("show", large)).stdout.length).toBeGreaterThan(1024 * 1024);
    expect((await dead("show", odd)).code).toBe(0);
    expect((await readOnce()).length).toBe(3);
  });

  it("says so if there is none, and no such one: exit 0 and 1", async () => {
    const commands = [["list"], ["summary"], ["replay"], ["drop", "--all"], ["replay", "--dry-run"]];
    for (const command of commands) {
      const { code, stdout, stderr } = await dead(...command);
      expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
      expect(stderr).toMatch(/no dead letters( of group default)? on /);
    }
    await putLetter("there-1");
    await putLetter("there-2");
    for (const command of ["show", "replay", "drop"]) {
      const unknown = await dead(command, "nowhere");
      expect(unknown.code).toBe(1);
      expect(unknown.stderr).toContain(`There is no dead letter nowhere on ${deadQueue}.`);
      const unclear = await dead(command, "there");
      expect(unclear.code).toBe(1);
      expect(unclear.stderr).toContain("2 dead letters");
    }
    expect((await listed()).length).toBe(2);
  });

  it("says what is wrong with its options: exit 2", async () => {
    expect((await dead("drop")).code).toBe(2);
    expect((await dead("drop", "some-id", "--all")).code).toBe(2);
    expect((await dead("replay", "--rate", "fast")).code).toBe(2);
    expect((await dead("list", "--group", "a", "--all-groups")).code).toBe(2);
    expect((await dead("replay", "some-id", "--code", "not-json")).code).toBe(2);
    expect((await dead("list", "--since", "tomorrow")).code).toBe(2);
    const code = await dead("list", "--code", "not-jason");
    expect(code.code).toBe(2);
    expect(code.stderr).toContain("Did you mean not-json?");
    const trigger = await dead("replay", "--to-trigger", "pwder");
    expect(trigger.code).toBe(2);
    expect(trigger.stderr).toContain("It has powder, geometry");
  });

  it("says that no worker has run yet, or that the broker is out of reach: exit 3", async () => {
    const empty = new TestSite([]);
    const { code, stderr } = await tryMento(["dead", "list", "-c", empty.configFile]);
    expect(code).toBe(3);
    expect(stderr).toContain(`The broker has no queue ${empty.prefix}.dead.`);
    await empty.tearDown();
    const away = await tryMento(["dead", "list", "-c", site.configFile], {
      env: { MENTO_BROKER_URL: "amqp://127.0.0.1:1" },
    });
    expect(away.code).toBe(3);
    expect(away.stderr).toContain("[broker-unreachable]");
  });
});

describe("replay", () => {
  it("runs what has become possible meanwhile, and takes the letter away", async () => {
    const data = writeData("data", `late_${randomUUID()}.dat`);
    rmSync(join(facility.roots.gpfs, "current/raw", data.path.split("/").at(-1) ?? ""));
    rmSync(data.corePath, { force: true });
    const { id } = await publishDataReady(client, { path: data.path, technique: "powder" });
    await site.event("message.rejected", id);
    writeData("data", data.path.split("/").at(-1));
    const { code, stdout } = await dead("replay", id);
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: `${id}  replayed to ${client.topology.intakeQueue}\n`,
    });
    await site.event("job.completed", id);
    expect(await listed()).toEqual([]);
  });

  it("keeps the message's id: what has run is not run again; with --again it is, once, under an id that shows it", async () => {
    const id = newId("both");
    const envelope = {
      ...{ specversion: "1.0", id, source: "/test", type: "mento.data.ready.v1" },
      data: { path: writeOnCore(), technique: "both" },
    };
    // One of its triggers runs, the other lacks a value.
    await reject(id, json(envelope));
    const first = await site.event("job.completed", id);
    const rejections = () => site.eventsOf(id).filter(({ type }) => type.includes("rejected")).length;
    expect((await dead("replay")).code).toBe(0);
    await eventually("rejected again", () => (rejections() === 2 ? true : undefined));
    const jobs = new Set(site.jobEventsOf(id).map(({ data }) => data.slurm.jobId));
    expect(jobs).toEqual(new Set([first.data.slurm.jobId]));

    const again = linesOf((await dead("replay", "--again", "--json")).stdout)[0];
    expect(again?.["sentAs"]).toMatch(`${id}/again-20`);
    const second = await site.event("job.completed", String(again?.["sentAs"]));
    expect(second.data.slurm.jobId).not.toBe(first.data.slurm.jobId);
    expect(second.data.cause.source).toBe("/test");
  });

  it("--to-trigger runs that trigger alone, whatever its `on` says", async () => {
    const id = newId("forced");
    await reject(id, json({ path: writeOnCore(), technique: "geometry" }));
    expect((await dead("replay", id, "--to-trigger", "powder")).code).toBe(0);
    const { data } = await site.event("job.completed", id);
    expect(data.job.trigger).toBe("powder");
    expect(await listed()).toEqual([]);
  });

  it("--dry-run changes nothing, and says what the workers would do", async () => {
    const [good, bad, unwanted] = [newId("good"), newId("bad"), newId("unwanted")];
    await putLetter(good, {}, json({ path: "/etc/x", technique: "both" }));
    await putLetter(bad, {}, Buffer.from("{oops"));
    await putLetter(unwanted, {}, json({ path: "/etc/x" }));
    const { code, stdout } = await dead("replay", "--dry-run");
    expect(code).toBe(0);
    expect(stdout).toContain(`${good}  would run powder, geometry`);
    expect(stdout).toContain(`${bad}  would be rejected again: The message is not JSON`);
    expect(stdout).toContain(`${unwanted}  no trigger would want it: powder: the message has no technique`);
    expect((await listed()).map(({ id }) => id)).toEqual([good, bad, unwanted]);
    expect(site.eventsOf(bad)).toEqual([]);
  });

  it("of all takes only those that were there: what comes back meanwhile waits for a person", async () => {
    const ids = [newId("a"), newId("b"), newId("c")];
    for (const id of ids) await reject(id, Buffer.from("{oops"));
    // So slowly that the first are back before the last are sent.
    const { stdout, stderr } = await dead("replay", "--rate", "1/s");
    expect(stdout.trim().split("\n").length).toBe(3);
    expect(stderr).toContain("3 replayed");
    await eventually("all are back", async () => ((await listed()).length === 3 ? true : undefined));
  });

  it("sends a message that was rejected twice once, and both letters are gone; other data of the same id goes too", async () => {
    const id = newId("twice");
    await putLetter(id, {}, Buffer.from("{oops"));
    await putLetter(id, { "mento-first-seen": "2026-11-22T12:00:00.000Z" }, Buffer.from("{oops"));
    await putLetter(id, {}, Buffer.from("{other"));
    expect((await listed()).length).toBe(3);
    const outcomes = linesOf((await dead("replay", id, "--json")).stdout).map(({ outcome }) => outcome);
    expect(outcomes).toEqual(["sent", "duplicate", "sent"]);
    await eventually("both are rejected again", async () =>
      (await listed()).length === 2 ? true : undefined,
    );
  });

  it("that dies between sending and removing leaves the letter; the next one does no harm", async () => {
    const id = newId("died");
    const body = json({ path: writeOnCore(), technique: "powder" });
    await putLetter(id, {}, body);
    const dying = await connectBroker({ url: facility.broker.url, prefix: site.prefix });
    const deadLetters = await DeadLetters.open(dying);
    for await (const { body: sent, queue } of deadLetters.read()) {
      const properties = { messageId: id };
      await dying.publisher.publish({ exchange: "", routingKey: queue ?? "", body: sent, properties });
      break;
    }
    await dying.close();
    const first = await site.event("job.completed", id);
    expect((await listed()).map((one) => one["id"])).toEqual([id]);

    const submitted = site.jobEventsOf(id).length;
    expect((await dead("replay")).code).toBe(0);
    await eventually("announced again", () => (site.jobEventsOf(id).length > submitted ? true : undefined));
    expect(new Set(site.jobEventsOf(id).map(({ data }) => data.slurm.jobId))).toEqual(
      new Set([first.data.slurm.jobId]),
    );
    expect(await listed()).toEqual([]);
  });

  it("leaves a letter whose queue is gone, or that no worker has put there: exit 1", async () => {
    await putLetter("gone-1", { "mento-queue": `${site.prefix}.gone.intake` });
    await client.publisher.publish({
      exchange: "",
      routingKey: deadQueue,
      body: Buffer.from("by hand"),
      properties: { messageId: "hand-1" },
    });
    const { code, stdout } = await dead("replay", "--all-groups");
    expect(code).toBe(1);
    expect(stdout).toContain(`gone-1  left: The broker has no queue for ${site.prefix}.gone.intake`);
    expect(stdout).toContain("hand-1  left: it does not say which queue it came from");
    expect((await listed()).length).toBe(2);
  });

  it("sends what the broker itself gave up to the queue that it came from", async () => {
    const queue = `${site.prefix}.limited.intake`;
    await channel.assertQueue(queue, {
      durable: true,
      arguments: {
        ...{ "x-queue-type": "quorum", "x-delivery-limit": 1 },
        ...{ "x-dead-letter-exchange": "", "x-dead-letter-routing-key": deadQueue },
      },
    });
    const properties = { messageId: "limit-1", headers: { "mento-queue": "forged", theirs: "kept" } };
    const body = json({ path: "/x" });
    await client.publisher.publish({ exchange: "", routingKey: queue, body, properties });
    await eventually("given up", async () => {
      const message = await channel.get(queue);
      if (message !== false) channel.nack(message, false, true);
      return (await listed()).length === 1 ? true : undefined;
    });
    expect((await listed())[0]).toMatchObject({ id: "limit-1", queue, error: { code: null } });
    expect((await dead("list", "--group", "limited")).stdout).toMatch(
      /limit-1 .* {2}limited {2}- {2}x {2}Workers took it from .* again and again/,
    );
    expect((await dead("replay", "--group", "limited")).stdout).toContain(`limit-1  replayed to ${queue}`);
    const back = await eventually("back in its queue", async () => (await channel.get(queue)) || undefined);
    expect(back.properties.headers).toMatchObject(OTHERS);
    expect(back.properties.headers).not.toHaveProperty("mento-queue");
    await channel.deleteQueue(queue);
  });
});

describe("replay of a job's event that RabbitMQ itself gave up", () => {
  // Another group, whose trigger follows, so that its events wait while it has no worker.
  const later = new TestSite(
    [
      {
        name: "after",
        on: { type: "job.completed", trigger: "powder", group: "default" },
        run: ["/bin/true"],
      },
    ],
    { worker: { group: "later" } },
    undefined,
    site.prefix,
  );
  const queue = `${site.prefix}.later.intake`;
  const replayLater = (...args: string[]) => tryMento(["dead", "replay", ...args, "-c", later.configFile]);
  let policy: BrokerPolicy;
  let event: AnyEvent;

  beforeAll(async () => {
    await (await later.startWorker()).stop();
    policy = await brokerPolicy(`^${queue.replaceAll(".", "\\.")}$`, { "delivery-limit": 1 });
  });
  afterAll(async () => {
    await policy.remove();
    await later.tearDown();
  });

  /** Takes all that waits for the group, and gives it back, until RabbitMQ has given these up. */
  async function untilGivenUp(...ids: string[]): Promise<void> {
    await eventually("given up", async () => {
      for (let message = await channel.get(queue); message !== false; message = await channel.get(queue)) {
        channel.nack(message, false, true);
      }
      const deadLetters = (await listed()).map(({ id }) => id);
      return ids.every((id) => deadLetters.includes(id)) ? true : undefined;
    });
  }

  it("sends it as the event that it was, and its trigger follows", async () => {
    const { id } = await publishDataReady(client, { path: writeOnCore(), technique: "powder" });
    event = await site.event("job.completed", id);
    // The message itself waits there too, and no trigger of the group wants it.
    await untilGivenUp(id, event.id);
    const { stdout } = await replayLater("--dry-run");
    expect(stdout).toMatch(new RegExp(`^${event.id} .*would run after$`, "m"));
    await replayLater();
    await later.startWorker();
    await site.eventOf("job.completed", id, "after");
    expect(site.events.filter(({ data }) => data.error?.code === "event-not-believed")).toEqual([]);
    await Promise.all(later.workers.map((worker) => worker.stop()));
  });

  it("but not one that says so itself, whatever it says of its deaths", async () => {
    const { specversion, source, type, data } = event;
    const forged = { specversion, source, type, id: newId("forged"), data };
    const death = {
      ...{ queue, reason: "delivery_limit", exchange: client.topology.eventsExchange, count: 0 },
      "routing-keys": ["p11.-.job.completed"],
    };
    await client.publisher.publish({
      exchange: client.topology.dataExchange,
      routingKey: "p11.-.data.ready",
      body: json(forged),
      properties: {
        messageId: forged.id,
        type,
        headers: {
          "x-death": [death],
          "x-first-death-exchange": death.exchange,
          "mento-exchange": death.exchange,
        },
      },
    });
    // Of this group's worker, which rejects it at once.
    await eventually("rejected", () =>
      site.events.find(({ data: { error } }) => error?.code === "event-not-believed"),
    );
    await channel.purgeQueue(deadQueue);
    await untilGivenUp(forged.id);
    const { stdout } = await replayLater(forged.id, "--dry-run");
    expect(stdout).toContain("would be rejected again");
    await replayLater(forged.id);
    const back = await eventually("back in its queue", async () => (await channel.get(queue)) || undefined);
    expect(back.properties.headers).not.toHaveProperty("mento-exchange");
    channel.ack(back);
  });
});

describe("of several groups, a command", () => {
  const of = (group: string, more: object = {}) => ({
    "mento-queue": `${site.prefix}.${group}.intake`,
    ...more,
  });
  const ids = async (...options: string[]) => (await listed(...options)).map(({ id }) => id);

  it("takes its own group's unless it is told which, and says how many others there are", async () => {
    await putLetter("own-1");
    await putLetter("other-1", of("p62"));
    await putLetter("other-2", of("p62", { "mento-error-code": "wrong-beamline" }));
    expect(await ids("--code", "not-json")).toEqual(["own-1"]);
    const list = await dead("list");
    expect(list.stderr).toContain("1 dead letter of group default on ");
    expect(list.stderr).toContain("; 2 of other groups: --all-groups");
    expect(await ids("--group", "p62")).toEqual(["other-1", "other-2"]);
    const dropping = await dead("drop", "--all");
    expect(dropping.stderr).toMatch(/^dropping the dead letters of group default\n/);
    expect(dropping.stdout).toContain("own-1");
    expect((await dead("replay")).stderr).toMatch(/^replaying the dead letters of group default\nno dead/);
    expect(await ids()).toEqual(["other-1", "other-2"]);
    await dead("drop", "--all", "--group", "p62", "--code", "wrong-beamline");
    expect(await ids()).toEqual(["other-1"]);
    await dead("drop", "--all", "--all-groups");
    expect(await ids()).toEqual([]);
  });

  it("chooses by path, beamline and time; and counts them by code and trigger", async () => {
    const letter = (path: string, beamline: string) => json({ path, beamline });
    const seen = (time: string) => ({ "mento-first-seen": time });
    await putLetter("a", seen("2026-11-22T12:00:00.000Z"), letter("/gpfs/current/raw/s1/a.h5", "p11"));
    await putLetter("b", seen(new Date().toISOString()), letter("/gpfs/current/raw/s2/b.h5", "p11"));
    await putLetter(
      "c",
      of("default", { "mento-trigger": "powder" }),
      letter("/gpfs/current/raw/s2/c.h5", "p62"),
    );
    expect(await ids("--path", "raw/s2/")).toEqual(["b", "c"]);
    expect(await ids("--beamline", "P11")).toEqual(["a", "b"]);
    expect(await ids("--since", "1h")).toEqual(["b"]);
    const { stdout } = await dead("summary", "--json");
    expect(linesOf(stdout)).toMatchObject([
      { group: "default", code: "not-json", trigger: null, count: 2, path: "/gpfs/current/raw/s2/b.h5" },
      { group: "default", code: "not-json", trigger: "powder", count: 1 },
    ]);
    const [first] = (await dead("summary")).stdout.split("\n");
    expect(first).toMatch(/^ +2 {2}not-json {2}default {2}newest 20\S+ {2}b\.h5$/);
  });
});

describe("drop", () => {
  it("removes those named, or all, and prints what it removes", async () => {
    for (const id of ["drop-1", "drop-2", "drop-3"]) await putLetter(id);
    const one = await dead("drop", "drop-2");
    expect(one.stdout).toContain("drop-2  ");
    expect((await listed()).map(({ id }) => id)).toEqual(["drop-1", "drop-3"]);
    const all = await dead("drop", "--all", "--json");
    expect(linesOf(all.stdout)).toMatchObject([
      { id: "drop-1", body: '{"path":"/etc/x"}' },
      { id: "drop-3", body: '{"path":"/etc/x"}' },
    ]);
    expect(await listed()).toEqual([]);
  });
});

describe("the letters are safe", () => {
  it.each([20, 5, 1, 0])("however often they are read, with a policy of %i deliveries", async (limit) => {
    const policy = await brokerPolicy(`^${site.prefix}\\.`, { "delivery-limit": limit });
    try {
      const ids = ["often-1", "often-2", "often-3"];
      for (const id of ids) await putLetter(id, { theirs: "kept" });
      await policyApplies();
      for (let reading = 0; reading < 25; reading++) {
        await areBack(ids.length);
        const found = await readOnce();
        expect(found.map(({ cause }) => cause.id).sort()).toEqual(ids);
        for (const { received, error, queue } of found) {
          expect(received.otherHeaders).toBe('{"theirs":"kept"}');
          expect({ code: error.code, queue }).toEqual({
            code: "not-json",
            queue: client.topology.intakeQueue,
          });
        }
      }
      await areBack(ids.length);
      const one = await DeadLetters.open(client);
      for await (const deadLetter of one.read()) one.keep(deadLetter);
      await one.close();
      await areBack(ids.length);
      expect((await dead("replay", "--dry-run")).stderr).toContain("3 dead letters");
      await areBack(ids.length);
      expect((await dead("drop", "--all")).stderr).toContain("dropped 3 dead letters");
      expect(await listed()).toEqual([]);
    } finally {
      await policy.remove();
    }
  });

  it("when the reader of the command's output stops reading", async () => {
    for (let deadLetter = 0; deadLetter < 30; deadLetter++) {
      await putLetter(`piped-${deadLetter}`, {}, Buffer.alloc(20_000, 0x61));
    }
    for (const command of ["list", "list --json", "replay --dry-run", "show piped-7"]) {
      const line = `"$1" "$2" dead ${command} -c "$3" | head -n 1`;
      await run("/bin/sh", ["-c", line, "sh", nodeThere(), MAIN, site.configFile]);
      expect((await listed()).length).toBe(30);
    }
  });

  it("when the reader is killed: they are back where they were", async () => {
    for (const id of ["killed-1", "killed-2"]) await putLetter(id);
    const url = new URL(facility.broker.url);
    const proxy = await openTcpProxy(Number(url.port));
    url.port = String(proxy.port);
    const other = await connectBroker({ url: url.href, prefix: site.prefix });
    const deadLetters = await DeadLetters.open(other);
    for await (const deadLetter of deadLetters.read()) deadLetters.keep(deadLetter);
    proxy.close();
    await eventually("both are back", async () => ((await listed()).length === 2 ? true : undefined));
    expect((await listed()).map(({ id }) => id)).toEqual(["killed-1", "killed-2"]);
  });

  it("from two at once: the second waits, then says that another is at them", async () => {
    await putLetter("busy-1");
    const other = await connectBroker({ url: facility.broker.url, prefix: site.prefix });
    const deadLetters = await DeadLetters.open(other);
    const waiting = dead("list");
    const { code, stderr } = await waiting;
    expect(code).toBe(1);
    expect(stderr).toContain("[dead-letters-busy]");
    const patient = dead("list");
    await deadLetters.close();
    expect((await patient).stdout).toContain("busy-1");
    await other.close();
  });
});

/** RabbitMQ applies a policy to queues that are there a moment after it has answered. */
/** Beyond a policy's limit RabbitMQ itself moves them to the queue for returned ones, and tells nobody when it has. */
async function areBack(count: number): Promise<void> {
  const { deadQueue, returnedQueue } = client.topology;
  const channel = await client.link.consuming.createChannel();
  await eventually("the letters are back", async () => {
    const queues = await Promise.all([deadQueue, returnedQueue].map((queue) => channel.checkQueue(queue)));
    return queues.reduce((sum, { messageCount }) => sum + messageCount, 0) === count || undefined;
  });
  await channel.close();
}

async function policyApplies(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 500));
}
