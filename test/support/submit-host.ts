import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { beamtime, facility, type WorkerAccount } from "./site.ts";

const id = (flag: string) => Number(execFileSync("id", [flag, beamtime.account], { encoding: "utf8" }));

/** A host on which the beamtime's own account submits: its worker runs as that account, with a home in this folder. */
export function submitHostIn(folder: string): WorkerAccount {
  const home = join(folder, "home");
  mkdirSync(home, { recursive: true });
  chmodSync(folder, 0o755);
  execFileSync("chown", [beamtime.account, home]);
  const env = { SLURM_CONF: facility.slurm.conf, HOME: home, USER: beamtime.account };
  return { uid: id("-u"), gid: id("-g"), env: { ...env, XDG_RUNTIME_DIR: undefined } };
}

/** `slurmRest` of a configuration, with tokens of the beamtime's account. */
export function slurmRestSection(): object {
  const token = ["scontrol", "token", `username=${beamtime.account}`, "lifespan=600"];
  return {
    url: facility.slurm.restUrl,
    tokenCommand: ["/usr/bin/env", `SLURM_CONF=${facility.slurm.conf}`, ...token],
  };
}
