import { z } from "zod";
import { Deferred } from "../errors.ts";
import { describeIssues } from "../messages/cloud-event.ts";

/** How long a message waits for a person to mend the beamtime's files: a day. */
const GIVE_UP_AFTER_SECONDS = 24 * 3600;

/**
 * `beamtime-metadata-<id>.json`, as written since 2022-02-09
 * (confluence.desy.de, ASAP3, "Beamtime Metadata File"). Keys that Mento does not use pass unchecked.
 */
const MetadataFile = z.looseObject({
  beamtimeId: z.string().min(1),
  beamline: z.string().min(1),
  corePath: z.string().startsWith("/"),
  onlineAnalysis: z
    .looseObject({
      reservedNodes: z.array(z.string().min(1)).min(1),
      slurmReservation: z.string().min(1),
      slurmPartition: z.string().min(1),
      sshPrivateKeyPath: z.string().min(1),
      userAccount: z.string().min(1),
    })
    .optional(),
});

/** What the metadata file says about where and as whom a session's jobs run. */
export interface OnlineResources {
  reservedNodes: string[];
  reservation: string;
  partition: string;
  /** Relative to the directory of the metadata file. */
  privateKeyPath: string;
  account: string;
}

export interface BeamtimeMetadata {
  id: string;
  beamline: string;
  corePath: string;
  /** undefined for a beamtime that was started without `--online`. */
  online: OnlineResources | undefined;
}

/**
 * The text of a metadata file → the facts that Mento needs. `file` is named in the error.
 *
 * @throws Deferred `metadata-unreadable`: the file may be half written, or someone mends it
 */
export function parseMetadata(text: string, file: string): BeamtimeMetadata {
  const parsed = MetadataFile.safeParse(parseJson(text, file));
  if (!parsed.success) throw unreadable(file, describeIssues(parsed.error), parsed.error);
  const { beamtimeId, beamline, corePath, onlineAnalysis } = parsed.data;
  return {
    id: beamtimeId,
    beamline,
    corePath,
    online: onlineAnalysis && {
      reservedNodes: onlineAnalysis.reservedNodes,
      reservation: onlineAnalysis.slurmReservation,
      partition: onlineAnalysis.slurmPartition,
      privateKeyPath: onlineAnalysis.sshPrivateKeyPath,
      account: onlineAnalysis.userAccount,
    },
  };
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
