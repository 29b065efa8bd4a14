import { quote, quoteAll } from "../shells/quote.ts";
import { SUBMITTED_BYTES } from "../shells/bounded-file.ts";
import { dataCheck } from "./data-check.ts";
import {
  arraysOf,
  copyOf,
  functions,
  linkLog,
  listCommand,
  jobCommentOf,
  namesOf,
  spoolOf,
  type SubmitRequest,
} from "./directory.ts";
import { parseSubmitAnswer, type SubmitAnswer } from "./submit-said.ts";
import { PENDING_COMMAND } from "../slurm/slurm-now.ts";

/**
 * Submit many at once: one remote call makes the directories of all jobs, each its own lock as ever (directory.ts), and
 * one `sbatch --array` submits those that it has made. A job that has its directory already is answered with what is
 * inside. What the call leaves undone is found, job by job, by the array's job comment, for `.array` in a job's directory
 * names it.
 *
 *     <jobs>/.arrays/<array id>/run.sh      the dispatch script, which Slurm runs for each task
 *     <jobs>/.arrays/<array id>/<index>     a link to the directory of the task's job
 *     <jobs>/.arrays/<array id>/submitted   Slurm's id of the array
 */
export interface ArrayRequest {
  arrayId: string;
  jobsDirectory: string;
  /** Each its own job; none twice. */
  jobs: readonly SubmitRequest[];
  sbatchArguments: readonly string[];
  /** `#SBATCH` lines that are carried over from a user's own script. */
  directives: readonly string[];
  /** So many tasks run at once at most; null: as many as fit. */
  limit: number | null;
  /** Fewer of our jobs than this must wait in Slurm; null: nobody looks. */
  maxPending: number | null;
}

/** An array that is not ready for `sbatch` by then is given up: its directories must not count as cut off before. */
const PREPARE_AT_MOST_SECONDS = 60;
/** So long the remote call is waited for, with `sbatch`. */
export const LONGEST_ARRAY_SECONDS = 200;

export function arrayFolder(jobsDirectory: string, arrayId: string): string {
  return `${arraysOf(jobsDirectory)}/${arrayId}`;
}

/** Answers about the jobs come one by one, at last that about the array. A caller that has gone must not end it half way. */
export function arrayCommand(request: ArrayRequest, account: string): string {
  const { arrayId, jobsDirectory, jobs, limit, maxPending } = request;
  const spool = quote(spoolOf(jobsDirectory));
  return `trap '' PIPE
${functions(jobsDirectory, "-")}
a=${quote(arrayFolder(jobsDirectory, arrayId))} made=0 full= code= over=yes noted=
begun=$(date +%s)
each() { i=0; while [ $i -lt $made ]; do "$1" "$a/$i"; i=$((i + 1)); done; }
is_ours() {
  [ ! -s "$1/submitted" ] && lines "$1/.array" ${SUBMITTED_BYTES} && [ "$first" = ${quote(arrayId)}" $i" ] && return
  printf '${TAKEN} %s\\n' "$i"
  return 1
}
give_up() { ! is_ours "$1" || note_failed "$1/.failed"; }
note() {
  is_ours "$1" || return 0
  echo "\${id}_$i" > "$1/submitted"
  noted="$noted$1/submitted$nl"
  d=$1 m=${jobCommentOf("")}$(basename "$(readlink "$1")")
  keep_cancelled "\${id}_$i" >&2
}
${maxPending === null ? "" : `[ "$(${PENDING_COMMAND})" -lt ${maxPending} ] || full=yes`}
mkdir -p ${spool} "$arrays" && mkdir "$a" && printf %s ${quote(dispatchScript(request))} > "$a/run.sh" || exit 1
${jobs.map((job, at) => prepare(job, at, arrayId)).join("\n")}
[ $made -gt 0 ] || { rm -rf "$a"; exit 0; }
# By their times others judge whether this was cut off.
touch "$a"/*/run.sh && [ $(($(date +%s) - begun)) -lt ${PREPARE_AT_MOST_SECONDS} ] || { each give_up; exit 1; }
echo ${SBATCH_SAYS} >&2
ask_sbatch ${quoteAll(request.sbatchArguments)} --array="0-$((made - 1))${limit === null ? "" : `%${limit}`}" "$a/run.sh" || {
  list=$(${listCommand(account)} 2>/dev/null) && m=- d=- array=${quote(arrayId)} && id=$(found)
  case $id in
    [0-9]*) id=\${id%_} ;;
    *) each give_up; printf '${ARRAY} failed %s\\n' "$code"; exit 0 ;;
  esac
}
printf '%s\\n' "$id" > "$a/submitted"
# All of its jobs have its time.
id=\${id%%;*}
each note
printf %s "$noted" | tr '\\n' '\\0' | xargs -0 -r touch -c -r "$a/submitted" --
printf '${ARRAY} submitted %s %s\\n' "$id" "$(written "$a/submitted")"`;
}

/** What follows it on stderr is of `sbatch`. */
export const SBATCH_SAYS = "mento-sbatch";
const TASK = "mento-task";
const ARRAY = "mento-array";
/** Its job was submitted by itself meanwhile: somebody has found it without an answer for too long. */
const TAKEN = "mento-taken";

/** Its directory, if there is none, in a shell of its own: whatever ends it, the others go on. The link comes last. */
function prepare(job: SubmitRequest, at: number, arrayId: string): string {
  const { jobsDirectory, jobId, program, log, data, script } = job;
  return `printf '${TASK} ${at}\\n'
(
${namesOf(jobsDirectory, jobId)}
answered
[ ! -d "$d" ] || say in-flight
[ -z "$full" ] || say full
${data === null ? "" : dataCheck(data)}
mkdir "$d" || {
  [ ! -d "$d" ] || say in-flight
  exit 1
}
${copyOf(program)}${linkLog(log)}printf %s ${quote(script)} > "$d/run.sh" && echo ${quote(arrayId)} "$made" > "$d/.array" && ln -s ${quote(`../../${jobId}`)} "$a/$made" || {
  rm -f "$d/.array"
  : > "$d/.failed"
  exit 1
}
printf '${TASK} made %s\\n' "$made"
)
[ ! -L "$a/$made" ] || made=$((made + 1))`;
}

/** A task's exit code if its job is not its own any more: nobody shall take it for the job's end. */
const NOT_ITS_JOB = 79;

/**
 * A job that was submitted again by itself meanwhile is none of the array's any more: its `.array` is gone. A shared file
 * system may have it come late.
 */
function dispatchScript({ arrayId, jobsDirectory, directives }: ArrayRequest): string {
  return `#!/bin/sh
${directives.map((line) => `${line}\n`).join("")}cd ${quote(arrayFolder(jobsDirectory, arrayId))}/"$SLURM_ARRAY_TASK_ID" || exit 1
tries=1
until read -r array index < .array; do
  [ $tries -lt 5 ] || exit ${NOT_ITS_JOB}
  tries=$((tries + 1))
  sleep 1
done 2>/dev/null
[ "$array" = ${quote(arrayId)} ] || exit ${NOT_ITS_JOB}
exec /bin/sh ./run.sh "\${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
`;
}

/** What the call says of each job, in their order; `isNew` if it has made the job. */
export function parseArrayAnswers(
  stdout: string,
  jobs: readonly { paths: readonly string[] }[],
): { answer: SubmitAnswer | undefined; isNew: boolean }[] {
  const said = /^mento-array (submitted|failed) (\d+)(?: (\S+))?$/m.exec(stdout);
  const taken = new Set([...stdout.matchAll(/^mento-taken (\d+)$/gm)].map(([, index]) => index));
  const parts = new Map<number, string>();
  for (const part of stdout.split(/^mento-task (?=\d+$)/m).slice(1)) {
    parts.set(Number.parseInt(part, 10), part);
  }
  return jobs.map(({ paths }, at) => {
    const part = parts.get(at) ?? "";
    const index = /^mento-task made (\d+)$/m.exec(part)?.[1];
    if (index === undefined) return { answer: parseSubmitAnswer(part, paths), isNew: false };
    if (taken.has(index)) return { answer: { kind: "in-flight" }, isNew: false };
    const [, kind, number = "", time] = said ?? [];
    if (kind === "failed") return { answer: { kind, exitCode: Number(number) }, isNew: true };
    const isSubmitted = kind === "submitted";
    const runId = `${number}_${index}`;
    const facts = { runId, host: null, request: undefined, movedTo: null, at: time ?? null, endedAt: null };
    const submitted = { kind: "submitted", ...facts } as const;
    return { answer: isSubmitted ? submitted : undefined, isNew: true };
  });
}
