import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { MAIN } from "../support/mento.ts";

const top = mkdtempSync(join(tmpdir(), "mento-signals-"));
const config = join(top, "mento.yaml");
let deaf: Server;
let heard: () => void;

beforeAll(async () => {
  deaf = createServer((socket) => socket.on("error", () => undefined).once("data", () => heard()));
  await new Promise<void>((resolve) => deaf.listen(0, "127.0.0.1", resolve));
  const { port } = deaf.address() as AddressInfo;
  writeFileSync(config, `broker: { url: "amqp://127.0.0.1:${port}" }\n`);
});

afterAll(() => {
  deaf.close();
  rmSync(top, { recursive: true });
});

const commands = [
  ["doctor", "--json"],
  ["watch"],
  ["dead", "list"],
  ["publish", "data-ready", "--path", "/gpfs/current/raw/a.h5"],
];

it.each(commands.flatMap((args) => [["SIGINT", 130, args] as const, ["SIGTERM", 143, args] as const]))(
  "%s ends a command with status %i: %j",
  async (signal, status, args) => {
    const child = spawn(process.execPath, [MAIN, ...args, "-c", config], { stdio: "ignore" });
    const ended = new Promise<number | string | null>((resolve) =>
      child.once("exit", (code, by) => resolve(code ?? by)),
    );
    const reached = new Promise<void>((resolve) => (heard = resolve));
    await Promise.race([reached, ended]);
    child.kill(signal);
    // A shell says 128 and its number of what a signal has ended, too.
    expect([status, signal]).toContain(await ended);
  },
);
