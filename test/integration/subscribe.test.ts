import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { connectBroker, publishDataReady, type BrokerClient } from "../../src/broker/client.ts";
import { subscribe, type SubscribeOptions } from "../../src/broker/subscribe.ts";
import type { MentoError } from "../../src/errors.ts";
import { TcpProxy } from "../../src/facility/tcp-proxy.ts";
import { isDataReadyEvent, isJobEvent, isMessageEvent } from "../../src/messages/announced-event.ts";
import { brokerLogin } from "../support/broker-login.ts";
import { codeOf } from "../support/code-of.ts";
import { EventSource, listen } from "../support/event-source.ts";
import { eventually, facility } from "../support/site.ts";

const source = new EventSource(facility.broker.url);
const closing: (() => unknown)[] = [];

beforeAll(() => source.declare());
afterAll(() => source.close());
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const newName = () => randomUUID().slice(0, 8);
const ago = (seconds: number) => new Date(Date.now() - seconds * 1000);

async function connect(of = source): Promise<BrokerClient> {
  const client = await connectBroker({ url: of.url, prefix: of.prefix });
  closing.push(() => client.close());
  return client;
}

/** A client over a wire that can be cut. */
async function connectOverProxy(of = source) {
  const url = new URL(of.url);
  const proxy = await TcpProxy.to(Number(url.port));
  closing.push(() => proxy.close());
  url.port = String(proxy.port);
  const client = await connectBroker({ url: url.href, prefix: of.prefix });
  closing.push(() => client.close());
  return { proxy, client };
}

/** A history that no other test has. */
async function ownSource(): Promise<EventSource> {
  const own = new EventSource(facility.broker.url);
  await own.declare();
  closing.push(() => own.close());
  return own;
}

const arrived = (ids: () => string[], last: string) =>
  eventually(`${last} has come`, () => ids().includes(last) || undefined);

/** A job's event as it would be announced. */
const announced = (id: string, parameters = "{}") =>
  JSON.stringify({
    ...{ specversion: "1.0", id, source: "/test", type: "mento.job.completed.v1" },
    time: new Date().toISOString(),
    data: { job: { id, trigger: "azimuthal", state: "completed" }, paths: [], results: [], message: "-" },
  }).replace('"message":"-"', `"message":{"parameters":${parameters}}`);

describe("a subscription", () => {
  it("has the events from now on that fit its filter", async () => {
    const name = newName();
    const client = await connect();
    await source.announce(`${name}-before`);
    const all = await listen(client);
    const some = await listen(client, { beamline: "p02.1", session: "c.1", types: ["job.*"] });
    const saxs = await listen(client, { trigger: "saxs" });
    const there = { beamline: "p02-1", session: "c-1" };
    await source.announce(`${name}-1`);
    await source.announce(`${name}-2`, there);
    await source.announce(`${name}-3`, { ...there, type: "message.ignored" });
    await source.announce(`${name}-4`, { ...there, type: "job.failed", trigger: "saxs" });
    await publishDataReady(client, { path: "/x" });
    await source.announce(`${name}-5`, { ...there, trigger: "saxs" });
    for (const { ids } of [all, some, saxs]) await arrived(ids, `${name}-5`);
    expect(all.ids()).toEqual([1, 2, 3, 4, 5].map((number) => `${name}-${number}`));
    expect(some.ids()).toEqual([2, 4, 5].map((number) => `${name}-${number}`));
    expect(saxs.ids()).toEqual([4, 5].map((number) => `${name}-${number}`));
    expect(all.got.map(isJobEvent)).toEqual([true, true, false, true, true]);
    expect(all.got.map(isMessageEvent)).toEqual([false, false, true, false, false]);
  });

  it("with `until` ends after the last event that the broker had taken then; its login may be one that only reads", async () => {
    const own = await ownSource();
    await own.announce("0");
    await sleep(2100);
    const then = new Date();
    await sleep(2100);
    await own.announce("1");
    const reader = await brokerLogin({ configure: "^$", write: "^$", read: ".*" });
    closing.push(() => reader.remove());
    const client = await connectBroker({ url: reader.url, prefix: own.prefix });
    closing.push(() => client.close());
    const read = async (options: SubscribeOptions) => {
      const ids: string[] = [];
      for await (const { id } of (await subscribe(client, options)).events) {
        // A slow reader has all of them.
        await sleep(100);
        ids.push(id);
      }
      return ids;
    };
    expect(await read({ since: "1h", until: then })).toEqual(["0"]);
    expect(await read({ since: "1h", until: new Date() })).toEqual(["0", "1"]);
    expect(await read({ since: then, until: new Date() })).toEqual(["1"]);
    await sleep(1100);
    expect(await read({ since: new Date(), until: ago(-1) })).toEqual([]);
    const reading = read({ until: ago(-4) });
    await sleep(1500);
    await own.announce("2");
    expect(await reading).toEqual(["2"]);
    expect(await codeOf(subscribe(client, { since: "1h", until: ago(7200) }))).toBe("wrong-usage");
  });

  it("with `path` has only what is about data whose path has this part", async () => {
    const own = await ownSource();
    const client = await connect(own);
    const { got } = await listen(client, { path: "scan_7", types: ["job.*", "data.ready"] });
    for (const path of ["/a/scan_6.h5", "/a/scan_7.h5"]) await publishDataReady(client, { path });
    await publishDataReady(client, { path: ["/a/b", "/scan_77/b"] });
    await own.announce("no-paths");
    await publishDataReady(client, { path: "/a/scan_7_last" });
    await eventually("the last has come", () => (got.length >= 3 ? true : undefined));
    expect(got.map(({ data }) => (data as { path: unknown }).path)).toEqual([
      "/a/scan_7.h5",
      ["/a/b", "/scan_77/b"],
      "/a/scan_7_last",
    ]);
  });

  it("has what is published the moment it is there", async () => {
    const client = await connect();
    for (let round = 0; round < 50; round++) {
      const name = newName();
      const { ids, close } = await listen(client, { types: ["job.completed"] });
      await source.announce(name);
      await arrived(ids, name);
      await close();
    }
  });

  it("with `since` has first the events that the broker has taken since then, whatever times they tell", async () => {
    const own = await ownSource();
    await own.announce("old");
    // The broker counts whole seconds.
    await sleep(2100);
    const then = new Date();
    const [late, early] = [ago(7200), ago(-7200)];
    await own.announce("0", { time: late });
    await own.announce("1", { time: early });
    for (const since of [then, then.toISOString()]) {
      const { ids } = await listen(await connect(own), { since });
      await arrived(ids, "1");
      expect(ids()).toEqual(["0", "1"]);
    }
    const hour = await listen(await connect(own), { since: "1h" });
    await arrived(hour.ids, "1");
    expect(hour.ids()).toEqual(["old", "0", "1"]);
    await own.announce("new", { time: late });
    await arrived(hour.ids, "new");
  });

  it("has data-ready messages if they are asked for, however they were sent", async () => {
    const client = await connect();
    const { got, ids } = await listen(client, { since: "1h", types: ["data.ready"] });
    const { id } = await publishDataReady(client, { path: "/x", beamline: "p11" });
    await source.publish(client.topology.dataExchange, "any.key", JSON.stringify({ path: "/bare" }));
    await source.publish(client.topology.dataExchange, "any.key", "{");
    const last = await publishDataReady(client, { path: "/last" });
    await arrived(ids, last.id);
    expect(got.filter(isDataReadyEvent)).toEqual(got);
    const from = ids().indexOf(id);
    expect(got.slice(from).map(({ data }) => data)).toMatchObject([
      { path: "/x" },
      { path: "/bare" },
      { path: "/last" },
    ]);
  });

  it("passes over what is no event", async () => {
    const own = await ownSource();
    const client = await connect(own);
    const { ids } = await listen(client, { trigger: "azimuthal" });
    const name = newName();
    const event = { specversion: "1.0", id: name, source: "/x", type: "mento.job.completed.v1" };
    const events = [event, { ...event, data: {} }, { ...event, data: { job: null } }].map((one) =>
      JSON.stringify(one),
    );
    for (const text of ["", "{", "[]", '{"path":"/x"}', '"\u0000"', ...events]) {
      await own.publish(client.topology.eventsExchange, "p11.1.job.completed", text);
    }
    await own.announce(name);
    await arrived(ids, name);
    expect(ids()).toEqual([name]);
  });

  it("has an event that is announced twice once; another source's is another", async () => {
    const name = newName();
    const { got, ids } = await listen(await connect(), { since: "1h" });
    for (const from of ["/a", "/a", "/b", "/a"]) await source.announce(name, { source: from });
    await source.announce(`${name}-end`);
    await arrived(ids, `${name}-end`);
    expect(got.filter(({ id }) => id === name).map((one) => one.source)).toEqual(["/a", "/b"]);
  });

  it("has an event though a producer has published a message of its source and id before", async () => {
    const [id, last] = [newName(), newName()];
    const client = await connect();
    const { got, ids } = await listen(client);
    const messages = await listen(client, { types: ["data.ready"] });
    await publishDataReady(client, { path: "/x" }, { source: "/test", id });
    // And what calls itself the event is none there.
    await source.publish(client.topology.dataExchange, "p11.1.job.completed", announced(id));
    await source.announce(id);
    await source.announce(last);
    await arrived(ids, last);
    expect(got.filter((one) => one.id === id).map(isJobEvent)).toEqual([true]);
    await arrived(messages.ids, id);
    expect(messages.got.filter((one) => one.id === id).map(isDataReadyEvent)).toEqual([true]);
  });

  it("has an event with numbers that JavaScript cannot hold: the nearest, or its text where there is none", async () => {
    const id = newName();
    const client = await connect();
    const { got, ids } = await listen(client);
    const parameters = '{"big":9007199254740993,"huge":[1e400,-1e400]}';
    const { eventsExchange } = client.topology;
    await source.publish(eventsExchange, "p11.1.job.completed", announced(id, parameters));
    await arrived(ids, id);
    expect(got.find((one) => one.id === id)?.data).toMatchObject({
      message: { parameters: { big: 9007199254740992, huge: ["1e400", "-1e400"] } },
    });
  });

  it("misses and doubles nothing where the past meets the present, however many events come meanwhile", async () => {
    const name = newName();
    const stream = source.stream(name);
    await eventually("some are there", () => stream.count() > 300 || undefined);
    const readers = [];
    for (let reader = 0; reader < 5; reader++) {
      readers.push(await listen(await connect(), { since: "1h" }));
      await sleep(100);
    }
    const all = await stream.stop();
    for (const { ids } of readers) {
      await arrived(ids, all.at(-1) ?? "");
      expect(ids().filter((id) => id.startsWith(name))).toEqual(all);
    }
  });

  it("that reads slowly misses nothing, and does not hold up others", async () => {
    const client = await connect();
    const name = newName();
    const { events, close } = await subscribe(client);
    const other = await listen(client);
    const slow: string[] = [];
    const reading = (async () => {
      for await (const { id } of events) {
        slow.push(id);
        await sleep(slow.length < 20 ? 50 : 0);
      }
    })();
    const stream = source.stream(name);
    await eventually("many are there", () => stream.count() > 2000 || undefined);
    const all = await stream.stop();
    await arrived(other.ids, all.at(-1) ?? "");
    await arrived(() => slow, all.at(-1) ?? "");
    expect(slow).toEqual(all);
    await close();
    await reading;
  });
});

describe("a subscription whose broker is lost", () => {
  it("connects again and goes on where it was: nothing is missed, nothing comes twice", async () => {
    const { proxy, client } = await connectOverProxy();
    const failures: (string | undefined)[] = [];
    const onFailure = (failure: { code: string } | undefined) => void failures.push(failure?.code);
    const name = newName();
    const live = await listen(client, { onFailure });
    const past = await listen(client, { since: "1h" });
    const stream = source.stream(name);
    for (let cut = 0; cut < 6; cut++) {
      await sleep(700);
      proxy.cut();
    }
    const all = await stream.stop();
    for (const { ids } of [live, past]) {
      await arrived(ids, all.at(-1) ?? "");
      expect(ids().filter((id) => id.startsWith(name))).toEqual(all);
    }
    expect(failures).toContain("broker-lost");
    expect(failures.at(-1)).toBeUndefined();
  });

  it("has what was announced meanwhile, even if it had not had anything before", async () => {
    const own = await ownSource();
    const { proxy, client } = await connectOverProxy(own);
    await own.announce("before");
    await sleep(1000);
    const { ids } = await listen(client);
    proxy.set("stall");
    proxy.cut();
    await own.announce("meanwhile");
    await sleep(500);
    proxy.set("pass");
    await own.announce("after");
    await arrived(ids, "after");
    expect(ids()).toEqual(["meanwhile", "after"]);
  });

  it("then has what comes, whatever time it tells", async () => {
    const own = await ownSource();
    const { proxy, client } = await connectOverProxy(own);
    let isBack = false;
    const onFailure = (failure: unknown) => void (isBack = failure === undefined);
    const { ids } = await listen(client, { onFailure });
    proxy.cut();
    await eventually("it reads again", () => isBack || undefined);
    // Longer than it looks for events of the past.
    await sleep(4000);
    await own.announce("of a scan that began long ago", { time: ago(120) });
    await own.announce("now");
    await arrived(ids, "now");
    expect(ids()).toEqual(["of a scan that began long ago", "now"]);
  });

  it("can be opened when the client's own link is lost already", async () => {
    const { proxy, client } = await connectOverProxy();
    proxy.cut();
    await client.link.lost;
    const { ids } = await listen(client);
    const name = newName();
    await source.announce(name);
    await arrived(ids, name);
    expect(ids()).toEqual([name]);
  });

  const deleteHistory = async (of: EventSource) => {
    const { link, topology } = await of.client();
    const channel = await link.consuming.createChannel();
    await channel.deleteQueue(topology.historyStream);
    await channel.close();
  };

  it("goes on when the history was deleted, as soon as a worker has made it again", async () => {
    const own = await ownSource();
    const { ids } = await listen(await connect(own));
    const before = ["a", "b", "c"];
    for (const id of before) await own.announce(id);
    await arrived(ids, "c");
    await deleteHistory(own);
    await sleep(500);
    await own.declare();
    for (const id of ["c", "d", "e"]) await own.announce(id);
    await arrived(ids, "e");
    expect(ids()).toEqual(["a", "b", "c", "d", "e"]);
  });

  it.each([1, 12])(
    "notices that the history is another, with %i messages: it begins anew with what it has not had",
    async (length) => {
      const own = await ownSource();
      const { proxy, client } = await connectOverProxy(own);
      const { ids } = await listen(client);
      const before = ["0", "1", "2", "3", "4"];
      for (const id of before) await own.announce(id);
      await own.announce("of a wrong clock", { time: new Date("2999-01-01") });
      before.push("of a wrong clock");
      await arrived(ids, "of a wrong clock");
      proxy.set("stall");
      proxy.cut();
      await deleteHistory(own);
      await own.declare();
      const after = Array.from({ length }, (_, number) => `new-${number}`);
      for (const id of after) await own.announce(id);
      proxy.set("pass");
      await arrived(ids, after.at(-1) ?? "");
      expect(ids()).toEqual([...before, ...after]);
    },
  );
});

describe("a subscription ends", () => {
  const isGone = (proxy: TcpProxy) =>
    eventually("its connections are closed", () => proxy.connections === 0 || undefined);

  it("when it is closed, or its signal or its client ends it, whatever it is doing", async () => {
    for (const during of ["waiting", "connecting"]) {
      for (const end of ["close", "signal", "client"]) {
        const { proxy, client } = await connectOverProxy();
        const aborting = new AbortController();
        const { ended, close } = await listen(client, { signal: aborting.signal });
        if (during === "connecting") {
          proxy.set("stall");
          proxy.cut();
          await sleep(600);
        }
        if (end === "close") await close();
        else if (end === "signal") aborting.abort();
        else await client.close();
        await ended;
        await client.close();
        proxy.set("pass");
        await isGone(proxy);
      }
    }
  });

  it("when its reader leaves the loop", async () => {
    const { proxy, client } = await connectOverProxy();
    const name = newName();
    const { events } = await subscribe(client);
    proxy.cut();
    await source.announce(name);
    for await (const { id } of events) {
      expect(id).toBe(name);
      break;
    }
    expect(await events.next()).toEqual({ done: true, value: undefined });
    await isGone(proxy);
  });

  it("waits for the first worker, if it is to, and has all of its events, whatever the clocks say", async () => {
    const own = new EventSource(facility.broker.url);
    closing.push(() => own.close());
    const client = await connect(own);
    const said: (string | undefined)[] = [];
    const onFailure = (failure: MentoError | undefined) => said.push(failure?.code);
    const stop = new AbortController();
    const given = subscribe(client, { wait: true, signal: stop.signal });
    const waiting = [{}, { since: "1h" }].map((more) => listen(client, { wait: true, onFailure, ...more }));
    await eventually("it waits", () => said.length >= 4 || undefined);
    stop.abort();
    await given;
    await own.declare();
    await own.announce("first", { time: ago(3000) });
    await own.announce("second");
    for (const { ids } of await Promise.all(waiting)) {
      await arrived(ids, "second");
      expect(ids()).toEqual(["first", "second"]);
    }
    expect([...new Set(said)]).toEqual(["exchange-missing", undefined]);
  });

  it("at once when it is wrong, or when there is no Mento on the broker", async () => {
    const client = await connect();
    for (const since of ["soon", "2h ago", "2999-01-01", new Date(NaN)]) {
      expect(await codeOf(subscribe(client, { since })), String(since)).toBe("wrong-usage");
    }
    expect(await codeOf(subscribe(client, { types: ["completed"] }))).toBe("wrong-usage");
    const closed = await connect();
    await closed.close();
    expect(await codeOf(subscribe(closed))).toBe("wrong-usage");
    const nowhere = await connectBroker({ url: facility.broker.url, prefix: newName() });
    expect(await codeOf(subscribe(nowhere))).toBe("exchange-missing");
    expect(await codeOf(subscribe(nowhere, { since: "1h" }))).toBe("exchange-missing");
    await nowhere.close();
    const wrong = facility.broker.url.replace(/:[^:@]*@/, ":wrong@");
    expect(await codeOf(connectBroker({ url: wrong }))).toBe("broker-refused");
  });
});

it("a client that may only read the history can subscribe", async () => {
  const { managementUrl, user, password } = facility.broker;
  const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
  const viewer = `viewer-${newName()}`;
  const put = async (path: string, body: object) => {
    const headers = { authorization, "content-type": "application/json" };
    const url = `${managementUrl}/api${path}`;
    expect((await fetch(url, { method: "PUT", headers, body: JSON.stringify(body) })).ok).toBe(true);
  };
  await put(`/users/${viewer}`, { password: "secret", tags: "" });
  await put(`/permissions/%2F/${viewer}`, { configure: "", write: "", read: `^${source.prefix}\\.history$` });
  const url = new URL(source.url);
  const client = await connectBroker({
    ...{ url: `amqp://${url.host}`, username: viewer, password: "secret", prefix: source.prefix },
  });
  closing.push(() => client.close());
  const { ids } = await listen(client, { since: "1h" });
  const name = newName();
  await source.announce(name);
  await arrived(ids, name);
  expect(await codeOf(publishDataReady(client, { path: "/x" }))).not.toBe("none");
});
