import { MOST_PASSED_OVER } from "../beamtime/reservation.ts";
import { cut } from "../text/cut.ts";
import { canBe } from "../time/can-be.ts";
import * as z from "zod";
import { Deferred, MentoError, Misconfigured, Rejected, Superseded } from "../errors.ts";
import type { DataWanted } from "../jobs/data-check.ts";
import { directoryOf } from "../jobs/directory.ts";
import type { SubmitAnswer } from "../jobs/submit-said.ts";
import { At, FolderName } from "../jobs/record-schema.ts";
import { lastLines } from "../shells/answer-lines.ts";
import { tooManyPending } from "../slurm/slurm-now.ts";
import { checkForm } from "../messages/check-form.ts";
import { MAX_PATHS } from "../messages/data-ready.ts";
import type { CommandEnd } from "../shells/shell.ts";
import type { JobPlan } from "../triggers/plan.ts";
import type { SubmitTarget, SubmitOptions, SubmittedJob } from "./method.ts";

/** Of what is said for a person of a submit. */
export const LONGEST_NOTE = 200;
/** Of a reservation, a partition, or a time. */
const ReportedState = z.string().regex(/^[!-~]{1,255}$/);

function notesIn(said: unknown): string[] | undefined {
  if (!Array.isArray(said)) return undefined;
  return said
    .slice(0, MOST_PASSED_OVER)
    .flatMap((one) => (typeof one === "string" ? [cut(one, LONGEST_NOTE)] : []));
}

/** What the run script's second line says of the submit that made the job: the account can have written it. */
const SubmittedRequest = z.looseObject({
  /** Over the REST API alone, whose job writes its directory only when it begins. */
  submittedAt: At.optional(),
  receivedAt: At.optional(),
  paths: z.array(z.string()),
  array: FolderName.optional(),
  allocation: z
    .object({
      reservation: ReportedState.nullable(),
      partition: ReportedState.nullable(),
      time: ReportedState,
      passedOver: z.unknown().transform(notesIn).optional(),
    })
    .optional(),
});

/** What the run script's second line says of a submit: of a job that is found later its events are the same again. */
export function requestOf({ trigger, cause, paths, argv }: JobPlan, received: Date) {
  const { name, method } = trigger;
  return { receivedAt: received.toISOString(), trigger: name, method, cause, paths, argv };
}

/**
 * The data that the job needs; null where nobody looks: here, and for what follows on a job that had it. What waits for
 * its turn had settled before.
 */
export function dataOf(
  { trigger, paths, bytes, chain }: JobPlan,
  { corePath }: SubmitTarget,
  seenBefore: string | undefined,
  isSettled = false,
): DataWanted | null {
  if (corePath === null || chain.length > 0 || paths.length === 0) return null;
  return { root: corePath, paths, bytes, companions: trigger.companions, seenBefore, isSettled };
}

/** The remote call's answer, and all that it may be about. */
interface Concluded {
  answer: SubmitAnswer | undefined;
  end: CommandEnd;
  plan: JobPlan;
  target: SubmitTarget;
  options: SubmitOptions;
  /** Why a submit failed, by what it has said. */
  refusal: (failed: Failed, plan: JobPlan, target: SubmitTarget, options: SubmitOptions) => Promise<Error>;
}

/** How an `sbatch` ended that gave no answer. */
export interface Failed {
  code: number;
  stderr: string;
}

/** What follows from the answer: the job, or the reason why there is none. */
export async function conclude({
  answer,
  end,
  plan,
  target,
  options,
  refusal,
}: Concluded): Promise<SubmittedJob> {
  const { dataTimeout, dataCheck, received } = options;
  const { jobsDirectory, shell, allocation } = target;
  switch (answer?.kind) {
    case "submitted": {
      const checked = checkForm(SubmittedRequest, answer.request, { paths: MAX_PATHS });
      const earlier = "data" in checked ? checked.data : undefined;
      if (earlier !== undefined && !sameList(earlier.paths, plan.paths)) throw idReused(plan, earlier.paths);
      const isProcess = allocation === null;
      return {
        slurmJobId: isProcess ? null : answer.runId,
        process: isProcess ? { host: hostOf(answer.host, target), pid: Number(answer.runId) } : null,
        receivedAt: timeIn(earlier?.receivedAt) ?? received.toISOString(),
        submittedAt: timeIn(earlier?.submittedAt) ?? timeOf(answer.at) ?? new Date().toISOString(),
        endedAt: timeOf(answer.endedAt) ?? null,
        name: plan.trigger.name,
        directory: directoryOf(jobsDirectory, plan.jobId),
        arrayId: earlier?.array ?? null,
        ...(answer.movedTo !== null && { wasMoved: true as const }),
        allocation:
          answer.movedTo ?? earlier?.allocation ?? (allocation instanceof MentoError ? null : allocation),
      };
    }
    case "missing":
      throw dataNotThere(answer.path, answer.found, plan, dataTimeout);
    case "changing":
      throw dataChanging(plan, answer.look, dataTimeout, dataCheck === undefined);
    case "outside":
      throw new Rejected({
        code: "path-outside-beamtime",
        message: `${answer.path} leads to ${answer.real}, which is outside the beamtime, or a key or token of it.`,
        hint: "Send the path of data inside the beamtime; see where symbolic links lead.",
      });
    case "full":
      throw tooManyPending(shell.account, target.maxPending ?? 0);
    case "busy":
      throw noPermitYet(plan.trigger.name, answer.of);
    case "superseded":
      throw new Superseded(answer.by);
    case "in-flight":
      throw new Deferred({
        code: "submit-in-flight",
        message: `Job ${plan.jobId} is being submitted by another call, or one was cut off.`,
        hint: "Mento looks again, and finds out which.",
        giveUpAfterSeconds: 24 * 3600,
      });
    case "no-log":
      throw new Misconfigured({
        code: "wrong-usage",
        message: `On ${shell.host} the log file ${plan.logFile ?? ""} cannot be written: ${answer.why}.`,
        hint: `It needs a folder that ${shell.account} can write to.`,
      });
    case "failed":
      throw await refusal({ code: answer.exitCode, stderr: end.stderr }, plan, target, options);
    default: {
      const failure = folderFailure(end.stderr);
      if (failure !== undefined) throw notWritable(failure, target);
      throw new Deferred({
        code: "submit-not-now",
        message: `The submit on ${shell.host} gave no answer: ${lastLine(end.stderr) || `exit code ${end.code ?? "none"}`}.`,
        hint: `Can ${shell.account} write to ${jobsDirectory}${allocation === null ? "" : ", and is sbatch in its PATH"}?`,
        giveUpAfterSeconds: 3600,
      });
    }
  }
}

/** The account could name any host, and have the worker connect to it. Empty: it is not known. */
function hostOf(said: string | null, { hosts }: SubmitTarget): string {
  return said !== null && (hosts?.includes(said) ?? true) ? said : "";
}

/** A host whose `date` says anything else has no time to tell. */
function timeOf(said: string | null): string | undefined {
  return timeIn(At.safeParse(said).data);
}

/** The files that tell it are the account's. */
function timeIn(said: string | undefined): string | undefined {
  return said !== undefined && canBe(Date.parse(said)) ? said : undefined;
}

/** strerror(3), in the C locale, which our commands run in. */
const FOLDER_TROUBLE = new RegExp(
  [
    ...["No space left on device", "Disk quota exceeded", "Read-only file system", "Permission denied"],
    ...["Stale file handle", "Input/output error", "Transport endpoint is not connected", "File too large"],
    ...["No such file or directory", "Not a directory", "Too many links"],
  ].join("|"),
);

/** The line in which a program says why it could not write; the last one, for what comes first may be a consequence. */
function folderFailure(stderr: string): string | undefined {
  const said = lastLines(stderr).filter((line) => FOLDER_TROUBLE.test(line));
  return said.at(-1)?.trim();
}

function notWritable(said: string, { shell, jobsDirectory }: SubmitTarget): Deferred {
  const isTheJobs = said.includes(jobsDirectory);
  // Another node may have room where this one has not.
  if (!isTheJobs) shell.leaveHost?.();
  const where = isTheJobs ? `to ${jobsDirectory}` : `what a submit needs`;
  return new Deferred({
    code: "folder-not-writable",
    message: `On ${shell.host} ${shell.account} cannot write ${where}: ${said}.`,
    hint: "Make room there, or have the quota, the mount or the permissions put right; Mento tries again.",
    giveUpAfterSeconds: 24 * 3600,
  });
}

/** Not now: as many of these jobs as may have not ended yet. */
export function noPermitYet(trigger: string, of: "trigger" | "session"): Deferred {
  const what = of === "trigger" ? `jobs of trigger ${trigger}` : `jobs of the session`;
  return new Deferred({
    code: of === "trigger" ? "trigger-full" : "session-full",
    message: `As many ${what} as may have not ended yet.`,
    hint: "The message waits for its turn; the trigger's concurrency says how many there may be.",
    giveUpAfterSeconds: Infinity,
    isSilent: true,
  });
}

function dataNotThere(path: string, found: number | null, plan: JobPlan, giveUpAfterSeconds: number) {
  const wanted = plan.bytes?.[plan.paths.indexOf(path)];
  const state = found === null ? "is not there" : `has ${found} of ${wanted ?? "?"} bytes so far`;
  return new Deferred({
    code: "data-not-there",
    message: `The data is not on the core file system yet: ${path} ${state}.`,
    hint: "It is copied from the beamline with a delay; Mento looks again.",
    giveUpAfterSeconds,
  });
}

/** One look at fresh data says nothing yet: only a second that differs is worth an event. */
function dataChanging(plan: JobPlan, look: string, giveUpAfterSeconds: number, isFirstCheck: boolean) {
  return new Deferred({
    code: "data-changing",
    message: `The data on the core file system is still being written: ${plan.paths.join(", ")}.`,
    hint: "Mento looks until it stays the same; a message with `bytes` says when it is whole.",
    giveUpAfterSeconds,
    dataCheck: look,
    isSilent: isFirstCheck,
  });
}

export function lastLine(text: string): string {
  return lastLines(text).at(-1) ?? "";
}

function sameList(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((value, index) => value === other[index]);
}

function idReused(plan: JobPlan, paths: readonly string[]): Rejected {
  const { id, source } = plan.cause;
  return new Rejected({
    code: "id-reused",
    message: `The message's id ${id} from ${source} was used before, for ${paths[0] ?? "other data"}.`,
    hint: "Give each message an id of its own, and each producer its own source (AMQP's app_id).",
  });
}
