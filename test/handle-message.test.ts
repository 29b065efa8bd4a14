import { pino } from "pino";
import { describe, expect, it } from "vitest";
import type { Session } from "../src/beamtime/session.ts";
import { Deferred, MentoError, Unavailable } from "../src/errors.ts";
import { handleMessage, type IntakeEffects } from "../src/handle-message.ts";
import { METHODS } from "../src/methods/methods.ts";
import { Trigger } from "../src/triggers/trigger-config.ts";

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
  trouble: MentoError,
  { told = reported, names = ["t"], tried = [] }: Outcome = {},
): Promise<MentoError> {
  const effects: IntakeEffects = {
    group: "default",
    triggers: names.map((name) => Trigger.parse({ name, run: [name] })),
    findSession: () => Promise.resolve({ ...session, isOpen }),
    enter: () => Promise.resolve(() => undefined),
    report: () => Promise.resolve(told),
    placeFor: (_, { program = "" }) => {
      tried.push(program);
      return Promise.reject(trouble);
    },
    methods: METHODS,
    collect: () => Promise.reject(new Error("not reached")),
    track: () => Promise.reject(new Error("not reached")),
    announce: () => Promise.reject(new Error("not reached")),
    log: pino({ level: "silent" }),
    now: () => new Date(),
  };
  const body = Buffer.from(JSON.stringify({ path: "/gpfs/current/raw/a.h5" }));
  const properties = { contentType: "application/json", messageId: "1", type: "mento.data.ready.v1" };
  const received = { body, properties, receivedAt: new Date(), dataLook: undefined, onlyTrigger: undefined };
  return handleMessage(received, effects).then(
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
