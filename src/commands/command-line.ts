import { Command } from "commander";
import { programVersion } from "../config/version.ts";
import { isFileSystemStuck } from "../files/plain-file.ts";
import { EXAMPLES } from "./examples.ts";
import { reportError } from "./report-error.ts";
import { sayLine, writeOutput, writeSaid } from "../text/terminal.ts";

/** Only the one that is asked for is loaded: all of them take a quarter of a second. */
const COMMANDS = {
  worker: {
    group: "Run a beamtime:",
    description: "take messages, submit jobs, watch them, announce their ends; until SIGTERM or Ctrl-C",
    load: async () => (await import("./worker.ts")).workerCommand(),
  },
  publish: {
    group: "Run a beamtime:",
    description: "publish a message",
    load: async () => (await import("./publish.ts")).publishCommand(),
  },
  run: {
    group: "Run a beamtime:",
    description: "run a program as a job of the open beamtime, and end as it ends",
    load: async () => (await import("./run.ts")).runCommand(),
  },
  init: {
    group: "Run a beamtime:",
    description: "write a commented mento.yaml that works against the open beamtime",
    load: async () => (await import("./init.ts")).initCommand(),
  },
  validate: {
    group: "Run a beamtime:",
    description: "check a message or a configuration: says what is wrong, where, and what would be right",
    load: async () => (await import("./validate.ts")).validateCommand(),
  },
  status: {
    group: "Look:",
    description: "are we all right? broker, workers, queues, pace, failures, on one screen",
    load: async () => (await import("./status.ts")).statusCommand(),
  },
  trace: {
    group: "Look:",
    description:
      "say what became of data, and why it was not processed: by a path, an id, or a part of a name",
    load: async () => (await import("./trace.ts")).traceCommand(),
  },
  jobs: {
    group: "Look:",
    description: "list jobs, and messages that became none, newest first",
    load: async () => (await import("./jobs.ts")).jobsCommand(),
  },
  logs: {
    group: "Look:",
    description: "print the output of a job, running or ended, on whichever host",
    load: async () => (await import("./logs.ts")).logsCommand(),
  },
  watch: {
    group: "Look:",
    description: "print events as they happen, one line each, until Ctrl-C",
    load: async () => (await import("./watch.ts")).watchCommand(),
  },
  match: {
    group: "Look:",
    description: "say what each trigger would make of a message: the program that would run, or why not",
    load: async () => (await import("./match.ts")).matchCommand(),
  },
  beamtime: {
    group: "Look:",
    description: "beamtimes and commissioning runs",
    load: async () => (await import("./beamtime.ts")).beamtimeCommand(),
  },
  doctor: {
    group: "Look:",
    description: "check everything between a message and its job, and say what is wrong and what to do",
    load: async () => (await import("./doctor.ts")).doctorCommand(),
  },
  cancel: {
    group: "Mend:",
    description:
      "cancel jobs; says of each whether it was cancelled, was gone already and how, or is unknown",
    load: async () => (await import("./cancel.ts")).cancelCommand(),
  },
  dead: {
    group: "Mend:",
    description: "messages that could not work: why, and what becomes of them",
    load: async () => (await import("./dead.ts")).deadCommand(),
  },
  replay: {
    group: "Mend:",
    description:
      "run a trigger on the data-ready messages of the past; what it has run already is not run again",
    load: async () => (await import("./replay.ts")).replayCommand(),
  },
  ssh: {
    group: "Mend:",
    description: "open a shell on a reserved node as the beamtime's account, or run a command there",
    load: async () => (await import("./ssh.ts")).sshCommand(),
  },
  completion: {
    group: "Try it out:",
    description: "print what completes commands and options: of bash, zsh or fish",
    load: async () => (await import("./completion.ts")).completionCommand(wholeProgram),
  },
  facility: {
    group: "Try it out:",
    description: "RabbitMQ, Slurm, sshd and two file systems on this machine, to try Mento on",
    load: async () => (await import("./facility.ts")).facilityCommand(),
  },
};

/** Runs the command that the arguments ask for; sets the exit status. */
export async function runCommandLine(): Promise<void> {
  // What no `catch` has seen, such as an error event of a socket, ends the command in words, too.
  process.on("uncaughtException", (error) => process.exit(reportError(error)));
  // `mento watch | head` ends its reader first: that is an end, not an error.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    sayLine(`mento: Standard output cannot be written: ${error.message}.`);
    process.exit(1);
  });
  // Where nothing can be said, the work still goes on.
  process.stderr.on("error", () => undefined);

  // At its end Node waits for its threads, and one that waits for a file system that hangs never comes back.
  process.on("exit", () => {
    if (isFileSystemStuck()) process.kill(process.pid, "SIGKILL");
  });

  try {
    const [first = "", second = ""] = process.argv.slice(2);
    const asked = first === "help" ? second : first;
    const program = await programFor((name) => name === asked || (name === "trace" && asked === "why"));
    await program.parseAsync();
  } catch (error) {
    process.exitCode = reportError(error);
  }
  if (isFileSystemStuck()) process.exit();
}

/** With every command's options. */
export function wholeProgram(): Promise<Command> {
  return programFor(() => true);
}

async function programFor(isAsked: (name: string) => boolean): Promise<Command> {
  const program = new Command("mento")
    .description('Turns "data ready" messages into analysis jobs: RabbitMQ in, Slurm jobs, events out.')
    .version(programVersion())
    // `mento run ls -l`: options behind the program are the program's.
    .enablePositionalOptions()
    .showHelpAfterError("(mento --help lists the commands)");
  for (const [name, { group, description, load }] of Object.entries(COMMANDS)) {
    const command = isAsked(name) ? await load() : new Command(name);
    program.addCommand(command.description(description).helpGroup(group));
  }
  prepare(program, "");
  return program;
}

/** Commander repeats what it was given, and ends the process by itself. */
function prepare(command: Command, path: string): void {
  const examples = EXAMPLES[path] ?? [];
  const lines = examples.map(([what, line]) => `  ${what}:\n    $ ${line}`);
  if (lines.length > 0) command.addHelpText("after", `\n${["Examples:", ...lines].join("\n")}`);
  command.exitOverride().configureOutput({ writeOut: writeOutput, writeErr: writeSaid });
  for (const child of command.commands) prepare(child, `${path} ${child.name()}`.trimStart());
}
