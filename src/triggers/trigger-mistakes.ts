import type { InputType } from "../messages/trigger-input.ts";
import { circles, uncopiedResults, unknownTriggers, type TriggerMistake, type Triggers } from "./chains.ts";
import { DATA_FIELDS, JOB_FIELDS, asList } from "./condition.ts";
import { inputMistake, programMistakes } from "./program-mistakes.ts";
import { templateMistake } from "./template.ts";
import { Trigger } from "./trigger-config.ts";
import { countsJobs } from "./queue-position.ts";

/**
 * What is wrong with triggers whose form is right: in one of them, or between them. Triggers whose form is wrong are
 * left out, so that all mistakes of a file are seen at once.
 */
export function triggerMistakes(
  written: readonly unknown[],
  { group, hasSlurmRest }: { group: string; hasSlurmRest: boolean },
): TriggerMistake[] {
  const triggers: Triggers = written.flatMap((raw, index) => {
    const { data } = Trigger.safeParse(raw);
    return data === undefined ? [] : [{ index, trigger: data }];
  });
  const names = written.flatMap((raw) => {
    const name = keysOf(raw)["name"];
    return typeof name === "string" ? [name] : [];
  });
  return [
    ...sameNames(written),
    ...triggers.flatMap(({ index, trigger }) =>
      mistakesOf(trigger, keysOf(written[index])).map((mistake) => ({ trigger: index, ...mistake })),
    ),
    ...triggers.flatMap(({ index, trigger: { method } }) => {
      if (hasSlurmRest || method !== "slurm-rest-api") return [];
      return [
        { trigger: index, place: ["method"], message: "needs the section slurmRest, with url and tokenFile" },
      ];
    }),
    ...unknownTriggers(triggers, names, group),
    ...uncopiedResults(triggers, group),
    ...circles(triggers, group),
  ];
}

type Mistake = Pick<TriggerMistake, "place" | "message">;

function keysOf(raw: unknown): Record<string, unknown> {
  return typeof raw === "object" && raw !== null ? (raw as Record<string, unknown>) : {};
}

function sameNames(written: readonly unknown[]): TriggerMistake[] {
  const first = new Set<unknown>();
  return written.flatMap((raw, trigger) => {
    const { name } = keysOf(raw);
    const isKnown = name !== undefined && first.has(name);
    first.add(name);
    const message = `"${String(name)}" is the name of another trigger; names must differ`;
    return isKnown ? [{ trigger, place: ["name"], message }] : [];
  });
}

function mistakesOf(trigger: Trigger, raw: Record<string, unknown>): Mistake[] {
  return [
    ...conditionMistakes(trigger),
    ...meaninglessKeys(trigger, raw),
    ...programMistakes(trigger.run).map(({ place, message }) => ({ place: ["run", place], message })),
    ...relativeProgram(trigger),
    ...inputMistakes(trigger),
    ...templateMistakes(trigger),
    ...ownVariables(trigger),
    ...arrayMistakes(trigger),
  ];
}

/** A program begins in its job's directory, which is new; without a slash it is looked for on the PATH. */
function relativeProgram({ run: [program = ""], workdir }: Trigger): Mistake[] {
  if (workdir !== undefined || !/^[^/{]+\//.test(program)) return [];
  const message = `${program} would be looked for in the job's directory, which is new; write its absolute path, or set workdir`;
  return [{ place: ["run", 0], message }];
}

function inputMistakes({ run, stdin }: Trigger): Mistake[] {
  const message = stdin === undefined ? undefined : inputMistake(run, stdin);
  return message === undefined ? [] : [{ place: ["stdin"], message }];
}

function templateMistakes({ on, method, run, env, workdir, stdin, key }: Trigger): Mistake[] {
  const scope = { types: asList<InputType>(on.type), method };
  const templates: [Mistake["place"], string][] = [
    ...run.map((template, place): [Mistake["place"], string] => [["run", place], template]),
    ...Object.entries(env).map(([name, template]): [Mistake["place"], string] => [["env", name], template]),
    ...(workdir === undefined ? [] : [[["workdir"], workdir] satisfies [Mistake["place"], string]]),
    ...(key === undefined ? [] : [[["key"], key] satisfies [Mistake["place"], string]]),
    ...(stdin === undefined ? [] : [[["stdin"], stdin] satisfies [Mistake["place"], string]]),
  ];
  return templates.flatMap(([place, template]) => {
    const message = templateMistake(template, scope);
    return message === undefined ? [] : [{ place, message }];
  });
}

/** Fields that a message of some type never has: such a trigger would never start on it. */
function conditionMistakes({ on, unless }: Trigger): Mistake[] {
  const types = asList<InputType>(on.type);
  const ofData = types.includes("data.ready");
  const ofJobs = types.some((type) => type !== "data.ready");
  const mistakes: Mistake[] = [];
  for (const field of JOB_FIELDS) {
    if (on[field] !== undefined && ofData && !(field === "group" && ofJobs)) {
      const message = `${field} is of a job's event, and data.ready has none: ${ofJobs ? "make a trigger of its own for data.ready" : "set on.type to job.completed, say"}`;
      mistakes.push({ place: ["on", field], message });
    }
    if (unless?.[field] !== undefined && !ofJobs) {
      const message = `${field} is of a job's event, and this trigger starts on data.ready alone`;
      mistakes.push({ place: ["unless", field], message });
    }
  }
  for (const [key, wanted] of Object.entries({ on, unless })) {
    const starts = asList<InputType>(wanted?.type ?? on.type);
    if (wanted?.reason === undefined || !ofJobs || starts.includes("job.failed")) continue;
    mistakes.push({ place: [key, "reason"], message: "only job.failed has a reason; set on.type to it" });
  }
  for (const field of DATA_FIELDS) {
    const message = `${field} is of a data.ready message, and a job's event has none`;
    if (on[field] !== undefined && ofJobs) mistakes.push({ place: ["on", field], message });
    if (unless?.[field] !== undefined && !ofData) mistakes.push({ place: ["unless", field], message });
  }
  const odd = asList(unless?.type).find((type) => !types.includes(type));
  if (odd !== undefined) {
    mistakes.push({ place: ["unless", "type"], message: `the trigger does not start on ${odd} anyway` });
  }
  return mistakes;
}

/** Keys that do nothing with the trigger's method: somebody expects something of them. */
const MEANINGLESS: Partial<Record<Trigger["method"], Partial<Record<keyof Trigger, string>>>> = {
  "local-bash-script": {
    slurm: "the job runs on the worker's host, outside Slurm; for a job of Slurm leave out method",
    copyBack: "the job runs on the worker's host, where its results are",
    destination: "the job runs on the worker's host",
    dataTimeout: "the job runs on the worker's host, and waits for no copy of the data",
    companions: "the job runs on the worker's host, and waits for no copy of the data",
    retries: "only jobs of Slurm are submitted again",
  },
  "remote-command": {
    retries: "only jobs of Slurm are submitted again",
    slurm: "the job runs on a node, outside Slurm; for a job of Slurm leave out method",
  },
  "local-sbatch-script": {
    destination: "sbatch runs on the worker's host",
    copyBack: "the job runs as the worker's account, and its results are in that one's folder",
  },
  "slurm-rest-api": {
    destination: "the job is submitted over Slurm's REST API",
    retries: "only jobs that were submitted with sbatch are submitted again",
  },
};

const FLAGS_OVER_REST: Mistake = {
  place: ["slurm", "extra"],
  message: "is not passed on by slurm-rest-api, which has no flags; submit with remote-sbatch-script",
};

function meaninglessKeys({ method, slurm }: Trigger, raw: Record<string, unknown>): Mistake[] {
  const flags = method === "slurm-rest-api" && slurm.extra !== undefined ? [FLAGS_OVER_REST] : [];
  const keys = Object.entries(MEANINGLESS[method] ?? {}).flatMap(([key, why]) =>
    raw[key] === undefined ? [] : [{ place: [key], message: `means nothing for ${method}: ${why}` }],
  );
  return [...keys, ...flags];
}

/** Methods whose jobs `sbatch` submits, and so arrays of them. */
const BY_SBATCH: readonly Trigger["method"][] = ["remote-sbatch-script", "local-sbatch-script"];

function arrayMistakes(trigger: Trigger): Mistake[] {
  const { array, method } = trigger;
  if (array === undefined) return [];
  const mistakes = [];
  if (!BY_SBATCH.includes(method)) mistakes.push(`${method} has no arrays; ${BY_SBATCH.join(" and ")} have`);
  if (countsJobs(trigger)) {
    const how = "array.limit says how many of an array run at once";
    mistakes.push(`jobs of an array take no turns: leave it out, or latest and concurrency; ${how}`);
  }
  return mistakes.map((message) => ({ place: ["array"], message }));
}

/** Variables that Mento sets itself. */
function ownVariables({ env }: Trigger): Mistake[] {
  return Object.keys(env).flatMap((name) =>
    /^(MENTO_.*|TRACEPARENT)$/.test(name)
      ? [{ place: ["env", name], message: "is set by Mento itself" }]
      : [],
  );
}
