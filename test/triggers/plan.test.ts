import { describe, expect, it } from "vitest";
import { Rejected } from "../../src/errors.ts";
import type { DataReady } from "../../src/messages/data-ready.ts";
import { jobEvent, toCloudEvent } from "../../src/messages/job-event.ts";
import { readTriggerInput } from "../../src/messages/trigger-input.ts";
import { LONGEST_CHAIN, planJob } from "../../src/triggers/plan.ts";
import { Trigger } from "../../src/triggers/trigger-config.ts";
import { CORE, jobEnded, jobEndedEvent } from "./job-ended.ts";

const session = {
  id: "11010000",
  beamline: "p11",
  roots: { beamline: "/gpfs/current", core: CORE, node: "/beamline/p11/current" },
};
const message = (data: DataReady) =>
  readTriggerInput({ specversion: "1.0", id: "1", source: "/det", type: "mento.data.ready.v1", data });
const plan = (trigger: object, data: DataReady = { path: "/gpfs/current/raw/s1/a.b_master.h5" }) =>
  planJob(message(data), Trigger.parse({ name: "t", run: ["true"], ...trigger }), session, "default");

describe("planJob", () => {
  it("fills the program, its environment, folder and input, with the path in all views", () => {
    const run = [
      "p",
      "{{ path }}",
      "{{ path.core }}",
      "{{ path.beamline }}",
      "{{ path.node }}",
      "{{ path.stem }}",
      "{{ path.name }}",
    ];
    const filled = plan({
      run,
      env: { FOLDER: "{{ path.folder }}" },
      workdir: "{{ session.core }}/shared",
      stdin: "{{ paths | join(' ') }}",
    });
    expect(filled).toMatchObject({
      argv: [
        "p",
        `${CORE}/raw/s1/a.b_master.h5`,
        `${CORE}/raw/s1/a.b_master.h5`,
        "/gpfs/current/raw/s1/a.b_master.h5",
        "/beamline/p11/current/raw/s1/a.b_master.h5",
        "a.b_master",
        "a.b_master.h5",
      ],
      env: { FOLDER: `${CORE}/raw/s1` },
      workdir: `${CORE}/shared`,
      stdin: `${CORE}/raw/s1/a.b_master.h5`,
    });
  });

  it("maps a default that is a path at the beamline, as it maps any argument", () => {
    const run = ["p", '{{ parameters.poni | default("/gpfs/current/shared/a.poni") }}'];
    expect(plan({ run }).argv[1]).toBe(`${CORE}/shared/a.poni`);
  });

  it("gives a chained job the results of the one before", () => {
    const results = [
      {
        path: `${CORE}/processed/a.png`,
        beamlinePath: "/gpfs/current/processed/a.png",
        bytes: 1,
        mediaType: "image/png",
      },
    ];
    const input = jobEnded({ type: "job.completed", results });
    const local = { name: "plot", method: "local-bash-script", on: { type: "job.completed" } };
    const run = ["./plot.sh", "{{ results[0].beamlinePath }}", "{{ cause.trigger }}"];
    expect(planJob(input, Trigger.parse({ ...local, run }), session, "default").argv).toEqual([
      "./plot.sh",
      "/gpfs/current/processed/a.png",
      "azimuthal",
    ]);
  });

  it("of a job on this host: events name the data on the core file system, the program sees the beamline's", () => {
    const local = { method: "local-bash-script", run: ["p", "{{ path }}"] };
    for (const path of ["/gpfs/current/raw/a.h5", `${CORE}/raw/a.h5`]) {
      const { argv, paths, announcedPaths } = plan(local, { path });
      expect(argv[1]).toBe("/gpfs/current/raw/a.h5");
      expect(paths).toEqual(["/gpfs/current/raw/a.h5"]);
      expect(announcedPaths).toEqual([`${CORE}/raw/a.h5`]);
    }
    const nowhere = planJob(
      message({ path: "/data/a.h5" }),
      Trigger.parse({ name: "t", ...local }),
      null,
      "g",
    );
    expect(nowhere).toMatchObject({ paths: ["/data/a.h5"], announcedPaths: ["/data/a.h5"] });
  });

  it("of a chained job has the first message's time, and stays in its trace", () => {
    const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    const first = message({ path: `${CORE}/raw/a.h5` });
    const trigger = Trigger.parse({ name: "t", run: ["p", "{{ message.time }}"] });
    const event = {
      ...first.event,
      time: "2026-11-22T11:00:00+01:00",
      traceparent: `00-${trace}-00f067aa0ba902b7-00`,
    };
    const firstPlan = planJob(readTriggerInput(event), trigger, session, "default");
    expect(firstPlan.argv[1]).toBe("2026-11-22T11:00:00+01:00");

    const { data } = jobEndedEvent({ type: "job.completed" });
    const times = { ...data.times, ready: "2026-11-22T11:00:00+01:00" };
    const { traceparent } = firstPlan;
    const ended = jobEvent({ ...data, times }, new Date("2026-11-22T12:00:00Z"), { traceparent });
    const input = readTriggerInput(toCloudEvent(ended, "/mento/default"));
    expect(input.ready).toBe("2026-11-22T11:00:00+01:00");
    const chained = planJob(input, trigger, session, "default");
    expect(chained.argv[1]).toBe("2026-11-22T11:00:00+01:00");
    expect(chained.traceparent).toMatch(new RegExp(`^00-${trace}-[0-9a-f]{16}-00$`));
    expect(chained.traceparent).not.toBe(traceparent);
  });

  it("rejects what follows so many jobs that it must be a circle", () => {
    const chainOf = (length: number) =>
      Array.from({ length }, (_, index) => ({ job: `j${index}`, trigger: `t${index % 2}` }));
    const trigger = Trigger.parse({ name: "t", run: ["true"], on: { type: "job.completed" } });
    // The event's own job is one of the chain too.
    const planAfter = (jobs: number) => () =>
      planJob(jobEnded({ type: "job.completed", chain: chainOf(jobs - 1) }), trigger, session, "default");
    expect(planAfter(LONGEST_CHAIN - 1)().chain).toHaveLength(LONGEST_CHAIN - 1);
    expect(planAfter(LONGEST_CHAIN)).toThrow(Rejected);
    expect(planAfter(LONGEST_CHAIN)).toThrow("t would follow 16 jobs, the last of t1 → t0 → azimuthal");
  });
});
