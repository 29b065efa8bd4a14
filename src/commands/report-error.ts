import { CommanderError } from "commander";
import { exitStatusOf, MentoError, type ErrorCode } from "../errors.ts";
import { sayLine } from "../text/terminal.ts";

/** Their messages have lines that Mento has set: of each mistake; the last ones of a server's log. */
const OF_SEVERAL_LINES: readonly ErrorCode[] = ["wrong-configuration", "facility-start-failed"];

/** Prints whatever was thrown for a person, never with a stack, and says the command's exit status. */
export function reportError(error: unknown): number {
  // Commander has printed it.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  const known = error instanceof MentoError ? error : inWords(error);
  const { message, hint, code } = known;
  const [first = "", ...others] = OF_SEVERAL_LINES.includes(code) ? message.split("\n") : [message];
  sayLine(`mento: ${first}`);
  for (const line of others) sayLine(`  ${line.trimStart()}`);
  sayLine(`  ${hint} [${code}]`);
  if (process.env["MENTO_DEBUG"] !== undefined && error instanceof Error) {
    for (const line of (error.stack ?? "").split("\n")) sayLine(`  ${line}`);
  }
  return exitStatusOf(known);
}

/** What nobody has foreseen at the place where it happened. */
function inWords(error: unknown): MentoError {
  const { errno, code = "", syscall, path } = (error ?? {}) as Partial<NodeJS.ErrnoException>;
  // Node says so too where it may open no more files.
  if (error instanceof Error && code === "ERR_MODULE_NOT_FOUND") {
    return new MentoError({
      code: "system-error",
      message: `A part of Mento cannot be loaded: ${error.message}.`,
      hint: "Allow more open files (ulimit -n), or install Mento again.",
      cause: error,
    });
  }
  if (error instanceof Error && typeof errno === "number" && syscall !== undefined) {
    const where = path === undefined ? "" : ` ${path}`;
    const [what, hint] = WORDS[syscall] ??
      WORDS[code] ?? [error.message, "Set MENTO_DEBUG=1 to see where in Mento it happened."];
    return new MentoError({
      code: "system-error",
      message: `The system refused ${syscall}${where}: ${what}.`,
      hint,
      cause: error,
    });
  }
  const what = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return new MentoError({
    code: "internal-error",
    message: `Mento did not expect this: ${what}`,
    hint: "Please report it, with what MENTO_DEBUG=1 in the environment adds.",
    cause: error,
  });
}

/** What happened, and what to do: of system calls that tell more than the error, and of errors. */
const WORDS: Readonly<Record<string, readonly [string, string]>> = {
  uv_cwd: ["the current folder has been removed", "Change to one that is there."],
  uv_os_get_passwd: ["this account has no entry in /etc/passwd", "Run the command as one that has."],
  ENOENT: ["there is no such file or folder", "Make it, or name another."],
  ENOTDIR: ["a part of the path is a file, not a folder", "Name a path of folders."],
  EISDIR: ["it is a folder, not a file", "Name a file."],
  EEXIST: ["something of this name exists", "Remove it, or name another."],
  ENOTEMPTY: ["the folder is not empty", "Name another."],
  EACCES: ["permission denied", "Give this account the right, or run the command as another."],
  EPERM: ["this account may not", "Run the command as another account."],
  EROFS: ["the file system can only be read", "Name a place on another."],
  ENOSPC: ["no space is left on the device", "Make room there."],
  EDQUOT: ["the account's quota is used up", "Make room there."],
  ELOOP: ["its links lead in a circle", "Name another path."],
  ENAMETOOLONG: ["the name is too long", "Name a shorter one."],
  EMFILE: ["too many files are open", "Raise the limit: ulimit -n."],
  ENFILE: ["too many files are open on this machine", "Try again later."],
  ENOMEM: ["there is not enough memory", "Try again where there is more."],
  EADDRINUSE: ["another program listens there already", "End it, or name another port."],
  EADDRNOTAVAIL: ["this machine has no such address", "Name one of its own."],
};
