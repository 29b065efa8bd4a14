import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Misconfigured } from "../errors.ts";

/**
 * A folder that only this account can enter, for what must not lie open: `$XDG_RUNTIME_DIR/mento`, else
 * `<tmp>/mento-<uid>`, or with letters by chance behind it where another account has made that. What belongs to one process is in a folder below it that ends with the process, at the latest
 * when the next one starts.
 */
export class RuntimeDirectory {
  readonly #environment: NodeJS.ProcessEnv;
  #base: string | undefined;

  constructor(environment: NodeJS.ProcessEnv = process.env) {
    this.#environment = environment;
  }

  /** @throws Misconfigured `runtime-directory-unsafe` */
  get base(): string {
    this.#base ??= this.#make();
    return this.#base;
  }

  /** This process's own folder. */
  get ofProcess(): string {
    return privateFolder(join(this.base, `process-${process.pid}`));
  }

  /** A folder below the base that outlives the process. */
  lasting(name: string): string {
    return privateFolder(join(this.base, name));
  }

  /** Removes this process's folder, if it has made one. */
  remove(): void {
    if (this.#base !== undefined) {
      rmSync(join(this.#base, `process-${process.pid}`), { recursive: true, force: true });
    }
  }

  #make(): string {
    const runtime = this.#environment["XDG_RUNTIME_DIR"];
    const base =
      runtime === undefined || !existsSync(runtime) ? folderInTmp() : privateFolder(join(runtime, "mento"));
    for (const name of readdirSync(base)) {
      const pid = /^process-(\d+)$/.exec(name)?.[1];
      if (pid !== undefined && !isAlive(Number(pid)))
        rmSync(join(base, name), { recursive: true, force: true });
    }
    return base;
  }
}

/** Anybody can make a folder of a name that is known before: then one whose name nobody could foresee, for all processes. */
function folderInTmp(): string {
  const name = `mento-${process.getuid?.() ?? 0}`;
  const known = join(tmpdir(), name);
  const found = () => {
    const more = readdirSync(tmpdir()).filter((one) => one.startsWith(`${name}-`));
    return [known, ...more.sort().map((one) => join(tmpdir(), one))].find(isPrivate);
  };
  try {
    mkdirSync(known, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  const first = found();
  if (first !== undefined) return first;
  mkdtempSync(`${known}-`);
  // Another process may have made one at the same moment.
  return found() ?? privateFolder(known);
}

function isPrivate(path: string): boolean {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  return (
    stats?.isDirectory() === true && stats.uid === (process.getuid?.() ?? 0) && (stats.mode & 0o077) === 0
  );
}

function privateFolder(path: string): string {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  if (isPrivate(path)) return path;
  throw new Misconfigured({
    code: "runtime-directory-unsafe",
    message: `${path} is not a folder of this account alone: private keys cannot be kept there.`,
    hint: "Remove it, or set XDG_RUNTIME_DIR to a folder that only this account can enter.",
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
