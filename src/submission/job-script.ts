import { posix } from "node:path";
import { directoryOf, spoolOf } from "../jobs/directory.ts";
import type { CopyBack } from "../jobs/copy-back.ts";
import { runScript, type RunScript } from "../jobs/run-script.ts";
import type { JobPlan } from "../triggers/plan.ts";
import { RESULTS_FOLDER } from "../triggers/plan.ts";

/** The run script of a plan's job, for the way in which it is started. */
export function jobScript(
  plan: JobPlan,
  jobsDirectory: string,
  how: Pick<RunScript, "launch" | "request"> & Partial<Pick<RunScript, "argv" | "directives" | "dataHere">>,
): string {
  const { jobId, trigger, facts, workdir, stdin, resultsDirectory } = plan;
  return runScript({
    jobId,
    directory: directoryOf(jobsDirectory, jobId),
    spool: spoolOf(jobsDirectory),
    argv: plan.argv,
    env: environmentOf(plan),
    workdir,
    stdin,
    log: plan.logFile,
    parameters: facts.parameters,
    resultsDirectory,
    resultGlobs: trigger.results,
    copyBack: copyBackOf(plan),
    directives: [],
    umask: trigger.method.startsWith("local-") ? ownUmask() : undefined,
    ...how,
  });
}

function ownUmask(): string {
  const umask = process.umask(0o077);
  process.umask(umask);
  return umask.toString(8);
}

/** What the program is told of its message; never the worker's own environment. */
function environmentOf({
  trigger,
  env,
  paths,
  cause,
  session,
  traceparent,
}: JobPlan): Record<string, string> {
  const own = {
    MENTO_TRIGGER: trigger.name,
    MENTO_DATA_PATH: paths[0] ?? "",
    MENTO_BEAMLINE: session?.beamline ?? "",
    MENTO_BEAMTIME_ID: session?.id ?? "",
    MENTO_CAUSE_SOURCE: cause.source,
    MENTO_CAUSE_ID: cause.id,
    TRACEPARENT: traceparent,
  };
  const known = { ...env };
  for (const [name, value] of Object.entries(own)) known[name] = value.replaceAll("\0", "");
  return known;
}

/**
 * Below `to`, the folders are those of the results on the core file system. When the job ends, another session may be open
 * at the beamline: the metadata file tells which.
 */
function copyBackOf({ trigger, session, resultsDirectory }: JobPlan): CopyBack | null {
  if (trigger.copyBack === undefined || session === null || resultsDirectory === null) return null;
  const { to, maxBytes, maxFiles } = trigger.copyBack;
  const { core, node, beamline } = session.roots;
  const inside = posix.relative(posix.join(core, RESULTS_FOLDER), resultsDirectory);
  const metadataFile = session.metadataFile == null ? null : posix.basename(session.metadataFile);
  return { root: node, folder: posix.join(to, inside), view: beamline, metadataFile, maxBytes, maxFiles };
}
