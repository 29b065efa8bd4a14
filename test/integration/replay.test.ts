import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Options } from "amqplib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { connectBroker, publishDataReady, type BrokerClient } from "../../src/broker/client.ts";
import { historySince } from "../../src/broker/history.ts";
import { tryMento } from "../support/mento.ts";
import { eventually, facility, TestSite, writeOnCore } from "../support/site.ts";

/** The detectors' triggers of the day; `late` is thought of only when the data is there. */
const site = new TestSite([
  { name: "powder", on: { technique: "powder" }, run: ["/bin/true", "{{ path }}"] },
  { name: "late", on: { technique: ["saxs", "powder"] }, run: ["/bin/true", "{{ path }}"] },
]);
let client: BrokerClient;

beforeAll(async () => {
  await site.startWorker();
  client = await site.client();
});
afterAll(() => site.tearDown());

const replay = (...args: string[]) => tryMento(["replay", "-c", site.configFile, ...args]);
const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const newId = (name: string) => `${name}-${randomUUID().slice(0, 8)}`;
const linesOf = (stdout: string) =>
  stdout
    .split("\n")
    .filter(Boolean)
    .map(
      (line) =>
        JSON.parse(line) as { id: string; sentAs: string | null; outcome: string; ranBefore: string | null },
    );

/** Publishes as any producer can. */
async function publish(id: string, body: Buffer, properties: Options.Publish = {}, routingKey?: string) {
  await client.publisher.publish({
    exchange: client.topology.dataExchange,
    routingKey: routingKey ?? "p11.-.data.ready",
    body,
    properties: { ...properties, messageId: id },
  });
}

/** The site's configuration with other triggers or keys, in a file of its own. */
function configWith(change: (config: { worker: object; triggers: object[] }) => void): string {
  const config = parse(readFileSync(site.configFile, "utf8")) as Parameters<typeof change>[0];
  change(config);
  const file = join(site.folder, `${randomUUID()}.yaml`);
  writeFileSync(file, stringify(config));
  return file;
}

describe("mento replay", () => {
  it("runs a trigger on the messages of the past that it wants; what it has run is not run again", async () => {
    const { id } = await publishDataReady(client, { path: writeOnCore(), technique: "saxs" });
    const other = await publishDataReady(client, { path: writeOnCore(), technique: "xpcs" });
    const first = await site.event("job.completed", id);
    await site.event("message.ignored", other.id);

    const again = await replay("--since", "1h", "--trigger", "late");
    expect(again.code).toBe(0);
    const line = `^20\\d\\d-\\S*:\\d\\d {2}${id} {2}scan_.*\\.dat {2}sent; has run already: completed$`;
    expect(again.stdout).toMatch(new RegExp(line, "m"));
    expect(again.stdout).not.toContain(other.id);
    expect(again.stderr).toContain(
      `1 message sent to ${client.topology.intakeQueue} for late: 1 has run already, and does not run again`,
    );
    expect(again.stderr).toContain("that it does not want");
    // Published again, later than its job has ended.
    const later = new Date(Date.now() + 1000);
    await sleep(2100);
    await publishDataReady(client, { path: first.data.paths[0] ?? "", technique: "saxs" }, { id });
    const fresh = await replay("--since", later.toISOString(), "--trigger", "late", "--dry-run", "--json");
    expect(linesOf(fresh.stdout)).toMatchObject([{ id, ranBefore: "completed" }]);
    const submitted = () => site.eventsOf(id).filter(({ type }) => type.includes("submitted"));
    await eventually("it is looked at again", () => (submitted().length > 1 ? true : undefined));
    expect(new Set(submitted().map(({ data }) => data.slurm.jobId))).toEqual(
      new Set([first.data.slurm.jobId]),
    );
  });

  it("--again runs them under new ids, for that trigger alone", async () => {
    const { id } = await publishDataReady(client, { path: writeOnCore(), technique: "powder" });
    await eventually("both triggers ran", () =>
      site.eventsOf(id).filter(({ type }) => type.includes("completed")).length === 2 ? true : undefined,
    );
    const fresh = await publishDataReady(client, {
      path: writeOnCore(),
      technique: "saxs",
      beamtimeId: "99999999",
    });
    await site.event("message.rejected", fresh.id);
    const dry = await replay("--since", "1h", "--trigger", "late", "--again", "--dry-run");
    expect(dry.stderr).toMatch(/4 messages would go to \S+ for late: 3 have run already, and run again/);
    expect(dry.stdout).toMatch(new RegExp(`${fresh.id}.*would be sent as \\S+$`, "m"));
    const { stdout } = await replay("--since", "1h", "--trigger", "late", "--again", "--json");
    expect(linesOf(stdout).map(({ id: one, ranBefore }) => [one === fresh.id, ranBefore])).toContainEqual([
      true,
      null,
    ]);
    const sentAs = linesOf(stdout).find((one) => one.id === id)?.sentAs ?? "";
    expect(sentAs).toMatch(`${id}/again-20`);
    const { data } = await site.event("job.completed", sentAs);
    expect(data.job.trigger).toBe("late");
    expect(new Set(site.jobEventsOf(sentAs).map((one) => one.data.job.trigger))).toEqual(new Set(["late"]));
  });

  it("takes bare messages of any producer too, with their own ids, times and origin", async () => {
    const bare = newId("bare");
    await publish(bare, json({ path: writeOnCore(), technique: "saxs" }), {
      ...{ appId: "/detector", timestamp: Math.floor(Date.now() / 1000) },
    });
    await site.event("job.completed", bare);
    const { stdout } = await replay("--since", "1h", "--trigger", "late", "--again", "--json");
    const sentAs = linesOf(stdout).find((one) => one.id === bare)?.sentAs ?? "";
    const { data } = await site.event("job.completed", sentAs);
    expect(data.cause.source).toBe("/detector");
  });

  it("--dry-run sends nothing", async () => {
    const { id } = await publishDataReady(client, { path: writeOnCore(), technique: "saxs" });
    await site.event("job.completed", id);
    const before = site.events.length;
    const { stdout, stderr } = await replay("--since", "1h", "--trigger", "late", "--dry-run", "--again");
    expect(stdout).toMatch(new RegExp(`${id} .* would be sent as ${id}/again-`));
    expect(stderr).toContain("would go to");
    const marker = await publishDataReady(client, { path: writeOnCore(), technique: "xpcs" });
    await site.event("message.ignored", marker.id);
    expect(site.events.length).toBe(before + 1);
  });

  it("takes messages of the time asked for, as they say it, and of the group's own keys; passes over what is no message", async () => {
    const body = () => json({ path: writeOnCore(), technique: "saxs" });
    const hoursAgo = (hours: number) => Math.floor(Date.now() / 1000) - hours * 3600;
    const [old, recent, untimed, foreign, bad] = ["old", "recent", "untimed", "foreign", "bad"].map(
      newId,
    ) as [...[string, string, string, string, string]];
    await publish(old, body(), { timestamp: hoursAgo(5) });
    await publish(recent, body(), { timestamp: hoursAgo(1) });
    // What another producer says of the time is no word on this one's.
    await publish(newId("stranger"), body(), { timestamp: hoursAgo(7) }, "p02-1.-.data.ready");
    await publish(untimed, body());
    await publish(foreign, body(), {}, "p02-1.-.data.ready");
    await publish(bad, Buffer.from([0xff, 0x00]));
    const mine = [old, recent, untimed, foreign, bad];
    const config = configWith(({ worker }) => Object.assign(worker, { keys: ["p11.#"] }));
    const found = async (...args: string[]) => {
      const { stdout, stderr } = await tryMento([
        ...["replay", "-c", config, "--trigger", "late", "--dry-run", "--json", ...args],
      ]);
      return {
        ids: linesOf(stdout)
          .map(({ id }) => id)
          .filter((id) => mine.includes(id)),
        stderr,
      };
    };
    const twoHours = await found("--since", "2h");
    expect(twoHours.ids).toEqual([recent, untimed]);
    expect(twoHours.stderr).toContain("that cannot be read");
    expect(twoHours.stderr).toContain("1 of another time");
    expect((await found("--since", "9h")).ids).toEqual([old, recent, untimed]);
    expect((await found("--since", "9h", "--until", "2h")).ids).toEqual([old]);
    expect((await found("--since", "2h", "--until", "0s")).ids).toEqual([recent, untimed]);
  });

  it("reads to the end, however much there is", async () => {
    const ids = Array.from({ length: 300 }, (_, number) => `many-${number}`);
    await Promise.all(ids.map((id) => publish(id, json({ path: "/x", technique: "none" }))));
    const config = configWith(({ triggers }) =>
      triggers.push({ name: "many", on: { technique: "none" }, run: ["x"] }),
    );
    const { stdout } = await tryMento([
      ...["replay", "-c", config, "--since", "1h", "--trigger", "many", "--dry-run", "--json"],
    ]);
    expect(new Set(linesOf(stdout).map(({ id }) => id))).toEqual(new Set(ids));
  });

  it("says what is wrong with its options: exit 2", async () => {
    expect((await replay("--trigger", "late")).code).toBe(2);
    expect((await replay("--since", "1h")).code).toBe(2);
    expect((await replay("--since", "soon", "--trigger", "late")).stderr).toContain("It looks like 90s, 30m");
    expect((await replay("--since", "2999-01-01", "--trigger", "late")).code).toBe(2);
    expect((await replay("--since", "1h", "--until", "2h", "--trigger", "late")).code).toBe(2);
    const unknown = await replay("--since", "1h", "--trigger", "lat");
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toContain("It has powder, late");
  });

  it("says that there is no history yet, or that the broker is out of reach: exit 3", async () => {
    const empty = new TestSite([{ name: "late", run: ["x"] }]);
    const none = await tryMento(["replay", "-c", empty.configFile, "--since", "1h", "--trigger", "late"]);
    expect(none.code).toBe(3);
    expect(none.stderr).toContain(`The broker has no queue ${empty.prefix}.history.`);
    await empty.tearDown();
    const args = ["replay", "-c", site.configFile, "--since", "1h", "--trigger", "late"];
    const away = await tryMento(args, {
      env: { MENTO_BROKER_URL: "amqp://127.0.0.1:1" },
    });
    expect(away.code).toBe(3);
    expect(away.stderr).toContain("[broker-unreachable]");
  });
});

describe("the history", () => {
  it("ends with an error, not as if it were read, when the broker is lost", async () => {
    const other = await connectBroker({ url: facility.broker.url, prefix: site.prefix });
    const reading = async () => {
      for await (const message of historySince(other, new Date(0))) {
        expect(message.content).toBeInstanceOf(Buffer);
        await other.close();
      }
    };
    await expect(reading()).rejects.toMatchObject({ code: "broker-lost" });
  });
});
