import { z } from "zod";
import { Deferred } from "../errors.ts";
import { describeIssues } from "../messages/check-form.ts";

/** How long a message waits for a person to mend the beamtime's files: a day. */
const GIVE_UP_AFTER_SECONDS = 24 * 3600;

/** A text, or nothing: the files write an absent value in several ways. */
const optionalText = z.string().min(1).nullish().catch(undefined);

/** One name, several in a list, or several joined by commas; no public file shows more than one. */
const names = z
  .union([z.string(), z.array(z.string())])
  .transform((value) => [value].flat().flatMap((text) => text.split(",")))
  .transform((all) => all.map((name) => name.trim()).filter((name) => name !== ""))
  .pipe(z.array(z.string()).min(1));

/** Node names in a list, in a list a reservation, or by the reservation's name. */
const nodeLists = z
  .union([
    z.string().transform((text) => [[text]]),
    z.array(z.string()).transform((list) => [list]),
    z.array(z.array(z.string())),
    z.record(z.string(), z.array(z.string())),
  ])
  .refine((lists) => Object.values(lists).flat().length > 0, "must name a node");

const OnlineAnalysis = z.looseObject({
  reservedNodes: nodeLists,
  slurmReservation: names,
  slurmPartition: names,
  sshPrivateKeyPath: z.string().min(1),
  userAccount: z.string().min(1),
  asapoBeamtimeTokenPath: optionalText,
  asapoBeamtimeClbtTokenPath: optionalText,
});

/**
 * `beamtime-metadata-<id>.json` and `commissioning-metadata-<id>.json`, in all forms since January 2020
 * (confluence.desy.de, ASAP3, "Beamtime Metadata File"). Keys that Mento does not use are kept unchecked.
 */
const MetadataFile = z
  .looseObject({
    beamtimeId: z.string().min(1).optional(),
    /** A commissioning run's id. */
    id: z.string().min(1).optional(),
    beamline: z.string().min(1),
    corePath: z.string().regex(/^\/+[^/]/, "must be an absolute path"),
    tag: optionalText,
    eventStart: optionalText,
    eventEnd: optionalText,
    "event-start": optionalText,
    "event-end": optionalText,
    onlineAnalysis: OnlineAnalysis.nullish(),
    asapo: z
      .looseObject({
        endpoint: optionalText,
        beamtimeTokenPath: optionalText,
        beamtimeClbtTokenPath: optionalText,
      })
      .nullish(),
  })
  .refine((file) => file.beamtimeId !== undefined || file.id !== undefined, {
    path: ["beamtimeId"],
    message: "has neither beamtimeId, as a beamtime's file, nor id, as a commissioning run's",
  });
type MetadataFile = z.infer<typeof MetadataFile>;

/** One reservation of a session. */
export interface SessionReservation {
  /** null at a site that has none: the partition and nodes alone. */
  name: string | null;
  partition: string;
  nodes: string[];
}

/** What the metadata file says about where and as whom a session's jobs run. */
export interface OnlineResources {
  /** At least one, in the file's order. */
  reservations: [SessionReservation, ...SessionReservation[]];
  /** Relative to the directory of the metadata file. */
  privateKeyPath: string;
  account: string;
}

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
  if (!parsed.success) throw unreadable(file, describeIssues(parsed.error), parsed.error);
  const { beamtimeId, id, beamline, corePath, onlineAnalysis } = parsed.data;
  return {
    kind: beamtimeId === undefined ? "commissioning" : "beamtime",
    id: beamtimeId ?? id ?? "",
    beamline: beamline.toLowerCase(),
    corePath: corePath.replace(/\/+$/, ""),
    tag: parsed.data.tag ?? undefined,
    eventStart: parsed.data.eventStart ?? parsed.data["event-start"] ?? undefined,
    eventEnd: parsed.data.eventEnd ?? parsed.data["event-end"] ?? undefined,
    online:
      onlineAnalysis == null
        ? undefined
        : {
            reservations: reservationsOf(onlineAnalysis),
            privateKeyPath: onlineAnalysis.sshPrivateKeyPath,
            account: onlineAnalysis.userAccount,
          },
    asapo: asapoOf(parsed.data),
    document: document as Record<string, unknown>,
  };
}

/**
 * Reservations, partitions and node lists belong together by their places or names; a single one is everybody's. Where
 * there are more node lists than names, the others are named by the rule `<name>_1`, `<name>_2`, …
 * (docs.desy.de/asap3, "Online Analysis Resources").
 */
function reservationsOf(online: z.infer<typeof OnlineAnalysis>): OnlineResources["reservations"] {
  const { slurmReservation, slurmPartition, reservedNodes } = online;
  const [first = ""] = slurmReservation;
  const byName = Array.isArray(reservedNodes) ? undefined : reservedNodes;
  const lists = Array.isArray(reservedNodes) ? reservedNodes : [];
  const names = [...slurmReservation];
  if (names.length === 1) {
    const more = byName === undefined ? lists.length : Object.keys(byName).length;
    for (let number = 1; number < more; number++) names.push(`${first}_${number}`);
  }
  const everyNode = Object.values(reservedNodes).flat();
  const reservations = names.map((name, place) => ({
    name,
    partition: slurmPartition[place] ?? slurmPartition[0] ?? "",
    nodes: byName?.[name] ?? lists[place] ?? everyNode,
  }));
  return reservations as OnlineResources["reservations"];
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

function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
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
