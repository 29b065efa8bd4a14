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
      /** When this call has made the job, by the host's clock. */
      at: string | null;
      movedTo: MovedTo | null;
    }
  | { kind: "missing"; path: string; found: number | null }
  | { kind: "outside"; path: string; real: string }
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
  const line = stdout
    .split("\n")
    .filter((one) => one.startsWith("mento:"))
    .at(-1);
  const [word, ...rest] = (line ?? "").slice("mento:".length).split(" ");
  switch (word) {
    case "submitted": {
      // A cluster's name may follow Slurm's id, and a host's does a process's: `4711;maxwell`.
      const [, runId, host = null] = /^(\d+(?:_\d+)?)(?:;(\S+))?/.exec(rest[0] ?? "") ?? [];
      const requestAt = rest.indexOf("#");
      const isMoved = requestAt > 1;
      const [reservation = null, partition = null] = rest
        .slice(1, 3)
        .map((name) => (name === "-" ? null : name));
      const movedTo = isMoved ? { reservation, partition } : null;
      const request = parseRequest(rest.slice(requestAt < 0 ? 1 : requestAt).join(" "));
      const at = rest[1] === "at" ? (rest[2] ?? null) : null;
      return runId === undefined ? undefined : { kind: "submitted", runId, host, request, at, movedTo };
    }
    case "missing": {
      const path = paths[Number(rest[0])];
      return path === undefined
        ? undefined
        : { kind: "missing", path, found: rest[1] === "-" ? null : Number(rest[1]) };
    }
    case "companion": {
      const path = paths[Number(rest[0])];
      const folder = path?.slice(0, path.lastIndexOf("/") + 1) ?? "";
      return path === undefined
        ? undefined
        : { kind: "missing", path: folder + rest.slice(1).join(" "), found: null };
    }
    case "outside": {
      const path = paths[Number(rest[0])];
      return path === undefined ? undefined : { kind: "outside", path, real: rest.slice(1).join(" ") };
    }
    case "changing":
      return { kind: "changing", look: rest.join(" ") };
    case "busy":
      return { kind: "busy", of: rest[0] === "session" ? "session" : "trigger" };
    case "superseded":
      return { kind: "superseded", by: textIn(rest.join(" ")) };
    case "no-log":
      return { kind: "no-log", why: rest.join(" ") };
    case "in-flight":
    case "full":
    case "none":
      return { kind: word };
    case "running":
      return { kind: "running", slurmState: rest[0] ?? "" };
    case "failed":
      return { kind: "failed", exitCode: Number(rest[0]) };
    default:
      return undefined;
  }
}

function parseRequest(line: string): unknown {
  return parseJson(line.slice(REQUEST_PREFIX.length));
}

function textIn(json: string): string {
  const value = parseJson(json);
  return typeof value === "string" ? value : "";
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
