import { spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MAIN, tryMento, type Ended } from "../support/mento.ts";
import { nodeThere, there } from "../support/servers.ts";
import { beamtime, eventually, facility, TestSite, writeData, type TestWorker } from "../support/site.ts";

/** Sets the title, clears the screen, turns the line around, and has an event of its own. */
const FORGED = "12:00:00  job.completed     forged";
const HOSTILE = `\u001b]0;title\u0007\u001b[2J\u009b31m\u202e\u2028\n${FORGED}\n`;
/** What a terminal acts on; newlines end the program's own lines. */
const ACTED_ON = /(?!\n)[\p{Cc}\p{Cf}\u2028\u2029]/u;

const site = new TestSite([
  { name: "good", on: { technique: "good" }, run: ["/bin/true", "{{ path }}"] },
  { name: "needy", on: { technique: "needy" }, run: ["/bin/true", "{{ parameters.poni }}"] },
]);
const folder = mkdtempSync(join(tmpdir(), "mento-people-"));
let worker: TestWorker;
beforeAll(async () => {
  worker = await site.startWorker();
});
afterAll(async () => {
  await site.tearDown();
  rmSync(folder, { recursive: true });
});

function expectPlain({ stdout, stderr }: Pick<Ended, "stdout" | "stderr">): void {
  for (const line of `${stdout}\n${stderr}`.split("\n")) {
    expect(line).not.toMatch(ACTED_ON);
    expect(line.startsWith(FORGED)).toBe(false);
  }
}

const publish = (path: string, ...more: string[]) =>
  tryMento(["publish", "data-ready", "-c", site.configFile, "--path", path, ...more]);

describe("a file whose name acts on a terminal", () => {
  it("is shown as it is written, by watch, publish --wait, dead, match, and in the worker's log", async () => {
    const { path } = writeData("data\n", `${randomUUID().slice(0, 8)}${HOSTILE}.dat`);
    const watching = (["--trigger", "--json"] as const).map((option) => {
      const args = [
        MAIN,
        "watch",
        "-c",
        site.configFile,
        ...(option === "--json" ? [option] : [option, "good"]),
      ];
      const child = spawn(...there(nodeThere(), args), { stdio: "pipe" });
      const seen = { child, stdout: "", stderr: "" };
      child.stdout.on("data", (piece: Buffer) => (seen.stdout += piece.toString()));
      child.stderr.on("data", (piece: Buffer) => (seen.stderr += piece.toString()));
      return seen;
    });
    for (const seen of watching) {
      await eventually("watching", () => (seen.stderr.includes("watching") ? true : undefined));
    }
    const good = await publish(path, "--technique", "good", "--wait");
    expect(good.stdout).toMatch(/job\.completed +good/);
    const asJson = await publish(path, "--technique", "good", "--wait", "--json");
    const refused = await publish(path, "--technique", `needy`, "--id", `id${HOSTILE}`, "--wait");
    expect(refused.stdout).toMatch(/message\.rejected/);
    const commands = await Promise.all(
      [
        ["dead", "list"],
        ["dead", "list", "--json"],
        ["dead", "show", "id\u001b]0;title"],
      ].map(([name = "", sub = "", ...rest]) => tryMento([name, sub, "-c", site.configFile, ...rest])),
    );
    const message = join(folder, "message.json");
    writeFileSync(message, JSON.stringify({ path, technique: "good", sample: HOSTILE }));
    const match = await tryMento(["match", "-c", site.configFile, message]);
    expect(match.stdout).toContain("would run");
    for (const one of [good, asJson, refused, ...commands, match]) expectPlain(one);
    for (const [index, expected] of ["job.completed", "message.rejected"].entries()) {
      const seen = watching[index];
      if (seen === undefined) continue;
      await eventually(expected, () => (seen.stdout.includes(expected) ? true : undefined));
      seen.child.kill("SIGINT");
      expectPlain(seen);
    }
    const events = watching[1]?.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { data: { paths: string[] } });
    expect(events?.at(-1)?.data.paths).toEqual([path]);
    expect(worker.log).not.toMatch(ACTED_ON);
  });

  it("is shown as it is written by run, with what the program prints, whose lines and tabs stay", async () => {
    const script = `printf '\\033]0;t\\007\\033[2Jone\\n\\ttwo\\r50%%\\r100%%\\n'`;
    const ended = await tryMento(["run", "-c", site.configFile, "--follow", "/bin/sh", "-c", script]);
    expect(ended.stdout).toBe("\\u{1b}]0;t\\u{7}\\u{1b}[2Jone\n\ttwo\n50%\n100%\n");
    const shown = await tryMento(["run", "-c", site.configFile, "--show", "/bin/true", HOSTILE]);
    for (const one of [ended, shown]) expect(`${one.stdout}${one.stderr}`).not.toMatch(/(?![\n\t])\p{Cc}/u);
  });
});

describe("the facility's copy to the core file system, as root,", () => {
  const isRoot = process.getuid?.() === 0;
  /** Somebody with no part in it; without root, everybody is the one who runs the facility. */
  const as = (account: string, script: string) => {
    const words = ["sh", "-c", script];
    return isRoot
      ? spawnSync("setpriv", ["--reuid", account, "--regid", account, "--clear-groups", ...words])
      : spawnSync("sh", words.slice(1));
  };

  it("writes nothing where a link of the beamtime's account leads, and goes on with the rest", async () => {
    const name = randomUUID().slice(0, 8);
    mkdirSync(join(folder, name), { mode: 0o700 });
    const link = join(beamtime.corePath, "processed", name);
    const linked = as(beamtime.account, `ln -s ${join(folder, name)} ${link}`);
    expect(linked.status).toBe(0);
    const source = join(facility.roots.gpfs, "current/processed", name);
    expect(as("65534", `mkdir ${source}; echo y > ${source}/g; echo y > ${source}.ordinary`).status).toBe(0);
    await eventually("the copy of the rest", () =>
      lstatSync(`${link}.ordinary`, { throwIfNoEntry: false }) === undefined ? undefined : true,
    );
    expect(readdirSync(join(folder, name))).toEqual([]);
    rmSync(source, { recursive: true });
    rmSync(link);
  });

  it("leaves to nobody else what the session's account or the facility has", () => {
    const { gpfs } = facility.roots;
    const strangers = [
      `echo x > ${beamtime.corePath}/processed/x`,
      `ln -s /root ${beamtime.corePath}/scratch_cc/x`,
      `mv ${gpfs}/current/shared/id_rsa ${gpfs}/current/shared/mine`,
      `rm -f ${gpfs}/current/shared/id_rsa.pub`,
      `echo x > ${dirname(gpfs)}/x`,
    ];
    for (const script of isRoot ? strangers : []) expect(as("65534", script).status, script).not.toBe(0);
    const modes = spawnSync("find", [
      facility.dir,
      "-perm",
      "-0002",
      "!",
      "-type",
      "l",
      "!",
      "-perm",
      "-1000",
      "!",
      "-type",
      "s",
      "-not",
      "-path",
      `${beamtime.corePath}/*/*`,
      // Other tests' jobs write there.
      ...["-not", "-path", "*/runs"],
    ]);
    expect(modes.stdout.toString()).toBe("");
  });
});
