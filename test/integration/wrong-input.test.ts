import { execFileSync, spawn } from "node:child_process";
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MAIN } from "../support/mento.ts";

const folder = mkdtempSync(join(tmpdir(), "wrong-input-"));
chmodSync(folder, 0o755);
const socket = createServer();
beforeAll(() => new Promise<void>((resolve) => socket.listen(at("socket"), resolve)));
afterAll(() => {
  socket.close();
  rmSync(folder, { recursive: true, force: true });
});
const at = (name: string) => join(folder, name);
const put = (name: string, text: string | Buffer) => writeFileSync(at(name), text);

put("file", "x");
put("empty.mjs", "");
put("binary", Buffer.from(Array.from({ length: 4000 }, (_, index) => (index * 7919) % 256)));
put("broken.yaml", "a: [");
put("message.json", '{"path":"/gpfs/current/raw/a"}');
put(
  "good.yaml",
  `broker: { url: "amqp://127.0.0.1:1" }\nsite: { gpfs: ${at("none")}, core: ${at("none")} }\ntriggers: []\n`,
);
symlinkSync(at("loop"), at("loop"));
for (const [name, state] of Object.entries({ "no-json": "{", "no-state": "{}", "null-state": "null" })) {
  mkdirSync(at(name));
  put(`${name}/facility.json`, state);
}
mkdirSync(at("folder/facility.json"), { recursive: true });
execFileSync("mkfifo", [at("pipe")]);
for (const [name, what] of Object.entries({ "pipe-state": at("pipe"), "endless-state": "/dev/zero" })) {
  mkdirSync(at(name));
  symlinkSync(what, at(`${name}/facility.json`));
}
/** What is no file, by each of its kinds. */
const NO_FILES = [at("pipe"), at("socket"), folder, "/dev/zero", "/dev/tty"];

const good = at("good.yaml");
/** Each command that reads a configuration, without `-c`. */
const WITH_CONFIGURATION: string[][] = [
  ["worker"],
  ["watch"],
  ["publish", "data-ready", "--path", "/x"],
  ["run", "ls"],
  ["cancel", "1"],
  ["dead", "list"],
  ["dead", "show", "x"],
  ["dead", "replay"],
  ["dead", "drop", "--all"],
  ["replay", "--since", "1h", "--trigger", "t"],
  ["match", at("message.json")],
  ["beamtime", "show"],
  ["ssh"],
  ["doctor"],
];
const withConfiguration = (command: string[], file: string) => {
  const words = ["publish", "dead", "beamtime"].includes(command[0] ?? "") ? 2 : 1;
  return [...command.slice(0, words), "-c", file, ...command.slice(words)];
};
const session = ["--beamtimeId", "11010000", "--beamline", "p11"];
const FACILITY: string[][] = [
  ["up", "--no-install"],
  ["down"],
  ["status"],
  ["start-beamtime", ...session],
  ["stop-beamtime", ...session],
  ["start-commissioning", "--tag", "a", "--beamline", "p11"],
  ["stop-commissioning", "--beamline", "p11"],
];

const CALLS: string[][] = [
  // Each command once with a configuration that is none, and one of them with each that is none.
  ...WITH_CONFIGURATION.map((command) => withConfiguration(command, folder)),
  ...["file", "binary", "none", "loop", "file/x", "broken.yaml", "x".repeat(5000)].map((name) =>
    withConfiguration(["watch"], at(name)),
  ),
  withConfiguration(["watch"], ""),
  // Of what they need, nothing is there.
  ...WITH_CONFIGURATION.filter(([name]) => name !== "worker").map((command) =>
    withConfiguration(command, good),
  ),
  ...FACILITY.flatMap((command) => ["file", "none/x"].map((dir) => facility(command, at(dir)))).filter(
    ([, name, , dir]) => name !== "up" || dir !== at("none/x"),
  ),
  ...["no-json", "no-state", "null-state", "folder", "loop", "pipe-state", "endless-state"].flatMap((dir) =>
    ["up", "status", "down"].map((name) => facility([name], at(dir))),
  ),
  ...["", "/dev/null", "/proc/x", `/${"a".repeat(300)}`].map((dir) => facility(["up", "--no-install"], dir)),
  facility(["up", "--no-install", "--listen", "nowhere", "--ssh-port", "0"], at("file")),
  ...["none/m.yaml", "file/x", "loop", "a".repeat(300)].map((name) => ["init", at(name)]),
  ["init", ""],
  ...[...NO_FILES, "/dev/full", "/dev/null"].map((name) => ["init", name, "--force"]),
  ...["no-state", "pipe-state", "endless-state", "socket"].map((dir) => [
    "init",
    at("new.yaml"),
    "--facility",
    at(dir),
  ]),
  ...["file", "binary", "none", "loop", "none\u001b[2J\nok"].flatMap((name) => [
    ["validate", at(name)],
    ["match", "-c", good, at(name)],
  ]),
  ["validate", ""],
  ["validate", "-"],
  ...NO_FILES.flatMap((name) => [
    ["validate", name],
    ["match", "-c", good, name],
    ["watch", "-c", name],
    ["publish", "data-ready", "-c", good, "--path", "x", "--parameters", `@${name}`],
  ]),
  ["publish", "data-ready", "-c", good, "--path", "x", "--parameters", "{"],
  ["publish", "data-ready", "-c", good, "--path", ""],
  ["cancel", "-c", good, ""],
  ["dead", "show", "-c", good, ""],
  ["run", "-c", good, ""],
  ["run", "-c", good],
  ["no-such-command\u001b[2J"],
  [""],
];

function facility([name = "", ...options]: string[], dir: string): string[] {
  return ["facility", name, "--dir", dir, ...options];
}

interface SubmitTargetsDeps {
  env?: NodeJS.ProcessEnv;
  stdout?: number;
  /** A shell script that ends with `exec "$@"`. */
  shell?: string;
}

function call(
  args: string[],
  { env, stdout, shell }: SubmitTargetsDeps = {},
): Promise<{ status: number | null; text: string }> {
  const words = [process.execPath, MAIN, ...args];
  const [program = "", ...rest] = shell === undefined ? words : ["sh", "-c", shell, "sh", ...words];
  return new Promise((resolve, reject) => {
    const stdio = ["ignore", stdout ?? "pipe", "pipe"] as const;
    const child = spawn(program, rest, {
      cwd: folder,
      env: { ...process.env, ...env },
      stdio: [...stdio],
      timeout: 60_000,
    });
    const pieces: Buffer[] = [];
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (piece: Buffer) => pieces.push(piece));
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, text: Buffer.concat(pieces).toString() }));
  });
}

function expectWords({ status, text }: { status: number | null; text: string }, statuses: number[]): void {
  expect(text).not.toMatch(/^\s+at .*:\d+:\d+\)?$|node:internal|^Node\.js v|internal-error/m);
  expect(text).not.toMatch(/(?!\n)\p{Cc}/u);
  expect(statuses).toContain(status);
  expect(text.trim()).not.toBe("");
}

describe("a command that is given what it cannot use says so, without a stack trace", () => {
  it.concurrent.each(CALLS.map((args) => ({ args, name: args.join(" ").slice(0, 120) })))(
    "mento $name",
    async ({ args }) => {
      expectWords(await call(args), args[0] === "match" || args[0] === "doctor" ? [0, 1, 2, 3] : [1, 2, 3]);
    },
  );
});

describe("a command in surroundings that it did not expect says so, without a stack trace", () => {
  const ANY = [0, 1, 2, 3];

  it.concurrent.each([["--help"], ["validate", at("message.json")], ["beamtime", "show", "-c", good]])(
    "mento %s %s, with a full disk as its output",
    async (...args) => {
      const full = openSync("/dev/full", "w");
      const ended = await call(args, { stdout: full });
      closeSync(full);
      expectWords(ended, [1]);
    },
  );

  it.concurrent.each([
    ["init"],
    ["watch"],
    ["facility", "status", "--dir", "x"],
    ["facility", "up", "--no-install", "--dir", "x"],
    ["run", "ls"],
  ])("mento %s %s, in a folder that was removed", async (...args) => {
    expectWords(await call(args, { shell: 'd=$(mktemp -d); cd "$d"; rmdir "$d"; exec "$@"' }), [1, 2, 3]);
  });

  it.concurrent.each([
    ["beamtime", "show", "-c", good],
    ["validate", at("message.json")],
  ])("mento %s %s, without HOME", async (...args) => {
    expectWords(await call(args, { env: { HOME: undefined, XDG_RUNTIME_DIR: undefined } }), ANY);
  });

  it.concurrent.each([18, 19, 20, 21, 22, 24, 28, 36, 60])(
    "mento validate, where %i files may be open",
    async (most) => {
      // Node itself needs some; less is not Mento's affair.
      const shell = `ulimit -n ${most}; node ${at("empty.mjs")} 2>/dev/null || { echo "no node"; exit 1; }; exec "$@"`;
      expectWords(await call(["validate", at("message.json")], { shell }), [0, 1]);
    },
  );

  it.concurrent.each([">&-", "<&-", "2>&1 <&- >&-"])("mento, called with %s", async (closed) => {
    const shell = `"$@" ${closed}; echo "mento: $?"`;
    for (const args of [
      ["validate", at("message.json")],
      ["watch", "-c", good],
    ]) {
      const { status, text } = await call(args, { shell });
      expectWords({ status, text }, [0]);
      expect(text).toMatch(/mento: [0-3]\n$/);
    }
  });

  it.concurrent("mento --help, whose reader and whose standard input are gone", async () => {
    const { status, text } = await call(["--help"], { shell: '"$@" <&- | head -1; echo "mento: ended"' });
    expectWords({ status, text }, [0]);
  });

  it.concurrent.each([
    ["init", "/mento.yaml"],
    ["facility", "up", "--no-install", "--dir", "/root/x"],
    ["doctor", "-c", good],
    ["cancel", "1", "-c", good],
    ["run", "-c", good, "--method", "local-bash-script", "ls"],
  ])("mento %s %s, as an account without a name and rights", async (...args) => {
    const shell = `[ "$(id -u)" != 0 ] || set -- setpriv --reuid 12345 --regid 12345 --clear-groups "$@"; exec "$@"`;
    expectWords(await call(args, { shell }), [1, 2, 3]);
  });
});
