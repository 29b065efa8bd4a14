import { Command, Option } from "commander";
import { connectBroker, type BrokerClient } from "../broker/client.ts";
import { brokerCredentials, type MentoConfig } from "../config/config.ts";
import { BROKER_BY_DEFAULT } from "../config/config-schema.ts";
import { errorText, Misconfigured } from "../errors.ts";
import { libraryConfig } from "../library/library-config.ts";
import { within } from "../time/within.ts";
import type { EndedJob, Job } from "../library/job.ts";
import { JobMethod } from "../messages/job-event.ts";
import { showSubmit } from "../submission/show-submit.ts";
import { Trigger, type RunOptions } from "../library/trigger.ts";
import { printJson, printLine, printOutput, printText, sayLine } from "../text/terminal.ts";
import { throwForPeople } from "./beamtime.ts";
import { eventLine } from "./event-line.ts";
import { CONFIG_OPTION } from "./open-config.ts";
import { logTo } from "./open-sessions.ts";
import { signalStatus } from "./signal-status.ts";

interface Options extends Pick<RunOptions, "destination" | "workdir"> {
  config?: string;
  method: JobMethod;
  beamtime?: string;
  name?: string;
  time?: string;
  dependency?: string;
  log?: string;
  show?: boolean;
  follow?: boolean;
  wait: boolean;
  json?: boolean;
}

const EXIT_STATUS = `
Ends with the program's exit code; with 128 and the signal's number; with 1 if the job has not completed for another reason, such as its time
limit; with 1, 2 or 3 if it could not run at all.`;

export function runCommand(): Command {
  return new Command("run")

    .usage("[options] [--] <program> [argument...]")
    .argument(
      "[program...]",
      "as the job's node sees it, and its arguments, each literal; no shell reads them",
    )
    .passThroughOptions()
    .option(...CONFIG_OPTION)
    .addOption(
      new Option("--method <method>", "how").choices(JobMethod.options).default("remote-sbatch-script"),
    )
    .option("--beamtime <id>", "the beamtime or commissioning run (default: the one that is open)")
    .option("--destination <node>", "the node to submit from, or to run a remote-command on")
    .option("--name <name>", "the job's name (default: mento_<beamline>_<beamtime>)")
    .option(
      "--time <time>",
      "its time limit (default: the script's #SBATCH --time; else a day, or what is left of the reservation)",
    )
    .option("--dependency <list>", "Slurm's --dependency")
    .option("--log <file>", "where its output goes (default: job.log in its directory)")
    .option("--workdir <folder>", "where it starts (default: its job directory; local-bash-script: here)")
    .option("--show", "print what would be submitted, and submit nothing")
    .option("--follow", "print what the program prints, as it comes")
    .addOption(new Option("--no-wait", "end when the job is submitted").conflicts("follow"))
    .addOption(new Option("--json", "print the job's events, one JSON object a line").conflicts("follow"))
    .addHelpText("after", EXIT_STATUS)
    .action(async (program: string[], options: Options) => {
      process.exitCode = await runProgram(program, options);
    });
}

async function runProgram(program: string[], options: Options): Promise<number> {
  if (program.length === 0) {
    throw new Misconfigured({
      code: "wrong-usage",
      message: "There is no program to run.",
      hint: "mento run [options] PROGRAM ARGUMENT…; `mento run --help` says more.",
    });
  }
  const config = libraryConfig({ ...(options.config !== undefined && { config: options.config }) });
  const broker = options.show === true ? undefined : await brokerOf(config);
  let trigger: Trigger | undefined;
  try {
    trigger = new Trigger(options.method, {
      ...{ config, log: logTo((text) => sayLine(`mento: ${text}`)) },
      ...(broker !== undefined && { broker, group: config.worker.group }),
      ...(options.beamtime !== undefined && { beamtimeId: options.beamtime }),
    });
    if (options.show === true) {
      const { plan, target } = await trigger.plan(program, runOptions(options)).catch(throwForPeople);
      printText(showSubmit(plan, target));
      return 0;
    }
    const job = await trigger.run(program, runOptions(options)).catch(throwForPeople);
    for (const note of job.data.notes ?? []) sayLine(`mento: ${note}`);
    if (!options.wait) {
      if (options.json === true) printJson(job.data);
      else printLine(describe(job));
      return 0;
    }
    return await watch(job, options);
  } finally {
    await trigger?.close();
    await broker?.close();
  }
}

/** A broker that does not answer keeps no job waiting for longer. */
const CONNECT_MS = 5_000;

/** Where the job is announced, if the broker is there: the job runs all the same. */
async function brokerOf(config: MentoConfig): Promise<BrokerClient | undefined> {
  const { url, prefix } = config.broker;
  const connecting = connectBroker({ url, prefix, ...brokerCredentials(config.broker), name: "mento run" });
  try {
    const connected = await within(CONNECT_MS, connecting);
    if ("value" in connected) return connected.value;
    connecting.then((client) => client.close()).catch(() => undefined);
    sayLine(`mento: the job is not announced: RabbitMQ did not answer within ${CONNECT_MS / 1000} s`);
  } catch (error) {
    // Where nobody has named one, there need be none.
    if (url !== BROKER_BY_DEFAULT) sayLine(`mento: the job is not announced: ${errorText(error)}`);
  }
  return undefined;
}

function runOptions(options: Options): RunOptions {
  const { destination, workdir, name, time, dependency, log } = options;
  const given = {
    destination,
    workdir,
    jobName: name,
    jobTime: time,
    jobDependency: dependency,
    logFile: log,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

async function watch(job: Job, { follow, json, log }: Options): Promise<number> {
  const onSignal = (signal: NodeJS.Signals) => {
    sayLine(`mento: the job goes on; \`mento cancel ${job.id}\` ends it`);
    process.exit(signalStatus(signal));
  };
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) process.once(signal, onSignal);
  if (json !== true && follow !== true)
    sayLine(`mento: what it prints goes to ${log ?? `${job.directory}/job.log`}`);
  const tell = async () => {
    for await (const event of job.events()) {
      if (json === true) printJson(event);
      else sayLine(eventLine(event));
    }
  };
  const print = async () => {
    for await (const piece of job.logs()) printOutput(piece);
  };
  const [end] = await Promise.all([job.ended(), tell(), follow === true ? print() : undefined]);
  for (const signal of signals) process.removeListener(signal, onSignal);
  return exitStatusOfJob(end);
}

/** 0 only for a job that has completed: a program that Slurm stops may still exit with 0. */
export function exitStatusOfJob({ state, exit }: Pick<EndedJob, "state" | "exit">): number {
  if (state === "completed") return 0;
  if (exit.signal !== null) return signalStatus(exit.signal);
  return exit.code === null || exit.code === 0 ? 1 : exit.code;
}

function describe({ id, slurmJobId, directory }: Job): string {
  return `${id}  ${slurmJobId === null ? "" : `Slurm job ${slurmJobId}  `}${directory}`;
}
