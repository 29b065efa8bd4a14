import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectBroker, publishDataReady, type BrokerClient } from "../../src/broker/client.ts";
import { subscribe } from "../../src/broker/subscribe.ts";
import { brokerLogin, type BrokerLogin, type Permissions } from "../support/broker-login.ts";
import { beamtime, TestSite, writeOnCore } from "../support/site.ts";

/** The commands of docs/security.md, for the names of this test. */
function permissionsOf(login: string, prefix: string): Permissions {
  const documentation = readFileSync(new URL("../../docs/security.md", import.meta.url), "utf8");
  const commands = /^rabbitmqctl set_permissions -p mento (\S+) '(.*)' '(.*)' '(.*)'$/gm;
  const found = [...documentation.matchAll(commands)].find(([, name]) => name === login);
  if (found === undefined) throw new Error(`docs/security.md has no permissions of ${login}`);
  const [configure = "", write = "", read = ""] = found
    .slice(2)
    .map((one) => one.replaceAll("mento\\.", `${prefix}\\.`));
  return { configure, write, read };
}

const logins: BrokerLogin[] = [];
const clients: BrokerClient[] = [];
let site: TestSite;
let messageId: string;

async function connectAs(name: string): Promise<BrokerClient> {
  const login = await brokerLogin(permissionsOf(name, site.prefix));
  logins.push(login);
  const client = await connectBroker({ url: login.url, prefix: site.prefix });
  clients.push(client);
  return client;
}

beforeAll(async () => {
  const prefix = `t${Math.random().toString(36).slice(2, 10)}`;
  const login = await brokerLogin(permissionsOf("worker", prefix));
  logins.push(login);
  const triggers = [{ name: "powder", on: { technique: "powder" }, run: ["/bin/true", "{{ path }}"] }];
  site = new TestSite(triggers, { broker: { url: login.url, prefix } }, undefined, prefix);
  await site.startWorker();
});
afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await site.tearDown();
  await Promise.all(logins.map((login) => login.remove()));
});

describe("the permissions of docs/security.md", () => {
  const data = { path: writeOnCore(), technique: "powder", beamtimeId: beamtime.beamtimeId };

  it("let a worker work, and a detector publish to it", async () => {
    const { id } = await publishDataReady(await connectAs("detector"), data);
    messageId = id;
    await site.completesOnce(id);
  });

  it("let a viewer hear what has happened", async () => {
    const { events, close } = await subscribe(await connectAs("viewer"), {
      since: "10m",
      types: ["job.completed"],
    });
    for await (const event of events) {
      expect(event.data).toMatchObject({ cause: { id: messageId } });
      break;
    }
    await close();
  });

  it("let a detector have its answer", async () => {
    const client = await connectAs("detector-with-answers");
    const channel = await client.link.consuming.createChannel();
    const { queue } = await channel.assertQueue("", { exclusive: true });
    const answer = new Promise((resolve) => {
      void channel.consume(queue, (message) => resolve(JSON.parse(message?.content.toString() ?? "")), {
        noAck: true,
      });
    });
    await client.publisher.publish({
      ...{ exchange: client.topology.dataExchange, routingKey: "p11.-.data.ready", body: Buffer.from("{}") },
      properties: { messageId: "answered", replyTo: queue },
    });
    expect(await answer).toMatchObject({ error: { code: "wrong-schema" } });
  });

  it.each([
    ["detector", "events"],
    ["detector", ""],
    ["detector-with-answers", "events"],
    ["detector-with-answers", ""],
    ["viewer", "data"],
    ["viewer", "events"],
    ["viewer", ""],
  ])("keep a %s from publishing to the exchange '%s'", async (login, name) => {
    const client = await connectAs(login);
    const exchange = name === "" ? "" : `${site.prefix}.${name}`;
    const published = client.publisher.publish({
      ...{ exchange, routingKey: `${site.prefix}.default.jobs`, body: Buffer.from("{}") },
      properties: { messageId: "m" },
    });
    await expect(published).rejects.toThrow(/ACCESS.REFUSED/);
  });

  it.each([
    ["detector", "default.intake"],
    ["detector-with-answers", "default.jobs"],
    ["viewer", "dead"],
  ])("keep a %s from taking messages from %s", async (login, queue) => {
    const client = await connectAs(login);
    const channel = await client.link.consuming.createChannel();
    channel.on("error", () => undefined);
    const consumed = channel.consume(`${site.prefix}.${queue}`, () => undefined);
    await expect(consumed).rejects.toThrow(/ACCESS.REFUSED/);
  });

  it("keep a detector that may make queues from having one that hands on to Mento's", async () => {
    const client = await connectAs("detector-with-answers");
    const channel = await client.link.consuming.createChannel();
    channel.on("error", () => undefined);
    const declared = channel.assertQueue("", {
      ...{ exclusive: true, deadLetterExchange: "", deadLetterRoutingKey: `${site.prefix}.default.jobs` },
      messageTtl: 1,
    });
    await expect(declared).rejects.toThrow(/ACCESS.REFUSED/);
  });
});
