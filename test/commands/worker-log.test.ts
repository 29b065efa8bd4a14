import fc from "fast-check";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { prettyFactory } from "pino-pretty";
import { describe, expect, it } from "vitest";
import { readableLines } from "../../src/log.ts";
import { MAIN } from "../support/mento.ts";

const lines = readableLines(prettyFactory, false);
const line = (fields: object) =>
  lines(JSON.stringify({ level: "info", time: "2026-11-21T20:15:00Z", ...fields }));

describe("a log on a terminal", () => {
  it("has the time, the level, what was said, and the facts beside it, on one line", () => {
    expect(line({ level: "warn", job: "k3f7", path: "/a/b.h5", msg: "mento.job.failed.v1" })).toMatch(
      /^\[\d\d:\d\d:\d\d\] WARN: mento\.job\.failed\.v1 \{"job":"k3f7","path":"\/a\/b\.h5"\}\n$/,
    );
  });

  it("shows nothing that a terminal acts on, whoever wrote it", () => {
    const unsafe = fc.string({
      unit: fc.constantFrom("a", "\x1b]0;x\x07", "\x9b2J", "\u202e", "\r", "\n", "}"),
    });
    fc.assert(
      fc.property(unsafe, unsafe, unsafe, (msg, key, value) => {
        const written = line({ msg, about: { [key]: value, list: [value] } });
        expect(written.trimEnd()).not.toMatch(/[\p{Cc}\p{Cf}]/u);
      }),
    );
  });
});

it("the worker's log is for a person on a terminal, without colour where nobody wants it, and JSON in a pipe", async () => {
  const folder = mkdtempSync(join(tmpdir(), "mento-readable-log-"));
  try {
    const file = join(folder, "mento.yaml");
    // Its broker is nowhere: a secret that anybody can read is warned of before.
    writeFileSync(
      file,
      "broker: { url: 'amqp://mento:secret@127.0.0.1:1' }\nworker: { logLevel: warn }\ntriggers: [{ name: t, run: [/bin/true] }]\n",
      { mode: 0o644 },
    );
    const begin = async (command: string[], env: object = {}) => {
      const [program = "", ...args] = command;
      const child = spawn(program, args, { env: { ...process.env, TERM: "xterm", ...env } });
      for await (const first of createInterface({ input: child.stdout })) {
        child.kill();
        return first;
      }
      return "nothing";
    };
    const worker = [process.execPath, MAIN, "worker", "-c", file];
    const onTerminal = ["script", "-qec", worker.join(" "), "/dev/null"];
    expect(await begin(onTerminal)).toContain("] \x1b[33mWARN\x1b[39m: \x1b[36m");
    expect(await begin(onTerminal, { NO_COLOR: "1" })).toMatch(/^\[\d\d:\d\d:\d\d\] WARN: .*can read it/);
    expect(JSON.parse(await begin(worker))).toMatchObject({ level: "warn" });
  } finally {
    rmSync(folder, { recursive: true });
  }
}, 30_000);
