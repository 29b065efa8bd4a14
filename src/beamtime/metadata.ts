import * as z from "zod";
import { Deferred } from "../errors.ts";
import { describeIssues } from "../messages/check-form.ts";
import { BeamlineName, BeamtimeId } from "../messages/data-ready.ts";
import { parsePlainJson } from "../messages/json.ts";
import { normalPath } from "../messages/path-text.ts";
import { asText, readOnlineAnalysis, type OnlineResources } from "./online-analysis.ts";

/** How long a message waits for a person to mend the beamtime's files: a day. */
const GIVE_UP_AFTER_SECONDS = 24 * 3600;

/** It becomes a folder's name, and part of routing keys. */
const SessionId = BeamtimeId.max(128);
const CorePath = z
  .string()
  .startsWith("/", "must be an absolute path, and not lead out of its first folder")
  // eslint-disable-next-line no-control-regex -- they are what must not be there
  .regex(/^[^\x00-\x1f\x7f]+$/, "must not have control characters");

/** A text, or nothing: the files write an absent value in several ways. */
const optionalText = z.string().min(1).nullish().catch(undefined);

const text = z.preprocess((value) => asText(value) ?? value, z.string().min(1));

/**
 * `beamtime-metadata-<id>.json` and `commissioning-metadata-<id>.json`, in all forms since January 2020
 * (confluence.desy.de, ASAP3, "Beamtime Metadata File"). Keys that Mento does not use are kept unchecked.
 */
const MetadataFile = z
  .looseObject({
    beamtimeId: text.pipe(SessionId).nullish(),
    /** A commissioning run's id. */
    id: text.pipe(SessionId).nullish(),
    beamline: text.pipe(BeamlineName.max(64)),
    corePath: text.transform(coreFolder).pipe(CorePath),
    tag: optionalText,
    eventStart: optionalText,
    eventEnd: optionalText,
    "event-start": optionalText,
    "event-end": optionalText,
    onlineAnalysis: z
      .looseObject({ asapoBeamtimeTokenPath: optionalText, asapoBeamtimeClbtTokenPath: optionalText })
      .nullish(),
    asapo: z
      .looseObject({
        endpoint: optionalText,
        beamtimeTokenPath: optionalText,
        beamtimeClbtTokenPath: optionalText,
      })
      .nullish(),
  })
  .refine((file) => file.beamtimeId != null || file.id != null, {
    path: ["beamtimeId"],
    message: "has neither beamtimeId, as a beamtime's file, nor id, as a commissioning run's",
  });
type MetadataFile = z.infer<typeof MetadataFile>;

export interface AsapoAccess {
  endpoint: string | undefined;
  /** Both relative to the directory of the metadata file. */
  tokenPath: string | undefined;
  readOnlyTokenPath: string | undefined;
}

export interface BeamtimeMetadata {
  kind: "beamtime" | "commissioning";
  id: string;
  /** As paths have it, in lower case. */
  beamline: string;
  corePath: string;
  tag: string | undefined;
  /** Local times of the facility, without a zone. */
  eventStart: string | undefined;
  eventEnd: string | undefined;
  /** undefined if it was started without `--online`. */
  online: OnlineResources | undefined;
  asapo: AsapoAccess | undefined;
  /** The whole file, with what Mento does not know. */
  document: Readonly<Record<string, unknown>>;
}

/**
 * The text of a metadata file, of any generation, in one shape. `file` is named in the error.
 *
 * @throws Deferred `metadata-unreadable`: the file may be half written, or someone mends it
 */
export function parseMetadata(text: string, file: string): BeamtimeMetadata {
  const document = parseJson(text, file);
  const parsed = MetadataFile.safeParse(document);
  if (!parsed.success) throw unreadable(file, describeIssues(parsed.error, document), parsed.error);
  const { beamtimeId, id, beamline, corePath, onlineAnalysis } = parsed.data;
  return {
    kind: beamtimeId == null ? "commissioning" : "beamtime",
    id: beamtimeId ?? id ?? "",
    beamline: beamline.toLowerCase(),
    corePath,
    tag: parsed.data.tag ?? undefined,
    eventStart: parsed.data.eventStart ?? parsed.data["event-start"] ?? undefined,
    eventEnd: parsed.data.eventEnd ?? parsed.data["event-end"] ?? undefined,
    online: onlineAnalysis == null ? undefined : readOnlineAnalysis(onlineAnalysis),
    asapo: asapoOf(parsed.data),
    document: document as Record<string, unknown>,
  };
}

/** Until 2021-10-27 the token paths stood in `onlineAnalysis`. */
function asapoOf({ asapo, onlineAnalysis }: MetadataFile): AsapoAccess | undefined {
  const tokenPath = asapo?.beamtimeTokenPath ?? onlineAnalysis?.asapoBeamtimeTokenPath ?? undefined;
  const readOnlyTokenPath =
    asapo?.beamtimeClbtTokenPath ?? onlineAnalysis?.asapoBeamtimeClbtTokenPath ?? undefined;
  const endpoint = asapo?.endpoint ?? undefined;
  if (endpoint === undefined && tokenPath === undefined && readOnlyTokenPath === undefined) return undefined;
  return { endpoint, tokenPath, readOnlyTokenPath };
}

/** Without `//`, `.`, `..` and a slash at the end; not absolute if that leaves its first folder, or nothing. */
function coreFolder(path: string): string {
  const normal = normalPath(path.replace(/^\/+/, "/")).replace(/\/$/, "");
  if (normal === "") return "";
  const [, first] = path.split(/\/+/, 2);
  return normal.split("/", 2)[1] === first ? normal : "";
}

function parseJson(text: string, file: string): unknown {
  try {
    return parsePlainJson(text.startsWith("\uFEFF") ? text.slice(1) : text);
  } catch (cause) {
    throw unreadable(file, cause instanceof Error ? cause.message : "not JSON", cause);
  }
}

export function unreadable(file: string, what: string, cause: unknown): Deferred {
  return new Deferred({
    code: "metadata-unreadable",
    message: `The metadata file ${file} cannot be read: ${what}.`,
    hint: "Messages wait until it can; if it stays so, ask the experts who started the beamtime.",
    giveUpAfterSeconds: GIVE_UP_AFTER_SECONDS,
    cause,
  });
}
