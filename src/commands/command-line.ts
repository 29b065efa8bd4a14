import { readFileSync } from "node:fs";
import { Command } from "commander";
import { isFileSystemStuck } from "../files/plain-file.ts";
import { reportError } from "./report-error.ts";
import { sayLine, writeOutput, writeSaid } from "../text/terminal.ts";

/** Only the one that is asked for is loaded: all of them take half a second. */
const COMMANDS = {
  worker: async () => (await import("./worker.ts")).workerCommand(),
  publish: async () => (await import("./publish.ts")).publishCommand(),
  watch: async () => (await import("./watch.ts")).watchCommand(),
  run: async () => (await import("./run.ts")).runCommand(),
  cancel: async () => (await import("./cancel.ts")).cancelCommand(),
  dead: async () => (await import("./dead.ts")).deadCommand(),
  replay: async () => (await import("./replay.ts")).replayCommand(),
  validate: async () => (await import("./validate.ts")).validateCommand(),
  match: async () => (await import("./match.ts")).matchCommand(),
  init: async () => (await import("./init.ts")).initCommand(),
  beamtime: async () => (await import("./beamtime.ts")).beamtimeCommand(),
  ssh: async () => (await import("./ssh.ts")).sshCommand(),
  doctor: async () => (await import("./doctor.ts")).doctorCommand(),
  facility: async () => (await import("./facility.ts")).facilityCommand(),
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
    const program = await programFor(process.argv[2] ?? "");
    await program.parseAsync();
  } catch (error) {
    process.exitCode = reportError(error);
  }
  if (isFileSystemStuck()) process.exit();
}

async function programFor(asked: string): Promise<Command> {
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  const program = new Command("mento")
    .description('Turns "data ready" messages into analysis jobs: RabbitMQ in, Slurm jobs, events out.')
    .version(version)
    // `mento run ls -l`: options behind the program are the program's.
    .enablePositionalOptions()
    .showHelpAfterError("(mento --help lists the commands)");
  const isCommand = Object.hasOwn(COMMANDS, asked);
  for (const [name, load] of Object.entries(COMMANDS)) {
    if (!isCommand || name === asked) program.addCommand(await load());
  }
  prepare(program);
  return program;
}

/** Commander repeats what it was given, and ends the process by itself. */
function prepare(command: Command): void {
  command.exitOverride().configureOutput({ writeOut: writeOutput, writeErr: writeSaid });
  for (const child of command.commands) prepare(child);
}
