import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { connectBroker, publishDataReady } from "../../src/broker/client.ts";
import { tryMento } from "../support/mento.ts";
import { beamtime, facility, TestSite, writeOnCore } from "../support/site.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-start-up-"));
const sites: TestSite[] = [];
afterAll(async () => {
  await Promise.all(sites.map((site) => site.tearDown()));
  rmSync(folder, { recursive: true });
});

function newSite(overrides: Record<string, object> = {}) {
  const site = new TestSite([{ name: "t", run: ["/bin/true"] }], overrides);
  sites.push(site);
  return site;
}

function startWith(configFile: string) {
  return tryMento(["worker", "-c", configFile]);
}

/** A configuration like the site's, with one line changed. */
function changed(site: TestSite, from: string | RegExp, to: string) {
  const text = readFileSync(site.configFile, "utf8");
  const file = join(folder, `${site.prefix}.yaml`);
  expect(text).toMatch(from);
  writeFileSync(file, text.replace(from, to));
  return file;
}

describe("mento worker does not start", () => {
  it("without a configuration, and says how to make one: exit 2", async () => {
    const { code, stderr } = await tryMento(["worker"], { cwd: folder });
    expect(code).toBe(2);
    expect(stderr).toContain("mento init");
  });

  it("with mistakes in the configuration, and lists all with their lines: exit 2", async () => {
    const file = join(folder, "bad.yaml");
    writeFileSync(file, "broker:\n  urll: x\ntriggers:\n  - name: a b\n    run: [x]\n");
    const { code, stderr } = await startWith(file);
    expect(code).toBe(2);
    expect(stderr).toContain(`${file}:2:3: broker.urll: unknown key; did you mean url?`);
    expect(stderr).toMatch(/bad\.yaml:4:5: triggers\.0\.name: must be/);
  });

  it("with a wrong password: exit 3, at once", async () => {
    const site = newSite();
    const { code, stderr } = await startWith(changed(site, /amqp:\/\/mento:[^@]*@/, "amqp://mento:wrong@"));
    expect(code).toBe(3);
    expect(stderr).toContain("[broker-refused]");
  });

  it("with a virtual host that is not there: exit 3, with what a virtual host is", async () => {
    const { code, stderr } = await startWith(changed(newSite(), /(@[^:@\s"]+:\d+)\/?/, "$1/nowhere"));
    expect(code).toBe(3);
    expect(stderr).toContain("virtual host nowhere has no such virtual host");
    expect(stderr).toContain("The virtual host is the path of broker.url");
  });

  it("as a user who may not make queues: exit 3, with the permissions that it needs", async () => {
    const { managementUrl, user, password } = facility.broker;
    const headers = {
      authorization: `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`,
      "content-type": "application/json",
    };
    const put = (path: string, body: object) =>
      fetch(`${managementUrl}/api${path}`, { method: "PUT", headers, body: JSON.stringify(body) });
    await put("/users/reader", { password: "reader", tags: "" });
    await put("/permissions/%2F/reader", { configure: "^$", write: ".*", read: ".*" });
    const file = changed(newSite(), /amqp:\/\/mento:[^@]*@/, "amqp://reader:reader@");
    const { code, stderr } = await startWith(file);
    expect(code).toBe(3);
    expect(stderr).toContain("[broker-refused]");
    expect(stderr).toContain("configure, write and read permissions");
  });

  it("without a broker: exit 3, after a bounded time, and says what was tried", async () => {
    const site = newSite();
    const file = changed(site, /127\.0\.0\.1:\d+/, "127.0.0.1:9");
    const { code, stderr } = await startWith(file);
    expect(code).toBe(3);
    expect(stderr).toMatch(/RabbitMQ at 127\.0\.0\.1:9 cannot be reached: .*ECONNREFUSED.*Tried \d+ times/s);
  });

  it("with a broker that accepts and says nothing: exit 3", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    const site = newSite();
    const { code, stderr } = await startWith(changed(site, /127\.0\.0\.1:\d+/, `127.0.0.1:${port}`));
    server.close();
    expect(code).toBe(3);
    expect(stderr).toContain("[broker-unreachable]");
  });

  it("when the reserved node is out of reach: exit 3, and names node, address and port", async () => {
    const nodes = facility.slurm.nodes.map(({ name }) => [name, { address: "127.0.0.1", port: 9 }]);
    const site = newSite({ ssh: { hosts: Object.fromEntries(nodes) as object } });
    const { code, stderr } = await startWith(site.configFile);
    expect(code).toBe(3);
    expect(stderr).toMatch(/max-p11-\d+ \(127\.0\.0\.1:9\) cannot be reached over SSH/);
  });

  it("when the node's host key is not known: exit 2, with the fingerprint that it shows", async () => {
    const site = newSite({ ssh: { knownHosts: [] } });
    const { code, stderr } = await startWith(site.configFile);
    expect(code).toBe(2);
    expect(stderr).toContain("[host-key-unknown]");
    expect(stderr).toContain(facility.ssh.hostKeyFingerprint);
  });

  it("when the node shows another host key than the known one: exit 2", async () => {
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(folder, "other")]);
    const other = readFileSync(join(folder, "other.pub"), "utf8");
    const knownHosts = join(folder, "known_hosts");
    writeFileSync(knownHosts, `[127.0.0.1]:${facility.ssh.port} ${other}`);
    const site = newSite({ ssh: { knownHosts: [knownHosts] } });
    const { code, stderr } = await startWith(site.configFile);
    expect(code).toBe(2);
    expect(stderr).toContain("[host-key-changed]");
  });

  it("when a queue exists with other arguments: exit 2, and names both", async () => {
    const site = newSite();
    const client = await connectBroker({ url: facility.broker.url, prefix: site.prefix });
    const channel = await client.link.consuming.createChannel();
    await channel.assertQueue(client.topology.deadQueue, { durable: true });
    const { code, stderr } = await startWith(site.configFile);
    await channel.deleteQueue(client.topology.deadQueue);
    await client.close();
    expect(code).toBe(2);
    expect(stderr).toContain(`The queue ${client.topology.deadQueue} exists on the broker`);
    expect(stderr).toMatch(/x-[a-z-]+: it has .*, Mento wants /);
  });
});

it("a pinned host key is enough", async () => {
  const pins = facility.slurm.nodes.map(({ name }) => [name, [facility.ssh.hostKeyFingerprint]]);
  const site = newSite({ ssh: { knownHosts: [], hostKeys: Object.fromEntries(pins) as object } });
  await site.startWorker();
});

it("a reserved node that is down does not stop the work: the next one is taken", async () => {
  const { address, port } = facility.ssh;
  const isFirst = (name: string) => name === beamtime.nodes[0];
  const nodes = facility.slurm.nodes.map(({ name }) => [name, { address, port: isFirst(name) ? 9 : port }]);
  const site = newSite({ ssh: { hosts: Object.fromEntries(nodes) as object } });
  const worker = await site.startWorker();
  expect(worker.log).toContain(`"node":"${beamtime.nodes[1] ?? ""}"`);
  const { id } = await publishDataReady(await site.client(), { path: writeOnCore() });
  await site.event("job.completed", id);
});
