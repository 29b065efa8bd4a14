import * as z from "zod";
import { Rejected } from "../errors.ts";
import { checkForm } from "./check-form.ts";
import type { CloudEvent } from "./cloud-event.ts";
import { cut } from "../text/cut.ts";
import { JsonValue } from "./json.ts";
import { LONGEST_PATH } from "./path-text.ts";

export const DATA_READY_TYPE = "mento.data.ready.v1";

// A NUL byte cannot be part of a path or of a program's argument on any Unix.
const NO_NUL = String.raw`^[^\u0000]*$`;
const text = z.string().min(1).regex(new RegExp(NO_NUL), "must not contain NUL bytes");
const ABSOLUTE = "an absolute path like /gpfs/current/raw/a.h5";
/** Neither `raw/a.h5` nor `file:///raw/a.h5` nor `C:\\raw\\a.h5`: what it is relative to, nobody could know. */
const path = z
  .string()
  .max(LONGEST_PATH)
  .regex(new RegExp(String.raw`^/[^\u0000]*$`), `must be ${ABSOLUTE}, without NUL bytes`);

/** Of one message: more is work for an hour, and belongs into several messages or a folder. */
export const MAX_PATHS = 1000;
/** Of all paths together: each is held against the globs of each trigger. */
const MOST_PATH_CHARACTERS = 256 * 1024;

export const BeamtimeId = z
  .string()
  .max(100)
  .regex(/^[A-Za-z0-9][A-Za-z0-9_-]*$/, "must be an id like 11010000 or c20210823_000_MAA");
export const BeamlineName = z
  .string()
  .max(100)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "must be a beamline's name like p11 or p02.1");

/** `data` of a `mento.data.ready.v1` message: a detector has written files. */
export const DataReady = z.strictObject({
  path: z
    .union(
      [path, z.array(path).min(1).max(MAX_PATHS)],
      `must be ${ABSOLUTE}, or a list of 1 to ${MAX_PATHS}, each of at most ${LONGEST_PATH} characters`,
    )
    .describe("The file or files, absolute, as seen at the beamline or on the core file system."),
  beamtimeId: BeamtimeId.optional().describe(
    "A beamtime's or commissioning run's id. Default: the session open at the beamline.",
  ),
  beamline: BeamlineName.optional().describe("Default: that of the session."),
  bytes: z
    .union(
      [z.int().nonnegative(), z.array(z.int().nonnegative()).min(1).max(MAX_PATHS)],
      "must be a whole number of bytes, or a list of them",
    )
    .optional()
    .describe("Expected size in bytes, one a path; with it, data counts as there only at that size."),
  detector: text.optional(),
  technique: text.optional(),
  scan: z.union([text, z.int()], "must be text or a whole number").optional(),
  sample: text.optional(),
  parameters: z
    .record(z.string(), JsonValue)
    .optional()
    .describe("Free; available to templates as {{ parameters.NAME }}."),
});
export type DataReady = z.infer<typeof DataReady>;

/** A data-ready message that has passed every check of form. */
export interface DataReadyMessage {
  event: CloudEvent;
  data: DataReady;
  paths: string[];
  /** Expected sizes in the order of `paths`; undefined if the message has none. */
  bytes: number[] | undefined;
}

/**
 * @throws Rejected `unknown-type`, `unknown-version`, `wrong-schema`
 */
export function validateDataReady(event: CloudEvent): DataReadyMessage {
  if (event.type !== DATA_READY_TYPE) throw unknownType(event.type);
  const checked = checkForm(DataReady, event.data, { path: MAX_PATHS, bytes: MAX_PATHS });
  if (checked.mistake !== undefined) throw wrongData(checked.mistake);
  const { data } = checked;
  const paths = typeof data.path === "string" ? [data.path] : data.path;
  const characters = paths.reduce((sum, one) => sum + one.length, 0);
  if (characters > MOST_PATH_CHARACTERS) {
    throw wrongData(
      `data.path: has ${characters} characters in all; ${MOST_PATH_CHARACTERS} are the most: send several messages`,
    );
  }
  const bytes = typeof data.bytes === "number" ? [data.bytes] : data.bytes;
  if (bytes !== undefined && bytes.length !== paths.length) {
    throw wrongData(`data.bytes: has ${bytes.length} sizes for ${paths.length} paths; give one size a path`);
  }
  return { event, data, paths, bytes };
}

function unknownType(type: string): Rejected {
  const known = /^(mento\.data\.ready)\.v\d+$/.exec(type);
  if (known !== null) {
    return new Rejected({
      code: "unknown-version",
      message: `The message's type is ${cut(type, 100)}; this Mento knows ${DATA_READY_TYPE}.`,
      hint: `Send ${DATA_READY_TYPE}, or run a newer Mento.`,
    });
  }
  return new Rejected({
    code: "unknown-type",
    message: `The message's type "${cut(type, 200)}" is not one that Mento knows.`,
    hint: `Send ${DATA_READY_TYPE}.`,
  });
}

function wrongData(what: string): Rejected {
  return new Rejected({
    code: "wrong-schema",
    message: `The message does not fit ${DATA_READY_TYPE}: ${what}`,
    hint: "See schemas/data-ready.json; anything of your own belongs under data.parameters.",
  });
}
