import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { framed, newMark, readFramed } from "../../src/shells/script.ts";

/** A folder with jobs and with programs that scripts find before the real ones, which say what a test wants of them. */
export class FakePrograms {
  readonly top = mkdtempSync(join(tmpdir(), "mento-fake 'programs' "));
  readonly jobsDirectory = join(this.top, "jobs");

  constructor() {
    mkdirSync(this.#inBin(""));
    mkdirSync(join(this.jobsDirectory, ".spool"), { recursive: true });
    for (const name of ["squeue", "sacct", "scontrol", "scancel"]) this.answer(name, "");
    this.answer("sbatch", "echo 4720");
  }

  /** What the program does; each call of it is noted. */
  answer(program: string, script: string): void {
    const path = this.#inBin(program);
    const note = `echo "$*" >> "\${0%/*}/${program}.calls"`;
    writeFileSync(path, `#!/bin/sh\n${note}\njobs="\${0%/*}/../jobs"\n${script}\n`);
    chmodSync(path, 0o755);
  }

  /** The arguments of each call. */
  calls(program: string): string[] {
    const path = this.#inBin(`${program}.calls`);
    return existsSync(path) ? readFileSync(path, "utf8").trimEnd().split("\n") : [];
  }

  run(script: string) {
    const env = { ...process.env, PATH: `${this.#inBin("")}:${process.env["PATH"] ?? ""}` };
    const mark = newMark();
    const { status, stdout, stderr } = spawnSync("sh", ["-s"], { input: framed(script, mark), env });
    const [out, err] = [stdout, stderr].map((one) => readFramed(one, mark).output.toString("utf8"));
    return { status, stdout: out ?? "", stderr: err ?? "" };
  }

  remove(): void {
    rmSync(this.top, { recursive: true });
  }

  #inBin(name: string): string {
    return join(this.top, "bin", name);
  }
}
