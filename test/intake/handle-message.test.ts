import { pino } from "pino";
import { describe, expect, it } from "vitest";
import type { Session } from "../../src/beamtime/session.ts";
import { Deferred, MentoError, Superseded, Unavailable } from "../../src/errors.ts";
import { handleMessage, handleQueued, requireBeamlineOfKey } from "../../src/intake/handle-message.ts";
import type { MessageDeps, QueuedPosition, ReceivedMessage } from "../../src/intake/message.ts";
import type { TrackingRecord } from "../../src/tracking/tracking-record.ts";
import type { OutgoingEvent } from "../../src/messages/job-event.ts";
import { METHODS } from "../../src/submission/methods.ts";
import type { SubmittedJob } from "../../src/submission/method.ts";
import { noPermitYet } from "../../src/submission/submit-answer.ts";
import type { Shell } from "../../src/shells/shell.ts";
import type { JobPlan } from "../../src/triggers/plan.ts";
import { Trigger, TriggerSlurm } from "../../src/triggers/trigger-config.ts";

const session: Session = {
  kind: "beamtime",
  isOpen: true,
  id: "11010000",
  beamline: "p11",
  roots: {
    beamline: "/gpfs/current",
    core: "/asap3/petra3/gpfs/p11/2026/data/11010000",
    node: "/beamline/p11/current",
  },
  metadataFile: null,
  eventStart: null,
  eventEnd: null,
  asapo: null,
  online: null,
};

const reported = new Unavailable({ code: "ssh-unreachable", message: "reported", hint: "" });
const away = new Unavailable({ code: "ssh-unreachable", message: "away", hint: "" });

interface Outcome {
  told?: MentoError;
  names?: string[];
  tried?: string[];
}

/** What becomes of a message whose session's node does not work. */
async function outcome(
  isOpen: boolean,
  failure: MentoError,
  { told = reported, names = ["t"], tried = [] }: Outcome = {},
): Promise<MentoError> {
  const deps: MessageDeps = {
    group: "default",
    triggers: names.map((name) => Trigger.parse({ name, run: [name] })),
    findSession: () => Promise.resolve({ ...session, isOpen }),
    enter: () => Promise.resolve(() => undefined),
    requireCapacity: () => Promise.resolve(() => undefined),
    enterHere: () => Promise.resolve(() => undefined),
    report: () => Promise.resolve(told),
    targetFor: (_, { program = "" }) => {
      tried.push(program);
      return Promise.reject(failure);
    },
    requireRoom: () => Promise.reject(new Error("not reached")),
    queueFor: () => Promise.reject(new Error("not reached")),
    methods: METHODS,
    collect: () => Promise.reject(new Error("not reached")),
    track: () => Promise.reject(new Error("not reached")),
    announce: () => Promise.reject(new Error("not reached")),
    log: pino({ level: "silent" }),
    now: () => new Date(),
  };
  const body = Buffer.from(JSON.stringify({ path: "/gpfs/current/raw/a.h5" }));
  const properties = { contentType: "application/json", messageId: "1", type: "mento.data.ready.v1" };
  const received: ReceivedMessage = {
    ...{
      body,
      properties,
      isFromEvents: false,
      routingKey: "-.-.data.ready",
      receivedAt: new Date(),
      dataCheck: undefined,
      onlyTrigger: undefined,
    },
    queuedFor: [],
    queuedPosition: undefined,
    copyFor: () => ({ body, properties }),
    isRedelivered: false,
    answer: () => Promise.resolve(),
  };
  return handleMessage(received, deps).then(
    () => {
      throw new Error("it was handled");
    },
    (error: unknown) => error as MentoError,
  );
}

describe("a login that the node refuses", () => {
  const refused = new Deferred({
    code: "ssh-login-refused",
    message: "max-p11-001 does not accept bt1.",
    hint: "",
    giveUpAfterSeconds: 600,
  });

  it("is waited out while the session is open", async () => {
    expect(await outcome(true, refused)).toBe(refused);
  });

  it("means that the beamtime has ended once it is closed", async () => {
    expect(await outcome(false, refused)).toMatchObject({ name: "Rejected", code: "beamtime-ended" });
  });
});

it("a trigger whose own command fails does not keep the others from their jobs", async () => {
  const own = new Deferred({ code: "ssh-lost", message: "lost", hint: "", giveUpAfterSeconds: 3600 });
  const tried: string[] = [];
  const told = await outcome(true, away, { told: own, names: ["first", "second"], tried });
  expect(told).toBe(own);
  expect(tried).toEqual(["first", "second"]);
  tried.length = 0;
  expect(await outcome(true, away, { told: reported, names: ["first", "second"], tried })).toBe(reported);
  expect(tried).toEqual(["first"]);
});

it("a node that cannot be reached is reported, and what becomes of the message is decided there", async () => {
  expect(await outcome(true, away)).toBe(reported);
});

describe("a trigger that counts its jobs", () => {
  const at = new Date("2026-05-01T12:00:00Z");
  const target = {
    shell: {} as Shell,
    corePath: null,
    jobsDirectory: "/j",
    allocation: null,
    maxPending: null,
    notice: null,
    slurm: { ...TriggerSlurm.parse({}), time: "01:00:00" },
    rest: null,
    userScript: null,
  };

  /** What is done with a message for two triggers, of which the second counts its jobs. */
  async function handle(
    { position, ...more }: Partial<ReceivedMessage> & { position?: "now" | { overtakenBy: string } },
    changes: Partial<MessageDeps> = {},
    find = () => nothing,
  ) {
    const did: string[] = [];
    const events: OutgoingEvent[] = [];
    const job = (name: string) => ({
      ...{
        slurmJobId: null,
        process: null,
        arrayId: null,
        submittedAt: at.toISOString(),
        receivedAt: at.toISOString(),
        endedAt: null,
        name,
        directory: "/j",
        allocation: null,
      },
    });
    const received = {
      ...{ body: Buffer.from(JSON.stringify({ path: "/gpfs/current/raw/a.h5" })), receivedAt: at },
      ...{ properties: { messageId: "1", appId: "/s" }, dataCheck: undefined, onlyTrigger: undefined },
      routingKey: "p11.-.data.ready",
      ...{ queuedFor: [], queuedPosition: undefined, isFromEvents: false, isRedelivered: false },
      answer: () => Promise.resolve(),
      copyFor: (trigger: string, { session, beamline }: QueuedPosition) => ({
        ...{
          body: Buffer.from(""),
          properties: { messageId: `${trigger} of ${String(session)} at ${String(beamline)}` },
        },
      }),
      ...more,
    };
    const named = (name: string, config = {}) => Trigger.parse({ name, run: ["/bin/true"], ...config });
    const show = named("show", { latest: true, priority: 1 });
    const deps: MessageDeps = {
      group: "default",
      requireCapacity: () => Promise.resolve(() => undefined),
      enterHere: () => Promise.resolve(() => undefined),
      triggers: [named("plain"), show],
      findSession: () => Promise.resolve(session),
      enter: (_, jobs, priority) => {
        did.push(`enter for ${jobs} at ${priority}`);
        return Promise.resolve(() => undefined);
      },
      report: () => Promise.reject(new Error("not reached")),
      collect: () => Promise.reject(new Error("not reached")),
      targetFor: () => Promise.resolve(target),
      requireRoom: (_, { trigger }) => Promise.resolve(void did.push(`look for ${trigger.name}`)),
      queueFor: (_, { properties }) => Promise.resolve(void did.push(`queue ${properties.messageId}`)),
      methods: {
        ...METHODS,
        "remote-sbatch-script": {
          submit: ({ trigger }) => {
            did.push(`submit ${trigger.name}`);
            return Promise.resolve(job(trigger.name));
          },
          find: ({ trigger }) => Promise.resolve(find() === nothing ? null : job(trigger.name)),
        },
      },
      track: ({ semaphores = [] }) =>
        Promise.resolve(void did.push(`track with ${semaphores.length} permits`)),
      announce: (event) => Promise.resolve(void events.push(event)),
      log: pino({ level: "silent" }),
      now: () => at,
      ...changes,
    };
    if (position === undefined) await handleMessage(received, deps);
    else await handleQueued(received, show, position, deps);
    return { did, events, received };
  }
  const nothing = Symbol("nothing");
  const queuedPosition = { concurrencyKey: "d", order: "0-x", session: "11010000", beamline: "p11" };

  it("gets a copy of the message into its queue, and keeps no other from its job", async () => {
    const { did, received } = await handle({});
    const others = ["submit plain", "track with 0 permits"];
    expect(did).toEqual(["enter for 0 at 1", "queue show of 11010000 at p11", "enter for 1 at 0", ...others]);
    expect(received.queuedFor).toEqual(["show"]);
    expect((await handle({ queuedFor: ["show"] })).did).toEqual(["enter for 1 at 0", ...others]);
  });

  describe("whose jobs had ended before it came", () => {
    const ranBefore = (name: string): SubmittedJob => ({
      ...{ slurmJobId: "4711", process: null, arrayId: null, name, directory: "/j", allocation: null },
      receivedAt: "2026-04-01T00:00:00.000Z",
      submittedAt: "2026-04-01T00:00:01.000Z",
      endedAt: "2026-04-01T00:00:09.000Z",
    });
    const methods = {
      ...METHODS,
      "remote-sbatch-script": {
        submit: ({ trigger }: JobPlan) => Promise.resolve(ranBefore(trigger.name)),
        find: ({ trigger }: JobPlan) => Promise.resolve(ranBefore(trigger.name)),
      },
    };
    const announced = ({ events }: { events: OutgoingEvent[] }) => events.map(({ type }) => type);

    it("is ignored in words, its sender is told, and what is told of the jobs is what was told then", async () => {
      const answers: OutgoingEvent[] = [];
      const answer = (event: OutgoingEvent) => Promise.resolve(void answers.push(event));
      const done = await handle({ answer }, { methods });
      const submitted = "mento.job.submitted.v1";
      expect(announced(done)).toEqual([submitted, submitted, "mento.message.ignored.v1"]);
      expect(done.events[0]).toMatchObject({
        time: "2026-04-01T00:00:01.000Z",
        data: { times: { received: "2026-04-01T00:00:00.000Z" } },
      });
      const times = { submitted: "2026-04-01T00:00:01.000Z", ended: "2026-04-01T00:00:09.000Z" };
      expect(done.events[2]?.data).toMatchObject({
        reason: "already-run",
        reasons: ["show", "plain"].map((trigger) => ({ trigger, job: { slurmJobId: "4711", ...times } })),
      });
      expect(answers).toEqual([done.events[2]]);
    });

    it("is not, if one of them is new, or a worker had the message and has died", async () => {
      const plain = { submit: () => Promise.resolve({ ...ranBefore("plain"), endedAt: null }) };
      const mixed = { ...methods, "remote-sbatch-script": { ...methods["remote-sbatch-script"], ...plain } };
      expect(announced(await handle({}, { methods: mixed }))).not.toContain("mento.message.ignored.v1");
      const again = await handle({ isRedelivered: true }, { methods });
      expect(announced(again)).not.toContain("mento.message.ignored.v1");
    });
  });

  it("is told of the job again if there is one, without a turn", async () => {
    const { did } = await handle({ onlyTrigger: "show" }, {}, () => Symbol("a job"));
    expect(did).toEqual(["enter for 0 at 1", "track with 1 permits"]);
  });

  it("is one of the message's trace, which its record keeps for its events", async () => {
    const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    const event = {
      ...{ specversion: "1.0", id: "1", source: "/s", type: "mento.data.ready.v1" },
      ...{ traceparent: `00-${trace}-00f067aa0ba902b7-01`, data: { path: "/gpfs/current/raw/a.h5" } },
    };
    const records: TrackingRecord[] = [];
    const { events } = await handle(
      { body: Buffer.from(JSON.stringify(event)), queuedFor: ["show"] },
      { track: (record) => Promise.resolve(void records.push(record)) },
    );
    expect(events[0]?.traceparent).toMatch(new RegExp(`^00-${trace}-[0-9a-f]{16}-01$`));
    expect(records[0]?.traceparent).toBe(events[0]?.traceparent);
    expect(events[0]?.traceparent).not.toContain("00f067aa0ba902b7");
  });

  it("is not submitted again for its node once more, if it was found and had been before", async () => {
    const records: TrackingRecord[] = [];
    const retrying = Trigger.parse({ name: "plain", run: ["/bin/true"], retries: 2 });
    const job = {
      slurmJobId: "4712",
      process: null,
      arrayId: null,
      submittedAt: at.toISOString(),
      receivedAt: at.toISOString(),
      endedAt: null,
      name: "plain",
    };
    const found = { ...job, directory: "/j", allocation: null, wasMoved: true as const };
    await handle(
      {},
      {
        triggers: [retrying],
        methods: { ...METHODS, "remote-sbatch-script": { submit: () => Promise.resolve(found) } },
        track: (record) => Promise.resolve(void records.push(record)),
      },
    );
    expect(records).toMatchObject([{ retries: 2, retried: 2 }]);
  });

  it("submits when its turn has come, if there is room", async () => {
    const { did } = await handle({ onlyTrigger: "show", position: "now", queuedPosition });
    expect(did).toEqual(["look for show", "enter for 1 at 1", "submit show", "track with 1 permits"]);
  });

  it("is not tried with a message that has come back from many workers, if there is room for it", async () => {
    const cameBack = new Deferred({
      code: "worker-ended",
      message: "",
      hint: "",
      giveUpAfterSeconds: Infinity,
    });
    const full = noPermitYet("show", "trigger");
    const more = { onlyTrigger: "show", position: "now", queuedPosition, cameBack } as const;
    await expect(handle(more)).rejects.toBe(cameBack);
    await expect(handle(more, { requireRoom: () => Promise.reject(full) })).rejects.toBe(full);
  });

  it("takes no turn of the session's while there is no room", async () => {
    const full = noPermitYet("show", "trigger");
    const entered: string[] = [];
    const handled = handle(
      { onlyTrigger: "show", position: "now", queuedPosition },
      {
        requireRoom: () => Promise.reject(full),
        enter: () => {
          entered.push("entered");
          return Promise.resolve(() => undefined);
        },
      },
    );
    await expect(handled).rejects.toBe(full);
    expect(entered).toEqual([]);
  });

  it("announces what was overtaken, under an id that is the job's, the same each time", async () => {
    const overtaken = { onlyTrigger: "show", position: { overtakenBy: "2" }, queuedPosition };
    const { did, events } = await handle(overtaken);
    expect(did).toEqual([]);
    expect(events).toMatchObject([
      {
        type: "mento.message.ignored.v1",
        routingKey: "p11.11010000.message.ignored",
        data: { cause: { id: "1" }, reasons: [{ trigger: "show", reason: "superseded by message 2" }] },
      },
    ]);
    const late = await handle(
      { onlyTrigger: "show", position: "now", queuedPosition },
      { requireRoom: () => Promise.reject(new Superseded("3")) },
    );
    expect(late.events.map(({ id }) => id)).toEqual(events.map(({ id }) => id));
    expect(events[0]?.id).toMatch(/\/ignored\/[a-z2-7]{26}$/);
    const unwanted = await handle({}, { triggers: [] });
    expect(unwanted.events[0]?.id).toMatch(/\/ignored$/);
  });
});

describe("a routing key", () => {
  const session = { id: "11010000", beamline: "p02.1" };
  it.each(["p02-1.11010000.data.ready", "P02-1.-.data.ready", "-.-.data.ready", "eiger", "p11.x", ""])(
    "%s is of the session's beamline, or of none",
    (key) => {
      requireBeamlineOfKey(key, session);
    },
  );

  it.each(["p11.11010000.data.ready", "p02.-.data.ready"])("%s is of another beamline", (key) => {
    expect(() => {
      requireBeamlineOfKey(key, session);
    }).toThrow(
      expect.objectContaining({ code: "wrong-beamline", hint: expect.stringContaining("p02-1.") as string }),
    );
  });
});
