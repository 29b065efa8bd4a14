import * as z from "zod";
import { cut } from "../../text/cut.ts";
import type { Reply } from "./request.ts";

/** `error_code` is v0.0.38's name where a job is submitted, `errno` where it lists nodes and reservations. */
const Problem = z.looseObject({
  error_number: z.number().nullish(),
  error_code: z.number().nullish(),
  errno: z.number().nullish(),
  error: z.string().nullish(),
  description: z.string().nullish(),
});

const jobId = z.union([z.number(), z.string()]).nullish();

const list = z.array(z.unknown()).nullish();

/** Every answer of slurmrestd has `errors`, empty or not; without, something else has answered. */
const Envelope = z.looseObject({
  errors: z.array(Problem),
  jobs: list,
  reservations: list,
  nodes: list,
  job_id: jobId,
  result: z.looseObject({ job_id: jobId }).nullish(),
  /** What became of a cancelled job, since v0.0.42. */
  status: z.array(z.looseObject({ error: z.looseObject({ code: z.number() }).nullish() })).nullish(),
});

export type Answer =
  | Done
  /** slurmctld, or slurmrestd for it, said no; `number` is that of slurm_errno.h. */
  | { kind: "error"; number: number | undefined; text: string }
  | { kind: "refused"; text: string }
  | { kind: "unknown-path" }
  | { kind: "moved"; to: string }
  | { kind: "unsent"; why: string }
  | { kind: "broken"; why: string };

export interface Done {
  kind: "done";
  /** What was asked for; undefined if the answer has no such list. */
  jobs: unknown[] | undefined;
  reservations: unknown[] | undefined;
  nodes: unknown[] | undefined;
  jobId: string | undefined;
  cancelError: number | undefined;
  /** The server's clock, milliseconds, if it says it. */
  date: number | undefined;
}

/** What a server says goes into errors, events and logs. */
const LONGEST_WORDS = 500;

/** Slurm's id of a job, as a number or its digits; undefined for all else. */
export function slurmIdOf(value: unknown): string | undefined {
  if (typeof value !== "number" && typeof value !== "string") return undefined;
  const id = String(value);
  return /^[1-9]\d{0,9}$/.test(id) ? id : undefined;
}

export const NO_SUCH_JOB = 2017;
export const ALREADY_DONE = 2021;

const AUTHENTICATION = 1007;
const UNKNOWN_URL = 9006;

function saysNotFound(text: string): boolean {
  return /not found|unable to find|invalid job id/i.test(text) && !/authenticat/i.test(text);
}

/** SLURM_PROTOCOL_AUTHENTICATION_ERROR and ESLURM_AUTH_*; v0.0.38 has only its general error for it. */
function isAboutToken(number: number | undefined): boolean {
  return number === AUTHENTICATION || (number !== undefined && number >= 6000 && number < 6100);
}

/** Of slurm_errno.h. Slurm's controller did not get the request: no connection, told to come later, only a backup. */
const NOT_TAKEN = new Set([1001, 1800, 1804, 2027]);
/** It may have got it: the connection ended while it was sent, or before an answer came. */
const NO_WORD = new Set([1002, 1003, 1004, 1801, 1802, 1803, 1805, 5003, 5004, 5005, 5006]);

/**
 * What an error says of the controller. Slurm's own numbers begin at 1000; a smaller one, errno's or -1, is what
 * slurmrestd says where an answer is missing, and v0.0.38 also of a token that is not valid.
 */
export function controllerState(number: number | undefined): "away" | "silent" | "answers" {
  if (number === undefined) return "answers";
  if (NOT_TAKEN.has(number)) return "away";
  return number < 1000 || NO_WORD.has(number) ? "silent" : "answers";
}

export function readAnswer(reply: Reply): Answer {
  if (reply.kind !== "answer") return reply;
  const { status, location, date, text, json } = reply;
  const envelope = Envelope.safeParse(json).data;
  if (envelope === undefined) {
    const said = text.replaceAll(/\s+/g, " ").trim().slice(0, 200) || `only status ${status}`;
    if (status === 404) return { kind: "unknown-path" };
    if (status === 401 || status === 403 || status === 407) return { kind: "refused", text: said };
    // 304 is what Slurm 22.05 says of nodes and reservations, now and then, to who has not asked for changes alone.
    if (status >= 300 && status < 400 && status !== 304)
      return { kind: "moved", to: cut(location ?? "nowhere", LONGEST_WORDS) };
    // Of slurmrestd: it could not read the request.
    if (status >= 400 && status < 500) return { kind: "error", number: undefined, text: said };
    return { kind: "broken", why: `its answer, with status ${status}, is not Slurm's: ${said}` };
  }
  const { errors, job_id, result, status: cancelled } = envelope;
  const listed = {
    jobs: envelope.jobs ?? undefined,
    reservations: envelope.reservations ?? undefined,
    nodes: envelope.nodes ?? undefined,
  };
  const ids = [job_id, result?.job_id].filter((one) => one != null);
  const [made] = ids.map(slurmIdOf);
  const isOk = status >= 200 && status < 300;
  // A proxy's answer, or one that contradicts itself: whatever was asked for may have been done.
  const isUnclear = isOk
    ? new Set(ids.map(slurmIdOf)).size > 1
    : errors.length === 0 || made !== undefined || status < 400;
  if (isUnclear) {
    const which = made === undefined ? "does not say why" : `names job ${made}`;
    return { kind: "broken", why: `it has status ${status}, and ${which}` };
  }
  // v0.0.38 lists as an error why a job that it did submit must wait.
  if (errors.length === 0 || made !== undefined) {
    const cancelError = cancelled
      ?.map(({ error }) => error?.code)
      .find((code) => code !== undefined && code !== 0);
    return { kind: "done", ...listed, jobId: made, cancelError, date };
  }
  const numbers = errors.map(
    ({ error_number, error_code, errno }) => error_number ?? error_code ?? errno ?? undefined,
  );
  const number = numbers.find((one) => one !== undefined);
  const words = errors.flatMap(({ error, description }) => error ?? description ?? []);
  const said = cut([...new Set(words)].join("; "), LONGEST_WORDS) || `error ${number ?? "without a number"}`;
  // As ESLURM_REST_UNKNOWN_URL, Slurm 24.11 and later have words for it where others have none.
  if (number === UNKNOWN_URL) return { kind: "unknown-path" };
  // The number for a token that is not valid also came with these words.
  if (number === AUTHENTICATION && saysNotFound(said))
    return { kind: "error", number: NO_SUCH_JOB, text: said };
  return isAboutToken(number) ? { kind: "refused", text: said } : { kind: "error", number, text: said };
}
