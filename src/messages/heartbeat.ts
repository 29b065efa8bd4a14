import * as z from "zod";
import { parseJson } from "./json.ts";

/** A worker's message on the stream `mento.workers`, every few seconds: that it is there, and how it stands. */
export const Heartbeat = z.object({
  /** Of this process alone. */
  worker: z.string().max(100),
  host: z.string().max(255),
  pid: z.int(),
  group: z.string().max(255),
  version: z.string().max(100),
  roles: z.array(z.string().max(100)).max(10),
  /** The beginning of its configuration's SHA-256: workers of a group that differ are seen. */
  configuration: z.string().max(64),
  state: z.enum(["starting", "ready", "reconnecting", "stopping", "stopped"]),
  /** When the worker began, and when it wrote this, by its own clock. */
  since: z.iso.datetime(),
  time: z.iso.datetime(),
});
export type Heartbeat = z.infer<typeof Heartbeat>;

export const HEARTBEAT_TYPE = "mento.worker.heartbeat";
/** One that says nothing for so long is missing, or does not go on. */
export const HEARTBEAT_EVERY_MS = 10_000;

/** undefined: it is none, or of a later version that says less. */
export function readHeartbeat(body: Uint8Array): Heartbeat | undefined {
  try {
    return Heartbeat.safeParse(parseJson(new TextDecoder().decode(body))).data;
  } catch {
    return undefined;
  }
}
