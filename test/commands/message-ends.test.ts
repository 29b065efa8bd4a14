import { describe, expect, it } from "vitest";
import { MessageEnds } from "../../src/commands/message-ends.ts";
import { parseConfig } from "../../src/config/config-file.ts";
import type { CloudEvent } from "../../src/messages/cloud-event.ts";
import {
  messageEvent,
  toCloudEvent,
  type JobState,
  type MessageOutcome,
} from "../../src/messages/job-event.ts";
import { jobIdFor } from "../../src/triggers/plan.ts";
import { jobEndedEvent } from "../triggers/job-ended.ts";

const sent: CloudEvent = {
  specversion: "1.0",
  id: "1",
  source: "/det",
  type: "mento.data.ready.v1",
  data: { path: "/gpfs/current/raw/a.h5" },
};
const cause = { source: "/det", id: "1", type: sent.type };

function endsWith(triggers: string): MessageEnds {
  const { config, mistakes } = parseConfig(triggers, {});
  if (config === undefined) throw new Error(JSON.stringify(mistakes));
  return new MessageEnds(sent, config);
}

const AB = "triggers:\n  - { name: a, run: [/bin/true] }\n  - { name: b, run: [/bin/true], latest: true }\n";

/** An event of the trigger's job. */
function job(trigger: string, state: JobState, of: CloudEvent = sent, group = "default"): CloudEvent {
  const event = jobEndedEvent({ type: "job.completed", trigger, group });
  const id = jobIdFor(of, group, trigger);
  const data = { ...event.data, job: { ...event.data.job, id, state } };
  return { ...event, id: `${id}/${state}`, type: `mento.job.${state}.v1`, data };
}

function message(outcome: MessageOutcome, discriminator?: string, group = "default"): CloudEvent {
  const about = { group: "default", correlationId: null, cause, beamline: null, beamtimeId: null, paths: [] };
  const data = { ...about, error: null, reason: null, reasons: [] };
  return toCloudEvent(messageEvent(outcome, data, new Date(), discriminator), `/mento/${group}`);
}

/** After each event, whether all has ended. */
const after = (ends: MessageEnds, ...events: CloudEvent[]) =>
  events.map((event) => (ends.take(event), ends.areAll));

describe("the wait for a message's jobs", () => {
  it("goes on while the message waits for its turn with another trigger", () => {
    const ends = endsWith(AB);
    expect(after(ends, job("a", "submitted"), job("a", "completed"))).toEqual([false, false]);
    expect(ends.missing).toEqual(["b"]);
    expect(after(ends, job("b", "submitted"), job("b", "completed"))).toEqual([false, true]);
    expect(ends.isGood).toBe(true);
  });

  it("does not end with the one trigger for which it was superseded", () => {
    const ends = endsWith(AB);
    const superseded = message("ignored", jobIdFor(sent, "default", "b"));
    expect(after(ends, job("a", "submitted"), superseded)).toEqual([false, false]);
    expect(after(ends, job("a", "completed"))).toEqual([true]);
    expect(ends.isGood).toBe(true);
  });

  it("ends, and not well, if it was superseded for all triggers", () => {
    const ends = endsWith(AB);
    const superseded = ["a", "b"].map((name) => message("ignored", jobIdFor(sent, "default", name)));
    expect(after(ends, ...superseded)).toEqual([false, true]);
    expect(ends.isGood).toBe(false);
  });

  it("goes on with what follows on a job, once", () => {
    const ends = endsWith(
      `${AB}  - { name: plot, run: [/bin/true], on: { type: job.completed, trigger: a } }\n`,
    );
    const end = job("a", "completed");
    expect(after(ends, job("b", "failed"), end, job("plot", "completed", end), end)).toEqual([
      ...[false, false, true, true],
    ]);
    expect(ends.isGood).toBe(false);
  });

  it("ends with a rejection when what was submitted before has ended", () => {
    const ends = endsWith(AB);
    const events = [job("a", "submitted"), message("deferred", "x"), message("rejected", "x")];
    expect(after(ends, ...events, job("a", "completed"))).toEqual([false, false, false, true]);
    expect(ends.isGood).toBe(false);
  });

  it("does not end because another group does not want the message", () => {
    const ends = endsWith(AB);
    expect(after(ends, message("ignored", "", "other"))).toEqual([false]);
    expect(after(ends, message("ignored"))).toEqual([true]);
  });

  it("without triggers in the configuration knows the jobs that were announced", () => {
    const ends = endsWith("broker: {}\n");
    expect(after(ends, job("a", "submitted"), job("a", "completed"))).toEqual([false, true]);
    expect(ends.isGood).toBe(true);
    expect(after(endsWith("broker: {}\n"), message("ignored"))).toEqual([true]);
  });

  it("is not about other messages", () => {
    const other = { ...job("a", "completed") };
    other.data = { ...(other.data as object), cause: { ...cause, id: "2" } };
    expect(endsWith(AB).take(other)).toBe(false);
  });
});
