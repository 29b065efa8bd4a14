import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";

/** A file in which programs write when they begin and end, and for which message: what ran, in its order, and how many at once. */
export class Ledger {
  readonly file: string;

  /** In a folder that the jobs' account can write to. */
  constructor(file: string) {
    this.file = file;
    writeFileSync(file, "");
    chmodSync(file, 0o666);
  }

  /** A trigger's program that takes so long. */
  program(seconds: number): string[] {
    const script = 'echo "+ $MENTO_CAUSE_ID" >> "$1"; sleep "$2"; echo "- $MENTO_CAUSE_ID" >> "$1"';
    return ["/bin/sh", "-c", script, "sh", this.file, String(seconds)];
  }

  /** Ids of the messages whose programs began, in this order. */
  get begun(): string[] {
    return this.#lines.filter(([sign]) => sign === "+").map((line) => line.slice(2));
  }

  get ended(): string[] {
    return this.#lines.filter(([sign]) => sign === "-").map((line) => line.slice(2));
  }

  /** So many ran at the same time, at most. */
  get most(): number {
    let now = 0;
    return Math.max(0, ...this.#lines.map(([sign]) => (now += sign === "+" ? 1 : -1)));
  }

  get #lines(): string[] {
    if (!existsSync(this.file)) return [];
    return readFileSync(this.file, "utf8").split("\n").filter(Boolean);
  }
}
