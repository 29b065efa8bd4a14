/** The library: what `import … from "mento"` offers. */

export {
  connectBroker,
  publishDataReady,
  subscribe,
  type BrokerClient,
  type ClientOptions,
  type EventFilter,
  type MessageAttributes,
  type Subscription,
} from "./broker/client.ts";
export {
  parseMetadata,
  type AsapoAccess,
  type BeamtimeMetadata,
  type OnlineResources,
  type SessionReservation,
} from "./beamtime/metadata.ts";
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
export { CloudEvent } from "./messages/cloud-event.ts";
export { DataReady, DATA_READY_TYPE } from "./messages/data-ready.ts";
export { ExitReason, JobEventData, JobState, MessageEventData } from "./messages/job-event.ts";
export { type ArgumentList } from "./argument-list.ts";
export { Job, type EndedJob } from "./job.ts";
export { Trigger, TriggerMethod, type RunOptions, type TriggerOptions } from "./trigger.ts";
