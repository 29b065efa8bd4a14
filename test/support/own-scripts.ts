import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { showSubmit } from "../../src/submission/show-submit.ts";
import type { Trigger } from "../../src/library/trigger.ts";
import { there } from "./servers.ts";
import type { FacilityBeamtime } from "./site.ts";

/** Scripts as users write them, each with what it is about. What stands in brackets is where Mento differs, and why. */
export function userScripts(): { title: string; text: string; differs: string | undefined }[] {
  const file = readFileSync(new URL("user-scripts.txt", import.meta.url), "utf8");
  return file
    .split(/^=== /m)
    .slice(1)
    .map((one) => {
      const [, title = "", text = ""] = /^([^\n]*)\n(.*)$/s.exec(one) ?? [];
      return { title, text, differs: /\[(not by Mento|by Mento):/.exec(title)?.[1] };
    });
}

/** What a command has printed; or, if it has failed, that. */
export type Said = { printed: string } | { refused: string };

/** A script as its user submits it with `sbatch`, and as Mento would, by what `mento run --show` prints. */
export class OwnScripts {
  readonly #target: FacilityBeamtime;
  readonly #trigger: Trigger;
  readonly #folder: string;
  #count = 0;

  constructor(target: FacilityBeamtime, trigger: Trigger) {
    this.#target = target;
    this.#trigger = trigger;
    this.#folder = join(target.beamtime.corePath, "shared", "own-scripts");
    mkdirSync(this.#folder, { recursive: true });
    chmodSync(this.#folder, 0o755);
  }

  write(text: string): string {
    const path = join(this.#folder, `${(this.#count += 1)}.sbatch`);
    writeFileSync(path, text, { mode: 0o644 });
    return path;
  }

  async bothWays(text: string, ...options: string[]) {
    const path = this.write(text);
    const { reservation, partition } = this.#target.beamtime;
    const where = [`--reservation=${reservation}`, `--partition=${partition}`];
    const bySbatch = this.run("sbatch", ...options, ...where, path);
    const shown = await this.show(path).catch((error: unknown) => error as Error);
    const notes =
      typeof shown === "string" ? [...shown.matchAll(/^# (--.*|#.*)$/gm)].map(([, note]) => note) : [];
    const byMento: Said =
      typeof shown === "string"
        ? this.run("/bin/sh", "-c", shown.replace(/^sbatch /m, `sbatch ${options.join(" ")} `))
        : { refused: shown.message };
    return { bySbatch, byMento, notes };
  }

  /** What `mento run --show` prints. */
  async show(path: string): Promise<string> {
    const { plan, target } = await this.#trigger.plan([path]);
    return showSubmit(plan, target);
  }

  /** What Slurm has of a job that was submitted, but for what differs from submit to submit. It is cancelled then. */
  takeFields(said: Said): Record<string, string> | { refused: string } {
    if ("refused" in said) return said;
    const shown = this.run("scontrol", "--oneliner", "show", "job", said.printed);
    if ("refused" in shown) throw new Error(shown.refused);
    this.run("scancel", said.printed);
    const words = shown.printed.split(/ (?=[A-Z][A-Za-z/:]*=)/);
    const fields = words.map((word) => {
      const [, name = word, value = ""] = /^([^=]*)=(.*)$/s.exec(word) ?? [];
      return [name, value] as const;
    });
    return Object.fromEntries(fields.filter(([name]) => !OF_THE_SUBMIT.test(name)));
  }

  /** As the session's account. */
  run(program: string, ...args: string[]): Said {
    const { facility, beamtime } = this.#target;
    const cwd = beamtime.corePath;
    const [first, rest] = there(program, args, { account: beamtime.account, cwd });
    const env = { PATH: process.env["PATH"], SLURM_CONF: facility.slurm.conf };
    const { status, stdout, stderr } = spawnSync(first, rest, { encoding: "utf8", env, cwd });
    return status === 0 ? { printed: stdout.trim() || stderr.trim() } : { refused: stderr.trim() };
  }
}

const OF_THE_SUBMIT =
  /^(JobId|JobName|Comment|Command|WorkDir|Std(In|Out|Err)|Priority|Requeue|(Submit|Eligible|Accrue|End)Time|.*Sched.*|AllocNode:Sid)$/;
