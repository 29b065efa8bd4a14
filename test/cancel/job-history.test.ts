import { cpuTime } from "../support/cpu-time.ts";
import type { ConsumeMessage } from "amqplib";
import { expect, it } from "vitest";
import { lastEventsIn } from "../../src/cancel/job-history.ts";
import type { JobEventData } from "../../src/messages/job-event.ts";
import { jobData } from "../support/job-data.ts";

type Message = Pick<ConsumeMessage, "content" | "fields" | "properties">;
const EVENTS = "mento.events";

function message(data: object, exchange = EVENTS, indent?: number): Message {
  const content = Buffer.from(JSON.stringify({ id: "1", source: "/mento/saxs", data }, undefined, indent));
  const properties = { type: "mento.job.started.v1" } as ConsumeMessage["properties"];
  return { content, fields: { exchange } as ConsumeMessage["fields"], properties };
}

function job(id: string, slurmJobId: string, state: JobEventData["job"]["state"] = "started", folder = "/j") {
  const { job: some, slurm, ...data } = jobData(state);
  return {
    ...data,
    job: { ...some, id, directory: `${folder}/${id}` },
    slurm: { ...slurm, jobId: slurmJobId },
  };
}

// eslint-disable-next-line @typescript-eslint/require-await
async function* history(...messages: Message[]) {
  yield* messages;
}
const last = (names: string[], ...messages: Message[]) => lastEventsIn(history(...messages), EVENTS, names);

it("finds the last event of a job by Mento's id and by Slurm's, however its JSON is written", async () => {
  const found = await last(
    ["one", "4712", "none"],
    message(job("one", "4711", "submitted")),
    message(job("two", "4712"), EVENTS, 2),
    message(job("one", "4711", "completed")),
    message(job("one", "4711", "started")),
    message(job("three", "4713")),
  );
  expect([...found].map(([name, { data, group }]) => [name, data.job.id, data.job.state, group])).toEqual([
    ["one", "one", "completed", "saxs"],
    ["4712", "two", "started", "saxs"],
  ]);
});

it("believes no event of another exchange, and none that does not fit, whatever names it has", async () => {
  const { job: some, ...without } = job("one", "4711");
  const other = job("two", "4712");
  const found = await last(
    ["one", "4711"],
    message(job("one", "4711"), "mento.data"),
    message({ ...without, job: { id: some.id } }),
    message({ ...job("two", "4712"), parameters: {} }),
    message({ ...other, message: { ...other.message, parameters: { id: "one", jobId: "4711" } } }),
    { ...message({}), content: Buffer.from('{"id":"one"') },
  );
  expect(found.size).toBe(0);
});

it("tells that jobs of several folders are announced as one of Slurm's, and not that of one folder", async () => {
  const contested = async (...messages: Message[]) =>
    (await last(["4711"], ...messages)).get("4711")?.isContested;
  const first = message(job("one", "4711", "completed"));
  expect(await contested(first, message(job("two", "4711")))).toBe(false);
  expect(await contested(first, message(job("two", "4711", "started", "/other")))).toBe(true);
  expect(await contested(first, message(job("two", "4711", "started", "/other")), first)).toBe(true);
});

it("does not parse events of other jobs, however large", async () => {
  const paths = Array.from(
    { length: 15_000 },
    (_, number) => `/asap3/a/gpfs/p11/2026/data/1/raw/scan_${number}`,
  );
  const large = message({ ...job("large", "4712"), paths });
  const names = Array.from({ length: 1_000 }, (_, number) => `name${number}`);
  const used = cpuTime();
  const found = await last(names, ...Array.from({ length: 300 }, () => large));
  // To parse them takes ten times as long.
  expect(used()).toBeLessThan(1_000);
  expect(found.size).toBe(0);
});
