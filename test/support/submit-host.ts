import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { there } from "./servers.ts";
import type { TestFacility } from "./shared-facility.ts";
import { beamtime, facility, type WorkerAccount } from "./site.ts";

/** A host on which the beamtime's own account submits: its worker runs as that account, with a home in this folder. */
export function submitHostIn(folder: string): WorkerAccount {
  const { account } = beamtime;
  const home = join(folder, "home");
  mkdirSync(home, { recursive: true });
  chmodSync(folder, 0o755);
  execFileSync(...there("chown", [account, home]));
  const env = { SLURM_CONF: facility.slurm.conf, HOME: home, USER: account, XDG_RUNTIME_DIR: undefined };
  return { account, env };
}

/** `slurmRest` of a configuration, with tokens of the beamtime's account. */
export function slurmRestSection(): object {
  return { url: facility.slurm.restUrl, tokenCommand: tokenCommand(facility, beamtime.account, 600) };
}

/** Prints a token of an account that is good for so long. Root may call it anywhere. */
export function tokenCommand({ slurm }: TestFacility, account: string, seconds: number): string[] {
  const token = ["scontrol", "token", `username=${account}`, `lifespan=${seconds}`];
  return there("/usr/bin/env", [`SLURM_CONF=${slurm.conf}`, ...token]).flat();
}
