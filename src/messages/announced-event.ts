import type { CloudEvent } from "./cloud-event.ts";
import { DATA_READY_TYPE, type DataReady } from "./data-ready.ts";
import type { JobEventData, JobState, MessageEventData, MessageOutcome } from "./job-event.ts";

/** What became of a job, so far: `job.submitted`, `job.completed` … */
export interface JobEvent extends CloudEvent {
  type: `mento.job.${JobState}.v1`;
  data: JobEventData;
}

/** What became of a message that did not become a job. */
export interface MessageEvent extends CloudEvent {
  type: `mento.message.${MessageOutcome}.v1`;
  data: MessageEventData;
}

/** A data-ready message, as its producer sent it. */
export interface DataReadyEvent extends CloudEvent {
  type: typeof DATA_READY_TYPE;
  data: DataReady;
}

// By the type alone: Mento has made the data, and a newer Mento's has keys that this one does not know.

export function isJobEvent(event: CloudEvent): event is JobEvent {
  return /^mento\.job\.[a-z]+\.v1$/.test(event.type) && isObject(event.data) && isObject(event.data["job"]);
}

export function isMessageEvent(event: CloudEvent): event is MessageEvent {
  return /^mento\.message\.[a-z]+\.v1$/.test(event.type) && isObject(event.data);
}

/** What producers send is not checked: see `DataReady` for what it is to be. */
export function isDataReadyEvent(event: CloudEvent): event is DataReadyEvent {
  return event.type === DATA_READY_TYPE && isObject(event.data);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
