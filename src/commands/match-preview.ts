import { posix } from "node:path";
import { Sessions } from "../beamtime/session.ts";
import type { MentoConfig } from "../config/config.ts";
import { jobsDirectoryOf } from "../jobs/site-folders.ts";
import { MentoError, Rejected } from "../errors.ts";
import { requireBeamline } from "../intake/handle-message.ts";
import type { TriggerInput } from "../messages/trigger-input.ts";
import { quote } from "../shells/quote.ts";
import { normalPath } from "../messages/path-text.ts";
import { matchTriggers } from "../triggers/match.ts";
import { HERE, planJob, type JobPlan, type PlanSession } from "../triggers/plan.ts";
import type { Trigger } from "../triggers/trigger-config.ts";
import { plainText } from "../text/terminal.ts";

/** What one trigger would make of a message; as `mento match --json` prints it. */
export interface Preview {
  trigger: string;
  fires: boolean;
  /** Why it does not want the message. */
  reason: string | null;
  /** Why it wants it, and could not run. */
  error: { code: string; message: string; hint: string } | null;
  job:
    | (Pick<JobPlan, "argv" | "env" | "workdir" | "stdin" | "resultsDirectory"> & {
        id: string;
        method: Trigger["method"];
      })
    | null;
}

/** What each trigger would make of a message, in the order of the configuration. */
export function previewsOf(
  input: TriggerInput,
  { triggers, worker, site }: MentoConfig,
  { session, isKnown }: FoundSession,
): Preview[] {
  const { unmatched } = matchTriggers(input, triggers);
  const reasons = new Map(unmatched.map(({ trigger, reason }) => [trigger, reason]));
  return triggers.map((trigger) => {
    const none = { trigger: trigger.name, fires: false, reason: null, error: null, job: null };
    const reason = reasons.get(trigger.name);
    if (reason !== undefined) return { ...none, reason };
    try {
      // What runs here needs no session: without one, its paths stay as they are. Not those of an event that names one.
      const needsSession =
        !HERE.includes(trigger.method) || (input.job !== null && input.job.session.id !== null);
      const own = isKnown || needsSession ? session : null;
      if (own !== null) requireBeamline(input, own);
      const plan = planJob(input, trigger, own, worker.group, (method, of) =>
        jobsDirectoryOf(site, method, of),
      );
      const { jobId, argv, env, workdir, stdin, resultsDirectory } = plan;
      const job = { id: jobId, method: trigger.method, argv, env, workdir, stdin, resultsDirectory };
      return { ...none, fires: true, job };
    } catch (error) {
      if (!(error instanceof Rejected)) throw error;
      const { code, message, hint } = error;
      return { ...none, error: { code, message, hint } };
    }
  });
}

export function previewLines({ trigger, reason, error, job }: Preview): string[] {
  if (job === null) {
    const why = error === null ? `would not run: ${reason ?? ""}` : `${error.message} [${error.code}]`;
    const start = error === null ? "" : "would reject the message: ";
    return [plainText(`${trigger}: ${start}${why}`), ...(error === null ? [] : [`    ${error.hint}`])];
  }
  const assignments = Object.entries(job.env).map(([name, value]) => `${name}=${word(value)}`);
  return [
    `${trigger}: would run (${job.method}, job ${job.id})`,
    ...[
      [...assignments, ...job.argv.map(word)].join(" "),
      ...(job.workdir === null ? [] : [`in ${job.workdir}`]),
      ...(job.stdin === null ? [] : [`with ${word(job.stdin)} on its standard input`]),
    ].map((line) => `    ${plainText(line)}`),
  ];
}

/** Quoted only where a person would wonder. */
function word(argument: string): string {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : quote(argument);
}

export interface FoundSession {
  session: PlanSession;
  isKnown: boolean;
}

/** The session that a worker on this host would find; where there is none, one whose unknown names stand in `<…>`. */
export async function sessionFor(
  input: TriggerInput,
  site: MentoConfig["site"],
  warn: (text: string) => void,
): Promise<FoundSession> {
  try {
    const session = await new Sessions(site, warn).find(input.beamtimeId ?? undefined, input.paths);
    return { session, isKnown: true };
  } catch (error) {
    if (!(error instanceof MentoError)) throw error;
    warn(`${error.message} Names of the session that are not known stand in <…>.`);
    return { session: standIn(input, site), isKnown: false };
  }
}

function standIn({ paths, beamline, beamtimeId }: TriggerInput, site: MentoConfig["site"]): PlanSession {
  const [path = ""] = paths.map((one) => normalPath(one));
  const view = path.startsWith(posix.join(site.gpfs, "commissioning/")) ? "commissioning" : "current";
  const inCore = path.startsWith(`${site.core}/`) ? posix.relative(site.core, path) : "";
  const [folder, ofFolder, idOfFolder] =
    /^[^/]+\/gpfs\/([^/]+)\/[^/]+\/(?:data|commissioning)\/([^/]+)(?=\/)/.exec(inCore) ?? [];
  const found = {
    beamline: beamline ?? ofFolder ?? "<beamline>",
    id: beamtimeId ?? idOfFolder ?? "<beamtime>",
  };
  return {
    ...found,
    roots: {
      beamline: posix.join(site.gpfs, view),
      core: folder === undefined ? "<core path>" : posix.join(site.core, folder),
      node: posix.join(site.beamline, found.beamline, view),
    },
  };
}
