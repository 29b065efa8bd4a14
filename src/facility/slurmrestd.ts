import { randomBytes } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { slurmPlugins } from "./packages.ts";
import { isServerRunning, startServer } from "./server.ts";
import { type FacilityState, placesOf, reachedAt } from "./state.ts";

export const SLURMRESTD = "slurmrestd";
/** Made by Debian's packages; slurmrestd refuses to run as root, as SlurmUser, and from Slurm 26.05 as nobody. */
const ACCOUNT = "slurm";

/** The last of Slurm's ports. */
export function restPort(state: FacilityState): number {
  return state.ports.slurm.at(-1) ?? 0;
}

export function restUrl(state: FacilityState): string {
  return `http://${reachedAt(state)}:${restPort(state)}`;
}

/** What slurm.conf says so that tokens are accepted beside munge. */
export function tokenSettings(dir: string): string[] {
  return ["AuthAltTypes=auth/jwt", `AuthAltParameters=jwt_key=${keyFile(dir)}`];
}

/** The key that slurmctld signs tokens with. */
export function makeTokenKey(dir: string): void {
  if (!existsSync(keyFile(dir))) writeFileSync(keyFile(dir), randomBytes(32), { mode: 0o600 });
}

function keyFile(dir: string): string {
  return join(dir, "slurm", "jwt.key");
}

/** Slurm's REST API: a translator, which hands each caller's token on to slurmctld. */
export async function startSlurmrestd(state: FacilityState): Promise<void> {
  if (isServerRunning(state, SLURMRESTD)) return;
  const isRoot = process.getuid?.() === 0;
  await startServer(state, {
    name: SLURMRESTD,
    program: SLURMRESTD,
    args: [
      ...(isRoot ? ["-u", ACCOUNT, "-g", ACCOUNT] : []),
      ...["-a", "rest_auth/jwt", "-s", openapiPlugin(slurmPlugins())],
      `${state.serving?.address ?? "127.0.0.1"}:${restPort(state)}`,
    ],
    env: {
      SLURM_CONF: placesOf(state.dir).slurmConf,
      SLURM_JWT: "daemon",
      SLURMRESTD_SECURITY: [
        // It wants namespaces of its own, which a container does not let it make.
        ...["disable_unshare_sysv", "disable_unshare_files"],
        // Not as root there is one account only, which is SlurmUser too.
        ...(isRoot ? [] : ["disable_user_check"]),
      ].join(","),
    },
  });
}

/** Not all that are installed, for those that ask slurmdbd keep slurmrestd from starting where there is none. */
export function openapiPlugin(plugins: readonly string[]): string {
  if (plugins.includes("openapi_slurmctld.so")) return "slurmctld";
  const versions = plugins.flatMap((file) => /^openapi_v(\d+_\d+_\d+)\.so$/.exec(file)?.[1] ?? []);
  return `openapi/v${(versions.sort().at(-1) ?? "0_0_38").replaceAll("_", ".")}`;
}

/** It answers without a token: that it wants one. */
export async function restAnswers(state: FacilityState): Promise<boolean> {
  try {
    const response = await fetch(`${restUrl(state)}/openapi/v3`, { signal: AbortSignal.timeout(5000) });
    await response.body?.cancel();
    return response.status === 401;
  } catch {
    return false;
  }
}
