import { accessSync, constants, readdirSync } from "node:fs";
import { join } from "node:path";
import { Misconfigured } from "../errors.ts";
import { run, SYSTEM_PATH } from "./processes.ts";

/** Tells the person in front of the screen what is being done. */
export type Say = (step: string) => void;

/** Not the one in PATH, which insists on the user `rabbitmq`. */
export const RABBITMQ_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server";

const BROKER_PROGRAMS = [RABBITMQ_SERVER, "epmd"];
/** What the facility runs besides. */
const SLURM_PROGRAMS = [
  "slurmctld",
  "slurmd",
  "slurmrestd",
  "sinfo",
  "scontrol",
  "sbatch",
  "munged",
  "sshd",
  "ssh-keygen",
  "ssh-keyscan",
];
/** Lets slurmctld accept tokens, which slurmrestd hands on to it. */
const JWT_PLUGIN = "auth_jwt.so";
const BROKER_PACKAGE = "rabbitmq-server";
/** `slurm-wlm` ties Slurm's parts to one version. */
export const SLURM_PACKAGES = [
  "slurm-wlm",
  "slurmctld",
  "slurmd",
  "slurm-client",
  "slurmrestd",
  "slurm-wlm-jwt-plugin",
  "munge",
  "openssh-server",
  "openssh-client",
];

/** The programs of a facility that this machine does not have; one is a plugin. */
export function missingPrograms(hasBroker: boolean): string[] {
  const plugins = slurmPlugins().includes(JWT_PLUGIN) ? [] : [JWT_PLUGIN];
  const programs = [...(hasBroker ? BROKER_PROGRAMS : []), ...SLURM_PROGRAMS];
  return [...programs.filter((program) => findProgram(program) === undefined), ...plugins];
}

/** Slurm's plugins, where Debian puts them: `/usr/lib/x86_64-linux-gnu/slurm-wlm/auth_jwt.so`. */
export function slurmPlugins(): string[] {
  return list("/usr/lib").flatMap((architecture) => list(join("/usr/lib", architecture, "slurm-wlm")));
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** Where a program lies, looking into the sbin directories too, which a user's PATH often lacks. */
export function findProgram(program: string): string | undefined {
  const candidates = program.startsWith("/")
    ? [program]
    : SYSTEM_PATH.split(":").map((directory) => join(directory, program));
  return candidates.find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Installs what the facility needs and this machine lacks, or throws `facility-packages-missing`. */
export async function installFacilityPackages(
  say: Say,
  { hasBroker, mayInstall }: { hasBroker: boolean; mayInstall: boolean },
): Promise<void> {
  const missing = missingPrograms(hasBroker);
  if (missing.length === 0) return;
  const packages = [...(hasBroker ? [BROKER_PACKAGE] : []), ...SLURM_PACKAGES];
  if (!mayInstall) throw packagesMissing(packages, `Missing: ${missing.join(", ")}.`);
  await installPackages(packages, say);
}

/** Installs the Debian packages that are not installed yet, as root or with a sudo that asks for no password. */
export async function installPackages(names: readonly string[], say: Say): Promise<void> {
  if (await areInstalled(names)) return;
  const asRoot = await waysToBeRoot();
  if (asRoot === undefined || findProgram("apt-get") === undefined) {
    throw packagesMissing(names, "Mento can install them only as root on a Debian or Ubuntu system.");
  }
  say(`installing ${names.join(" ")} …`);
  await runAptGet(asRoot, ["update"], names);
  await runAptGet(asRoot, ["install", "--yes", "--no-install-recommends", ...names], names);
}

async function areInstalled(names: readonly string[]): Promise<boolean> {
  if (findProgram("dpkg-query") === undefined) return false;
  const output = await run("dpkg-query", ["--show", "--showformat=${db:Status-Status}\\n", ...names]);
  const installed = output.stdout.split("\n").filter((status) => status === "installed");
  return installed.length === names.length;
}

/** The words to put before a command so that it runs as root; none if there is no way. */
async function waysToBeRoot(): Promise<string[] | undefined> {
  if (process.getuid?.() === 0) return [];
  if (findProgram("sudo") === undefined) return undefined;
  const allowed = await run("sudo", ["-n", "true"], { timeoutSeconds: 10 });
  return allowed.exitCode === 0 ? ["sudo", "-n"] : undefined;
}

async function runAptGet(asRoot: string[], args: string[], names: readonly string[]): Promise<void> {
  // `env` sets the variable behind sudo, which would drop it.
  const command = [...asRoot, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"];
  const [program = "env", ...rest] = [...command, "-o", "DPkg::Lock::Timeout=120", ...args];
  const output = await run(program, rest, { timeoutSeconds: 900 });
  if (output.exitCode === 0) return;
  const said = output.stderr.trim().split("\n").slice(-3).join(" ");
  throw packagesMissing(names, `apt-get ${args[0] ?? ""} failed: ${said}`);
}

function packagesMissing(names: readonly string[], why: string): Misconfigured {
  return new Misconfigured({
    code: "facility-packages-missing",
    message: `Programs that the facility needs are not installed. ${why}`,
    hint: `Run as root: apt-get update && apt-get install --yes --no-install-recommends ${names.join(" ")}`,
  });
}
