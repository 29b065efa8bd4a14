import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { publishDataReady } from "../../src/broker/client.ts";
import { eventually, facility, TestSite, writeOnCore } from "../support/site.ts";

const trigger = (name: string) => ({ name, on: { technique: name }, run: ["/bin/echo", name] });
const localJobs = join(facility.dir, `jobs-${randomUUID().slice(0, 8)}`);
const site = new TestSite([trigger("first")], { site: { localJobs } });
beforeAll(() => site.startWorker({ args: ["--watch"] }));
afterAll(() => site.tearDown());

interface Config {
  broker: { url: string };
  triggers: object[];
}

function edit(change: (config: Config) => void): void {
  const config = parse(readFileSync(site.configFile, "utf8")) as Config;
  change(config);
  writeFileSync(site.configFile, stringify(config));
}

const said = (text: string, times = 1) =>
  eventually(text, () => ((site.workers[0]?.log.split(text).length ?? 0) > times ? true : undefined));

async function completes(technique: string): Promise<void> {
  const { id } = await publishDataReady(await site.client(), { path: writeOnCore(), technique });
  await site.event("job.completed", id);
}

it("an edited configuration is taken over without a restart, a broken one is refused", async () => {
  await completes("first");
  edit((config) => config.triggers.push(trigger("second")));
  await said('"msg":"ready"', 2);
  await Promise.all([completes("first"), completes("second")]);

  const good = readFileSync(site.configFile, "utf8");
  writeFileSync(site.configFile, good.replace("technique: second", "techniqe: second"));
  await said("unknown key; did you mean technique?");
  await completes("second");

  // It is right, but its broker is not there.
  writeFileSync(site.configFile, good.replace(/amqp:\/\/\S+/, "amqp://127.0.0.1:1"));
  await said("the one before is taken again");
  await said('"msg":"ready"', 3);
  await completes("second");

  writeFileSync(site.configFile, good.replaceAll("second", "third"));
  await said('"msg":"ready"', 4);
  await completes("third");
});

it("a job of this host ends also when the edit has removed the last trigger that starts such", async () => {
  const quick = { name: "here", method: "local-bash-script", on: { technique: "here" } };
  edit((config) => config.triggers.push({ ...quick, run: ["/bin/sleep", "4"] }));
  await said('"msg":"ready"', 5);
  const { id } = await publishDataReady(await site.client(), { path: writeOnCore(), technique: "here" });
  await site.event("job.submitted", id);
  edit((config) => config.triggers.pop());
  await said('"msg":"ready"', 6);
  await site.event("job.completed", id);
});

it("it is the same process all the while", async () => {
  expect(site.workers[0]?.process.exitCode).toBe(null);
  expect(await site.workers[0]?.stop()).toBe(0);
});
