/** The library: what `import … from "mento"` offers. */

export {
  connectBroker,
  publishDataReady,
  type BrokerClient,
  type ClientOptions,
  type MessageAttributes,
} from "./broker/client.ts";
export { subscribe, type SubscribeOptions, type Subscription } from "./broker/subscribe.ts";
export { parseMetadata, type AsapoAccess, type BeamtimeMetadata } from "./beamtime/metadata.ts";
export type { OnlineResources, SessionReservation } from "./beamtime/online-analysis.ts";
export type { Session, SessionOnline } from "./beamtime/session.ts";
export { resultsPath, toBeamlinePath, toCorePath, toNodePath, type SessionRoots } from "./beamtime/paths.ts";
export {
  Deferred,
  ERROR_CODES,
  MentoError,
  Misconfigured,
  Rejected,
  Unavailable,
  type ErrorCode,
} from "./errors.ts";
export {
  isDataReadyEvent,
  isJobEvent,
  isMessageEvent,
  type DataReadyEvent,
  type JobEvent,
  type MessageEvent,
} from "./messages/announced-event.ts";
export { CloudEvent } from "./messages/cloud-event.ts";
export { DataReady, DATA_READY_TYPE } from "./messages/data-ready.ts";
export { CancelOutcome } from "./messages/job-cancel.ts";
export type { EventFilter } from "./messages/event-filter.ts";
export { ExitReason, JobEventData, JobState, MessageEventData } from "./messages/job-event.ts";
export { findSession, type SessionOptions } from "./library/find-session.ts";
export { type ArgumentList } from "./library/argument-list.ts";
export { Job, type EndedJob } from "./library/job.ts";
export { Trigger, TriggerMethod, type RunOptions, type TriggerOptions } from "./library/trigger.ts";
