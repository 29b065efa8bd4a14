import { posix } from "node:path";
import { Rejected } from "../errors.ts";
import { isBeamlinePath, toCorePath, type SessionRoots } from "../beamtime/paths.ts";
import type { Cause } from "../messages/job-event.ts";
import type { DataReadyMessage } from "../messages/data-ready.ts";
import { derivedId } from "../messages/derived-id.ts";
import { fillArguments } from "./template.ts";
import type { Trigger } from "./trigger-config.ts";

/** What one trigger makes of one message, before anything is said about where it runs. */
export interface JobPlan {
  jobId: string;
  trigger: Trigger;
  cause: Cause;
  /** The data, on the core file system, in the order of the message. */
  paths: string[];
  bytes: number[] | undefined;
  /** The program and its arguments, literal. */
  argv: string[];
  /** Where the program puts its results, on the core file system. */
  resultsDirectory: string;
}

/** A job's id: the same cause, group and trigger always give the same id, and nothing else does. */
export function jobIdFor(cause: Pick<Cause, "source" | "id">, group: string, trigger: string): string {
  return derivedId(cause.source, cause.id, group, trigger);
}

/**
 * @throws Rejected `path-outside-beamtime`, `path-not-synced`, `template-value-missing`, `wrong-argument`
 */
export function planJob(
  message: DataReadyMessage,
  trigger: Trigger,
  session: { id: string; beamline: string; roots: SessionRoots },
  group: string,
): JobPlan {
  const { event, data } = message;
  const { roots } = session;
  const cause = { source: event.source, id: event.id, type: event.type };
  const jobId = jobIdFor(cause, group, trigger.name);
  const paths = message.paths.map((path) => toCorePath(path, roots));
  const resultsDirectory = resultsDirectoryFor(paths[0] ?? roots.core, trigger.name, roots);
  const filled = fillArguments(trigger.run, {
    path: paths[0],
    paths,
    results: resultsDirectory,
    corePath: roots.core,
    beamline: session.beamline,
    beamtimeId: session.id,
    detector: data.detector,
    technique: data.technique,
    scan: data.scan,
    sample: data.sample,
    jobId,
    parameters: data.parameters ?? {},
  });
  const argv = filled.map((argument) =>
    isBeamlinePath(argument, roots) ? toCorePath(argument, roots) : argument,
  );
  if (argv.some((argument) => argument.includes("\0"))) {
    throw new Rejected({
      code: "wrong-argument",
      message: `An argument of trigger ${trigger.name} would hold a NUL byte, which no program can be given.`,
      hint: "Correct the message's parameters.",
    });
  }
  return { jobId, trigger, cause, paths, bytes: message.bytes, argv, resultsDirectory };
}

/**
 * `<core>/raw/s1/scan_0001.h5` → `<core>/processed/onlineanalysis/<trigger>/s1/scan_0001.h5`: MENTO's
 * `processed/onlineanalysis/<same subfolders>`, with a folder of its own for each trigger and file.
 */
function resultsDirectoryFor(corePath: string, trigger: string, roots: SessionRoots): string {
  const inside = posix.relative(roots.core, corePath);
  return posix.join(roots.core, "processed/onlineanalysis", trigger, inside.replace(/^raw\//, ""));
}
