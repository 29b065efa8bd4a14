import { execFileSync, spawn } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import type { SessionReport } from "../../src/commands/beamtime.ts";
import type { CheckResult } from "../../src/doctor/checklist.ts";
import { MAIN, run, tryMento } from "../support/mento.ts";
import { nodeThere, there } from "../support/servers.ts";
import { beamtime, eventually, facility, TestSite } from "../support/site.ts";

const [firstNode = "", secondNode = ""] = beamtime.nodes;
const folder = mkdtempSync(join(tmpdir(), "mento-beamtime-"));
const runtime = join(folder, "run");
mkdirSync(runtime, { mode: 0o700 });
const trigger = { name: "t", run: ["/bin/true"] };
const site = new TestSite([trigger]);
afterAll(async () => {
  await site.tearDown();
  rmSync(folder, { recursive: true });
});

const environment = { XDG_RUNTIME_DIR: runtime };

function mento(...args: string[]) {
  return tryMento(args, { env: environment });
}

/** The facility's site with some of it changed. */
function configure(changes: { ssh?: object; site?: object; broker?: object; triggers?: object[] }): string {
  const { address, port, knownHosts } = facility.ssh;
  const hosts = Object.fromEntries(facility.slurm.nodes.map(({ name }) => [name, { address, port }]));
  const file = join(mkdtempSync(join(folder, "site-")), "mento.yaml");
  const config = {
    broker: { url: facility.broker.url, prefix: site.prefix, ...changes.broker },
    site: { ...facility.roots, ...changes.site },
    ssh: { knownHosts: [knownHosts], hosts, ...changes.ssh },
    triggers: changes.triggers ?? [trigger],
  };
  writeFileSync(file, stringify(config));
  return file;
}

/** A beamline file system of its own, with the beamtime's metadata file changed; its data never reaches core. */
function configureMetadata(changes: Partial<Record<View, ChangeMetadata>>): { file: string; gpfs: string } {
  const gpfs = mkdtempSync(join(folder, "gpfs-"));
  for (const [view, change] of Object.entries(changes) as [View, ChangeMetadata][]) {
    mkdirSync(join(gpfs, view, "shared"), { recursive: true });
    mkdirSync(join(gpfs, view, "processed"));
    writeFileSync(join(gpfs, view, "shared/id_rsa"), readFileSync(beamtime.privateKey), { mode: 0o600 });
    const changed = change(JSON.parse(readFileSync(beamtime.metadataFile, "utf8")) as Document);
    const text = typeof changed === "string" ? changed : JSON.stringify(changed);
    writeFileSync(join(gpfs, view, NAMES[view]), text);
  }
  return { file: configure({ site: { gpfs } }), gpfs };
}

type View = "current" | "commissioning";
type Document = Record<string, unknown> & { onlineAnalysis?: object };
type ChangeMetadata = (document: Document) => unknown;
const NAMES = {
  current: "beamtime-metadata-11010000.json",
  commissioning: "commissioning-metadata-c1.json",
};
const asItIs: ChangeMetadata = (document) => document;
const notOnline: ChangeMetadata = (document) => ({ ...document, onlineAnalysis: undefined });

const nodesAt = (ports: Record<string, number>) => ({
  hosts: Object.fromEntries(
    facility.slurm.nodes.map(({ name }) => {
      return [name, { address: facility.ssh.address, port: ports[name] ?? facility.ssh.port }];
    }),
  ),
});

function parseLines<T>(stdout: string): T[] {
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as T);
}

/** Test files of `mento doctor` on any of the file systems. */
function testFiles(): string[] {
  const roots = [join(facility.roots.gpfs, "current"), beamtime.corePath];
  return roots.flatMap((root) =>
    readdirSync(root, { recursive: true, encoding: "utf8" }).filter((name) => name.includes("mento-doctor")),
  );
}

const nothingLeft = () =>
  expect(readdirSync(join(runtime, "mento")).filter((one) => one !== "host-keys")).toEqual([]);

describe("mento beamtime show", () => {
  it("prints the open beamtime with its key, its reservation and the state of its nodes", async () => {
    const [human, json] = await Promise.all([
      mento("beamtime", "show", "-c", site.configFile),
      mento("beamtime", "show", "-c", site.configFile, "--json"),
    ]);
    expect([human.code, json.code, human.stderr]).toEqual([0, 0, ""]);
    expect(human.stdout).toContain(
      `beamtime 11010000 at p11: open\n  at beamline    ${facility.roots.gpfs}/current`,
    );
    expect(human.stdout).toMatch(
      new RegExp(`reservation {4}11010000, partition ${beamtime.partition}, until .*, [0-9] of 2 nodes idle`),
    );
    const [shown] = parseLines<SessionReport>(json.stdout);
    expect(shown).toMatchObject({
      ...{ id: "11010000", isOpen: true, account: beamtime.account, error: null },
      privateKey: { mode: "600", type: "ssh-ed25519" },
      reservations: [
        {
          name: "11010000",
          nodes: [
            { name: firstNode, features: expect.arrayContaining(["AP"]) as string[] },
            { name: secondNode },
          ],
        },
      ],
    });
    nothingLeft();
  });

  it("with a node out of reach prints what the metadata file says, and why no more: exit 3", async () => {
    const file = configure({ ssh: nodesAt({ [firstNode]: 9, [secondNode]: 9 }) });
    const { code, stdout } = await mento("beamtime", "show", "-c", file);
    expect(code).toBe(3);
    expect(stdout).toContain(`account        ${beamtime.account}`);
    expect(stdout).toMatch(/Slurm +could not be asked\. .*cannot be reached over SSH.*\[ssh-unreachable\]/);
  });

  it("without a session: exit 1; one that is only on core is shown by its id", async () => {
    const file = configure({ site: { gpfs: join(folder, "empty") } });
    const [none, onCore, unknown] = await Promise.all([
      mento("beamtime", "show", "-c", file),
      mento("beamtime", "show", "11010000", "-c", file),
      mento("beamtime", "show", "47110815", "-c", file),
    ]);
    expect([none.code, onCore.code, unknown.code]).toEqual([1, 0, 1]);
    expect(none.stderr).toContain("No beamtime is open");
    expect(onCore.stdout).toContain("11010000 at p11: NOT open at the beamline");
    expect(unknown.stderr).toContain("[unknown-beamtime]");
  });

  it("shows a good session beside one whose metadata file is broken: exit 1", async () => {
    const { file } = configureMetadata({ current: notOnline, commissioning: () => '{"id": ' });
    const { code, stdout, stderr } = await mento("beamtime", "show", "-c", file);
    expect(code).toBe(1);
    expect(stdout).toContain("online         no: it was started without --online");
    expect(stderr).toContain("[metadata-unreadable]");
  });
});

describe("mento ssh", () => {
  const ssh = (...args: string[]) => mento("ssh", "-c", site.configFile, ...args);

  it("runs a command on a reserved node: its words arrive literally, its exit status comes back", async () => {
    const [echo, failing, named] = await Promise.all([
      ssh("--", "printf", "%s\\n", "$HOME", "a  b", "it's", ";id", "--json"),
      ssh("--", "sh", "-c", "echo oops >&2; exit 7"),
      ssh(secondNode, "--", "id", "-un"),
    ]);
    expect([echo.stdout, echo.code]).toEqual(["$HOME\na  b\nit's\n;id\n--json\n", 0]);
    expect([failing.stderr, failing.code]).toEqual(["oops\n", 7]);
    expect([named.stdout, named.code]).toEqual([`${beamtime.account}\n`, 0]);
    nothingLeft();
  });

  it("without a command opens a shell: with a terminal, if there is one, else reading commands", async () => {
    const command = `${nodeThere()} ${MAIN} ssh -c ${site.configFile}`;
    const [piped, terminal] = await Promise.all([
      tryMento(["ssh", "-c", site.configFile], { input: "id -un; exit 3\n", env: environment }),
      run("script", ["-qec", command, "/dev/null"], { input: "tty; exit 4\r", env: environment }),
    ]);
    expect([piped.stdout, piped.stderr, piped.code]).toEqual([`${beamtime.account}\n`, "", 3]);
    expect(terminal.stdout).toContain("/dev/pts/");
    expect(terminal.code).toBe(4);
  });

  it("takes the first node that answers; one that is not reserved is refused, with those that are", async () => {
    const file = configure({ ssh: nodesAt({ [firstNode]: 9 }) });
    const [next, dead, other] = await Promise.all([
      mento("ssh", "-c", file, "--", "true"),
      mento("ssh", "-c", file, firstNode, "--", "true"),
      mento("ssh", "-c", file, "max-p11-099"),
    ]);
    expect([next.code, dead.code, other.code]).toEqual([0, 3, 2]);
    expect(dead.stderr).toContain(`${firstNode} (127.0.0.1:9) cannot be reached`);
    expect(other.stderr).toContain(`Reserved are ${firstNode}, ${secondNode}`);
  });

  it("accepts the host key by the worker's rules: pinned, new if that is allowed, and no other", async () => {
    const hostKeys = Object.fromEntries(
      beamtime.nodes.map((name) => [name, [facility.ssh.hostKeyFingerprint]]),
    );
    const [pinned, accepted, unknown] = await Promise.all(
      [{ hostKeys }, { acceptNewHostKeys: true }, {}].map((rules) =>
        mento("ssh", "-c", configure({ ssh: { knownHosts: [], ...rules } }), "--", "true"),
      ),
    );
    expect([pinned?.code, accepted?.code, unknown?.code]).toEqual([0, 0, 2]);
    expect(accepted?.stderr).toContain(`fingerprint ${facility.ssh.hostKeyFingerprint}`);
    expect(unknown?.stderr).toContain("[host-key-unknown]");
  });

  it("uses a key that ssh(1) itself would not read", async () => {
    const privateKey = join(folder, "key");
    writeFileSync(privateKey, readFileSync(beamtime.privateKey, "utf8").trimEnd().replaceAll("\n", "\r\n"), {
      mode: 0o600,
    });
    const session = {
      ...{ id: "a-h", beamline: "p11", account: beamtime.account, privateKey },
      paths: { beamline: folder, core: beamtime.corePath },
      reservations: [{ partition: "ponline", nodes: [firstNode] }],
    };
    const file = configure({ site: { gpfs: join(folder, "empty"), sessions: [session] } });
    expect(await mento("ssh", "-c", file, "--", "id", "-un")).toMatchObject({
      ...{ stderr: "", code: 0, stdout: `${beamtime.account}\n` },
    });
  });

  it("leaves no key behind when it is ended by a signal", async () => {
    const args = [MAIN, "ssh", "-c", site.configFile, "--", "sleep", "60"];
    const child = spawn(...there(nodeThere(), args), {
      env: { ...process.env, ...environment },
      stdio: "ignore",
    });
    const own = join(runtime, `mento/process-${child.pid ?? 0}`);
    await eventually("ssh runs", () => (existsSync(join(own, "known_hosts")) ? true : undefined));
    const ended = new Promise((resolve) => child.on("exit", resolve));
    child.kill("SIGINT");
    expect(await ended).not.toBe(0);
    expect(existsSync(own)).toBe(false);
  });

  it("says that OpenSSH is not installed: exit 2", async () => {
    const { code, stderr } = await tryMento(["ssh", "-c", site.configFile, "--", "true"], {
      env: { ...environment, PATH: folder },
    });
    expect(code).toBe(2);
    expect(stderr).toContain("[ssh-not-installed]");
  });
});

describe("mento doctor", () => {
  async function doctor(file: string, ...args: string[]) {
    const { code, stdout, stderr } = await mento(
      "doctor",
      "-c",
      file,
      "--json",
      "--copy-timeout",
      "1",
      ...args,
    );
    expect(stderr).toBe("");
    const results = parseLines<CheckResult>(stdout);
    const of = (check: string) => results.find((one) => one.check === check);
    return {
      code,
      results,
      of,
      failed: results.filter(({ state }) => state === "failed").map(({ check }) => check),
    };
  }

  it("finds everything well, says what it found, and leaves nothing: exit 0", async () => {
    const { code, stdout } = await mento("doctor", "-c", site.configFile);
    const lines = stdout.split("\n");
    expect(lines.map((line) => line.slice(0, 30).trim())).toEqual([
      "ok       configuration",
      "ok       broker",
      "ok       broker policies",
      "ok       metadata",
      "ok       private key",
      "ok       host key",
      "ok       SSH login",
      "ok       Slurm",
      "ok       reservation 11010000",
      "ok       copy to core",
      "ok       write to beamline",
      "ok       jobs directory",
      "ok       clock",
      "",
      "no check failed",
      "",
    ]);
    expect(stdout).toMatch(/RabbitMQ \d+\.\d+\.\d+ at .*no worker of group default had run there/);
    expect(stdout).toMatch(/a job could start at \d\d:\d\d:\d\d on max-p11-/);
    expect(stdout).not.toContain(facility.broker.password);
    expect(code).toBe(0);
    nothingLeft();
    await eventually("no test file is left", () => (testFiles().length === 0 ? true : undefined));
  });

  it("goes on where a check fails that the others do not need: a wrong password, a dead node", async () => {
    const file = configure({ broker: { password: "wrong" }, ssh: nodesAt({ [firstNode]: 9 }) });
    const { code, of, failed } = await doctor(file);
    expect([code, failed]).toEqual([1, ["broker"]]);
    expect(of("broker")).toMatchObject({ code: "broker-refused" });
    expect(of("SSH login")).toMatchObject({ state: "warning", code: "ssh-unreachable" });
    expect(of("clock")?.message).toContain(secondNode);
  });

  it("skips what depends on a failed check, and says on which: an unknown host key, a refused login", async () => {
    const otherKey = join(folder, "other");
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", otherKey]);
    const withOtherKey = configureMetadata({ current: asItIs });
    copyFileSync(otherKey, join(withOtherKey.gpfs, "current/shared/id_rsa"));
    const [unknown, refused] = await Promise.all([
      doctor(configure({ ssh: { knownHosts: [] } })),
      doctor(withOtherKey.file),
    ]);
    expect([unknown.code, unknown.failed, unknown.of("host key")?.code]).toEqual([
      1,
      ["host key"],
      "host-key-unknown",
    ]);
    expect([refused.code, refused.failed, refused.of("host key")?.state]).toEqual([1, ["SSH login"], "ok"]);
    expect(refused.of("reservation 11010000")).toMatchObject({
      ...{ state: "skipped", message: 'not checked, because "SSH login" failed', session: "11010000" },
    });
  });

  it("names what is wrong with the session: none, a broken file, no online resources", async () => {
    const files = [
      configure({ site: { gpfs: join(folder, "empty") } }),
      configureMetadata({ current: () => "{" }).file,
      configureMetadata({ current: notOnline }).file,
    ];
    const ends = await Promise.all(files.map((file) => doctor(file)));
    expect(ends.map(({ code, failed, of }) => [code, failed, of("metadata")?.code])).toEqual([
      [1, ["metadata"], "no-session-open"],
      [1, ["metadata"], "metadata-unreadable"],
      [1, ["metadata"], "no-online-resources"],
    ]);
    expect(ends[0]?.results.length).toBe(13);
  });

  it("finds a reservation that is gone, and a copy that does not come; tells two sessions apart", async () => {
    const { file, gpfs } = configureMetadata({
      current: (all) => ({ ...all, onlineAnalysis: { ...all.onlineAnalysis, slurmReservation: "gone" } }),
      commissioning: (all) => ({ ...all, beamtimeId: undefined, id: "c1" }),
    });
    const { code, results } = await doctor(file);
    expect(code).toBe(1);
    const failed = results.filter(({ state }) => state === "failed");
    expect(failed.map(({ session, check }) => `${session ?? ""} ${check}`)).toEqual([
      "11010000 reservation gone",
      "11010000 copy to core",
      "11010000 write to beamline",
      "c1 copy to core",
      "c1 write to beamline",
    ]);
    expect(readdirSync(join(gpfs, "current/processed"))).toEqual([]);
    const one = await mento("doctor", "-c", file, "--session", "c1", "--copy-timeout", "1");
    expect(one.stdout).toContain("commissioning run c1 at p11 is open");
    expect(one.stdout).not.toContain("gone");
  });

  it("stopped while it waits for the copy takes its file with it: exit 130", async () => {
    const { file, gpfs } = configureMetadata({ current: asItIs });
    const processed = join(gpfs, "current/processed");
    const args = [MAIN, "doctor", "-c", file];
    const child = spawn(...there(nodeThere(), args), {
      env: { ...process.env, ...environment },
      stdio: "ignore",
    });
    const ended = new Promise((resolve) => child.on("exit", resolve));
    await eventually("the test file", () => readdirSync(processed)[0]);
    child.kill("SIGINT");
    expect(await ended).toBe(130);
    expect(readdirSync(processed)).toEqual([]);
  });

  it("with a mistake in the configuration: exit 2", async () => {
    const file = join(folder, "bad.yaml");
    writeFileSync(file, "broker: { urll: x }\n");
    expect((await mento("doctor", "-c", file)).code).toBe(2);
  });
});
