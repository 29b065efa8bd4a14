import { createHash } from "node:crypto";
import type { MessageProperties } from "./cloud-event.ts";
import { DATA_READY_TYPE } from "./data-ready.ts";
import type { MessageEventData } from "./job-event.ts";

/** Who sent a message and about what, as far as it can be told: also of one that is not even JSON. */
export type Origin = Pick<MessageEventData, "cause" | "beamline" | "beamtimeId" | "paths">;

export function originOf(body: Uint8Array, properties: MessageProperties): Origin {
  const envelope = objectOrEmpty(tryJson(body));
  const isStructured = "specversion" in envelope;
  const data = isStructured ? objectOrEmpty(envelope["data"]) : envelope;
  const path = data["path"];
  return {
    cause: {
      source: (isStructured ? text(envelope["source"]) : null) ?? properties.appId ?? "unknown",
      id:
        (isStructured ? text(envelope["id"]) : null) ??
        properties.messageId ??
        createHash("sha256").update(body).digest("hex"),
      type: (isStructured ? text(envelope["type"]) : null) ?? properties.type ?? DATA_READY_TYPE,
    },
    beamline: text(data["beamline"]),
    beamtimeId: text(data["beamtimeId"]),
    paths: (Array.isArray(path) ? path : [path]).filter((one): one is string => typeof one === "string"),
  };
}

function tryJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    return undefined;
  }
}

function objectOrEmpty(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {};
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}
