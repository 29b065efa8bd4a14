import type { Session } from "../beamtime/session.ts";
import type { MentoError } from "../errors.ts";
import type { Permits } from "../jobs/permits.ts";
import type { Log } from "../log.ts";
import type { OutgoingEvent } from "../messages/job-event.ts";
import type { ReceivedProperties } from "../messages/received.ts";
import type { Outgoing } from "../messages/sent-again.ts";
import type { TriggerInput } from "../messages/trigger-input.ts";
import type { Method, SubmitOptions, SubmitTarget } from "../submission/method.ts";
import type { Requirements } from "../submission/submit-targets.ts";
import type { TrackingRecord } from "../tracking/tracking-record.ts";
import type { JobPlan, JobsFolderOf } from "../triggers/plan.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import type { Outage } from "./admission.ts";
import type { Collected } from "./collect-array.ts";

export interface ReceivedMessage {
  body: Uint8Array;
  properties: ReceivedProperties;
  /** It was published to the exchange of Mento's events, where producers may not. */
  isFromEvents: boolean;
  /** As its producer has published it. */
  routingKey: string;
  /** When a worker of this group first had it. */
  receivedAt: Date;
  /** A worker had this delivery before and did not come to its end. */
  isRedelivered: boolean;
  /** What an earlier look saw of data of unknown size. */
  dataCheck: string | undefined;
  /** It was sent again for this trigger alone, whatever the trigger's `on` says. */
  onlyTrigger: string | undefined;
  /** Names of triggers whose queues it has been put into; grows as it is. */
  queuedFor: string[];
  /** Where it waits in the queue of a trigger. */
  queuedPosition: QueuedPosition | undefined;
  /** Workers that had it have ended, so often that it is not to be tried now; there it can still wait. */
  cameBack?: MentoError | undefined;
  /** The message as it is put into the queue of a trigger. */
  copyFor: (trigger: string, position: QueuedPosition) => Outgoing;
  /** Tells its sender what became of it, if it asked to be told. */
  answer: (event: OutgoingEvent) => Promise<void>;
}

/** What the copy of a message says of its position in the queue of a trigger. */
export interface QueuedPosition {
  /** See triggers/queue-position.ts. */
  concurrencyKey: string;
  order: string;
  /** The session that it was found to belong to. */
  session: string | null;
  beamline: string | null;
}

/** What a message asks of a worker before its jobs are planned. */
export interface Capacity {
  /** Of the message, for each trigger that wants it. */
  bytes: number;
  /** The highest of its triggers. */
  priority: number;
  /** None of its jobs runs elsewhere than on this host. */
  isHere: boolean;
}

/** What the line needs from outside. */
export interface MessageDeps {
  group: string;
  triggers: readonly Trigger[];
  /** Where the configuration has the directories of jobs. */
  jobsFolderOf?: JobsFolderOf;
  findSession: (beamtimeId: string | undefined, paths: readonly string[]) => Promise<Session>;
  /** Waits until the session may submit so many jobs; returns what gives the turn back. */
  enter: (session: Session, jobs: number, priority: number) => Promise<() => void>;
  /** Throws Deferred `session-busy` where a message of so many bytes, for all of its triggers, would hold up other sessions'. */
  requireCapacity: (session: Session | null, wanted: Capacity) => Promise<() => void>;
  /** Waits for a turn on this host; resolves to what gives it back. Throws Deferred `session-busy`. */
  enterHere: (session: Session | null) => Promise<() => void>;
  /** What becomes of a message whose submit met trouble that is not its own. */
  report: (session: Session, failure: Outage) => Promise<MentoError>;
  /** Where a job of the trigger can run now; looks into Slurm, but makes nothing. */
  targetFor: (session: Session | null, requirements: Requirements) => Promise<SubmitTarget>;
  /** Looks whether there are permits for the job; throws as `submit` does if not. */
  requireRoom: (session: Session | null, plan: JobPlan, permits: Permits) => Promise<void>;
  /** Puts a copy of the message into the queue of the trigger, confirmed. */
  queueFor: (trigger: string, copy: Outgoing) => Promise<void>;
  methods: Readonly<Record<Trigger["method"], Method>>;
  /** Submits the job together with others of its trigger, when these have come or a time has passed. */
  collect: (session: Session, plan: JobPlan, options: SubmitOptions) => Promise<Collected>;
  /** Puts a record on the group's queue of jobs, confirmed. */
  track: (record: TrackingRecord) => Promise<void>;
  /** Publishes an event, confirmed. */
  announce: (event: OutgoingEvent) => Promise<void>;
  log: Log;
  now: () => Date;
}

/** A message that was read. */
export interface Message {
  input: TriggerInput;
  received: ReceivedMessage;
  /** Its turn in the queue of the trigger has come. */
  isFirst: boolean;
}
