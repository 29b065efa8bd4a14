import { MAX_JSON_VALUES, tryPlainJson } from "../messages/json.ts";
import { fieldsOf } from "../shells/answer-lines.ts";
import { REQUEST_BYTES } from "../shells/bounded-file.ts";
import { parseSubmitted } from "./record-schema.ts";
import { REQUEST_PREFIX } from "./run-script.ts";

/** Where a job was submitted again; null: none. */
export interface MovedTo {
  reservation: string | null;
  partition: string | null;
}

export type SubmitAnswer =
  /** `request` is what the call that made the job has written into the run script's second line. */
  | {
      kind: "submitted";
      /** Slurm's job id, or the process's. */
      runId: string;
      /** Of a process: where it runs. */
      host: string | null;
      request: unknown;
      /** When Slurm had the job, or the process began, by the host's clock. */
      at: string | null;
      /** When it had ended, as its record says; null: it has left none. */
      endedAt: string | null;
      movedTo: MovedTo | null;
    }
  | { kind: "missing"; path: string; found: number | null }
  | { kind: "outside"; path: string; real: string }
  /** What it is told names more than can be looked at. */
  | { kind: "too-long"; path: string }
  /** The data is there, but of unknown size and written lately: what was seen of it. */
  | { kind: "changing"; look: string }
  /** As many of our jobs wait in Slurm as may. */
  | { kind: "full" }
  /** As many jobs of the trigger, or of the session, are unfinished as may. */
  | { kind: "busy"; of: "trigger" | "session" }
  /** A newer message, of this id, has had its turn. */
  | { kind: "superseded"; by: string }
  | { kind: "none" }
  /** Not submitted again, since Slurm no longer holds it. */
  | { kind: "running"; slurmState: string }
  | { kind: "in-flight" }
  /** The file that the program's output was to go to cannot be written. */
  | { kind: "no-log"; why: string }
  | { kind: "failed"; exitCode: number };

/** The answer is the last line that begins with `mento:`. */
export function parseSubmitAnswer(stdout: string, paths: readonly string[]): SubmitAnswer | undefined {
  const line = lastAnswer(stdout);
  if (line.startsWith(SUBMITTED)) return parseDirectory(line.slice(SUBMITTED.length));
  const [word, rest = ""] = fieldsOf(line, " ", 2);
  const [first = "", more = ""] = fieldsOf(rest, " ", 2);
  const number = /^\d{1,9}$/.test(first) ? Number(first) : NaN;
  const path = paths[number];
  switch (word) {
    case "missing":
      return path === undefined
        ? undefined
        : { kind: "missing", path, found: more === "-" ? null : Number(more) };
    case "companion": {
      const folder = path?.slice(0, path.lastIndexOf("/") + 1) ?? "";
      return path === undefined ? undefined : { kind: "missing", path: folder + more, found: null };
    }
    case "outside":
      return path === undefined ? undefined : { kind: "outside", path, real: more };
    case "too-long":
      return path === undefined ? undefined : { kind: "too-long", path };
    case "changing":
      return /^[0-9a-f]{64}$/.test(rest) ? { kind: "changing", look: rest } : undefined;
    case "busy":
      return { kind: "busy", of: first === "session" ? "session" : "trigger" };
    case "superseded":
      return { kind: "superseded", by: textIn(rest) };
    case "no-log":
      return { kind: "no-log", why: rest };
    case "in-flight":
    case "full":
    case "none":
      return { kind: word };
    case "running":
      return { kind: "running", slurmState: first };
    case "failed":
      return { kind: "failed", exitCode: number };
    default:
      return undefined;
  }
}

const SUBMITTED = "submitted ";

function lastAnswer(stdout: string): string {
  const at = `\n${stdout}`.lastIndexOf("\nmento:");
  if (at < 0) return "";
  const [line = ""] = stdout.slice(at + "mento:".length).split("\n", 1);
  return line;
}

/** A message's values, which can be arguments too, and its paths. */
export const MOST_REQUEST_VALUES = 2 * MAX_JSON_VALUES;

/** What lies in a job directory: the lines of `submitted`, and the request. All of it is the account's word. */
function parseDirectory(text: string): SubmitAnswer | undefined {
  const requestAt = text.indexOf(REQUEST_PREFIX);
  const said = (requestAt < 0 ? text : text.slice(0, requestAt)).trim();
  const [first = "", ...words] = said.split(" ", 10);
  const after = (word: string) => (words.includes(word) ? words.slice(words.indexOf(word) + 1) : []);
  const [at = null] = after("at");
  const [endedAt = null] = after("ended");
  const again = after("again");
  const submitted = parseSubmitted(Buffer.from(`${first}\n${again.join(" ")}`));
  if (submitted === undefined) return undefined;
  const { runId, host, reservation, partition } = submitted;
  const movedTo = again.length === 0 ? null : { reservation, partition };
  const from = requestAt + REQUEST_PREFIX.length;
  const request =
    requestAt < 0 ? undefined : tryPlainJson(text.slice(from, from + REQUEST_BYTES), MOST_REQUEST_VALUES);
  return { kind: "submitted", runId, host, request, at, endedAt, movedTo };
}

function textIn(json: string): string {
  const value = tryPlainJson(json);
  return typeof value === "string" ? value : "";
}
