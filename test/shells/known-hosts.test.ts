import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { Misconfigured } from "../../src/errors.ts";
import { isAbout, matchesPattern, parseKnownHosts } from "../../src/shells/known-hosts-file.ts";
import {
  checkHostKey,
  fingerprint,
  knownKeyTypes,
  knownOfNode,
  type HostKeyRules,
} from "../../src/shells/known-hosts.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-known-hosts-"));
afterAll(() => rmSync(folder, { recursive: true }));

function makeKey(name: string) {
  const file = join(folder, name);
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", file]);
  const line = readFileSync(`${file}.pub`, "utf8").split(" ").slice(0, 2).join(" ");
  return { file, line, key: Buffer.from(line.split(" ")[1] ?? "", "base64") };
}

const right = makeKey("right");
const wrong = makeKey("wrong");
/** Of the right form; nobody looks further. */
const rsa = `ssh-rsa ${Buffer.from("\0\0\0\x07ssh-rsa12345").toString("base64")}`;
const node = { name: "max-p11-001", address: "127.0.0.1", port: 2222 };

async function check(key: Buffer, about: typeof node, rules: HostKeyRules): Promise<void> {
  checkHostKey(key, about, await knownOfNode(about, rules), rules);
}

const keyTypes = async (rules: HostKeyRules) => knownKeyTypes(node, await knownOfNode(node, rules), rules);

async function decisionOf(rules: HostKeyRules): Promise<string> {
  try {
    await check(right.key, node, rules);
    return "accepted";
  } catch (error) {
    if (error instanceof Misconfigured) return error.code;
    throw error;
  }
}

function knownHostsFile(content: string | Buffer, name = "known_hosts"): string {
  const file = join(folder, name);
  rmSync(file, { force: true });
  writeFileSync(file, content);
  return file;
}

const decision = (knownHosts: string, pinned: Record<string, string[]> = {}) =>
  decisionOf({ knownHosts: [knownHostsFile(knownHosts)], pinned });

describe("checkHostKey", () => {
  it("computes the fingerprint that ssh-keygen prints", () => {
    const printed = execFileSync("ssh-keygen", ["-lf", `${right.file}.pub`], { encoding: "utf8" });
    expect(printed).toContain(fingerprint(right.key));
  });

  it.each([
    ["[127.0.0.1]:2222", "accepted"],
    ["max-p11-001", "accepted"],
    ["max-p11-*,other", "accepted"],
    ["MAX-P11-001", "accepted"],
    ["127.0.0.1", "host-key-unknown"],
    ["max-p11-*,!max-p11-001", "host-key-unknown"],
    ["# max-p11-001", "host-key-unknown"],
  ])("for a line of %s says %s", async (hosts, expected) => {
    expect(await decision(`${hosts} ${right.line} a comment\n`)).toBe(expected);
  });

  it("reads host names that ssh-keygen has hashed", async () => {
    const file = join(folder, "hashed");
    writeFileSync(file, `[127.0.0.1]:2222 ${right.line}\n`);
    execFileSync("ssh-keygen", ["-q", "-H", "-f", file], { stdio: "ignore" });
    const hashed = readFileSync(file, "utf8");
    expect(hashed).toContain("|1|");
    expect(await decision(hashed)).toBe("accepted");
  });

  it("tells a changed key from an unknown host, and takes any of several known keys", async () => {
    expect(await decision(`max-p11-001 ${wrong.line}\n`)).toBe("host-key-changed");
    expect(await decision(`max-p11-001 ${wrong.line}\nmax-p11-001 ${right.line}\n`)).toBe("accepted");
    expect(await decision("")).toBe("host-key-unknown");
  });

  it("names the types of key that are known, so that the node is asked for those first", async () => {
    const file = join(folder, "types");
    writeFileSync(file, `max-p11-001 ${rsa}\n[127.0.0.1]:2222 ${right.line}\nother ${right.line}\n`);
    expect(await keyTypes({ knownHosts: [file], pinned: {} })).toEqual(["ssh-rsa", "ssh-ed25519"]);
    // A pin decides alone.
    const pinned = { "max-p11-001": [fingerprint(right.key)] };
    expect(await keyTypes({ knownHosts: [file, "/nonexistent"], pinned })).toEqual([]);
  });

  it("refuses a revoked key though it is known", async () => {
    expect(await decision(`@revoked * ${right.line}\nmax-p11-001 ${right.line}\n`)).toBe("host-key-changed");
  });

  it("lets a pinned fingerprint decide alone", async () => {
    expect(await decision("", { "max-p11-001": [fingerprint(right.key)] })).toBe("accepted");
    expect(await decision(`max-p11-001 ${right.line}\n`, { "max-p11-001": [fingerprint(wrong.key)] })).toBe(
      "host-key-changed",
    );
  });
});

describe("accepting new host keys for a session", () => {
  it("writes an unknown node's key down, expects it from then on, and accepts no other", async () => {
    const file = join(folder, "accepted");
    const accepted: string[] = [];
    const rules = {
      knownHosts: [],
      pinned: {},
      acceptNew: { file, accepted: (name: string, shown: string) => accepted.push(`${name} ${shown}`) },
    };
    await check(right.key, node, rules);
    await check(right.key, node, rules);
    expect(accepted).toEqual([`max-p11-001 ${fingerprint(right.key)}`]);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(await keyTypes(rules)).toEqual(["ssh-ed25519"]);
    await expect(check(wrong.key, node, rules)).rejects.toMatchObject({ code: "host-key-changed" });
    const other = { name: "max-p11-002", address: "127.0.0.2", port: 22 };
    await check(wrong.key, other, rules);
    expect(accepted).toHaveLength(2);
    // OpenSSH reads the file too.
    const found = execFileSync("ssh-keygen", ["-F", "[127.0.0.1]:2222", "-f", file], { encoding: "utf8" });
    expect(found).toContain(right.line);
  });

  it("never overrules a known key or a pinned fingerprint", async () => {
    const file = join(folder, "overruled");
    writeFileSync(join(folder, "known"), `max-p11-001 ${right.line}\n`);
    const acceptNew = { file, accepted: () => undefined };
    const rules = [
      { knownHosts: [join(folder, "known")], pinned: {}, acceptNew },
      { knownHosts: [], pinned: { "max-p11-001": [fingerprint(right.key)] }, acceptNew },
    ];
    for (const one of rules) {
      await expect(check(wrong.key, node, one)).rejects.toMatchObject({ code: "host-key-changed" });
    }
    expect(existsSync(file)).toBe(false);
  });
});

describe("known_hosts files that others wrote", () => {
  const good = `max-p11-001 ${right.line}\n`;
  const revoked = `@revoked max-p11-* ${right.line}\n`;

  it.each([
    ["before", [revoked + good]],
    ["behind", [good + revoked]],
    ["in a file before", [revoked, good]],
    ["in a file behind", [good, revoked]],
    [
      "with a byte order mark, DOS line ends and tabs",
      [good, `\uFEFF${revoked.replaceAll(" ", "\t").replace("\n", "\r\n")}`],
    ],
  ])("a key that is revoked %s the line that knows it is refused", async (_, texts) => {
    const files = texts.map((text, number) => knownHostsFile(text, `revoked-${number}`));
    const pinned = { "max-p11-001": [fingerprint(right.key)] };
    expect(await decisionOf({ knownHosts: files, pinned: {} })).toBe("host-key-changed");
    expect(await decisionOf({ knownHosts: files, pinned })).toBe("host-key-changed");
  });

  it.each(["max-p11-001", "[max-p11-001]:2222", "127.0.0.1", "[127.0.0.1]:2222", "[MAX-p11-*]:2222"])(
    "a key that is revoked for %s is refused, hashed or not, in any file",
    async (hosts) => {
      const file = knownHostsFile(`@revoked ${hosts} ${right.line}\n`, "revoked-name");
      const files = [knownHostsFile(good), file];
      const pinned = { "max-p11-001": [fingerprint(right.key)] };
      expect(await decisionOf({ knownHosts: files, pinned: {} })).toBe("host-key-changed");
      expect(await decisionOf({ knownHosts: files, pinned })).toBe("host-key-changed");
      execFileSync("ssh-keygen", ["-q", "-H", "-f", file], { stdio: "ignore" });
      expect(await decisionOf({ knownHosts: files, pinned: {} })).toBe("host-key-changed");
    },
  );

  it("a revoked key of another host, or another key, does not count", async () => {
    expect(await decision(`@revoked other ${right.line}\n${good}`)).toBe("accepted");
    expect(await decision(`@revoked [max-p11-001]:22,[127.0.0.1]:23 ${right.line}\n${good}`)).toBe(
      "accepted",
    );
    expect(await decision(`@revoked * ${wrong.line}\n${good}`)).toBe("accepted");
  });

  it("one that is missing, a folder, a pipe or too large does not stop a host that another knows", async () => {
    const pipe = join(folder, "pipe");
    execFileSync("mkfifo", [pipe]);
    const large = knownHostsFile("", "large");
    truncateSync(large, 1_900_000_000);
    const bad = ["/nonexistent/known_hosts", folder, pipe, large, "/dev/zero"];
    const rules = { knownHosts: [...bad, knownHostsFile(good)], pinned: {} };
    expect(await decisionOf(rules)).toBe("accepted");
    const unknown = { knownHosts: bad, pinned: {} };
    await expect(check(right.key, node, unknown)).rejects.toThrow(
      /ENOENT.* a folder.* a named pipe.* more than/s,
    );
  });

  it("a new key is accepted while a file is missing, but not while one cannot be read", async () => {
    const acceptNew = { file: join(folder, "new"), accepted: () => undefined };
    const rules = (knownHosts: string[]) => ({ knownHosts, pinned: {}, acceptNew });
    expect(await decisionOf(rules([folder]))).toBe("host-key-unknown");
    expect(await decisionOf(rules(["/nonexistent"]))).toBe("accepted");
  });

  it("a certificate authority is named, and accepts nothing", async () => {
    const file = knownHostsFile(`@cert-authority * ${right.line}\n`);
    const acceptNew = { file: join(folder, "by-authority"), accepted: () => undefined };
    const rules = { knownHosts: [file], pinned: {}, acceptNew };
    await expect(check(right.key, node, rules)).rejects.toThrow(
      /only a certificate authority \(@cert-authority\)/,
    );
    expect(existsSync(acceptNew.file)).toBe(false);
    expect(await decision(`@cert-authority * ${wrong.line}\n${good}`)).toBe("accepted");
  });

  it("a key that two connections accept at once is written down once, and another is refused", async () => {
    const acceptNew = { file: join(folder, "at-once"), accepted: () => undefined };
    const rules = { knownHosts: [], pinned: {}, acceptNew };
    const known = await knownOfNode(node, rules);
    checkHostKey(right.key, node, known, rules);
    checkHostKey(right.key, node, known, rules);
    expect(() => checkHostKey(wrong.key, node, known, rules)).toThrow("has another");
    expect(readFileSync(acceptNew.file, "utf8").trim().split("\n")).toHaveLength(1);
  });

  it("patterns with any number of stars take no time", () => {
    const name = "a".repeat(253);
    const before = performance.now();
    expect(matchesPattern(`${"*a".repeat(500)}b`, name)).toBe(false);
    expect(matchesPattern(`${"*?".repeat(253)}*`, name)).toBe(true);
    expect(performance.now() - before).toBeLessThan(1000);
  });

  it("random bytes are no lines", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
        const lines = [...parseKnownHosts(Buffer.from(bytes).toString("latin1"))];
        expect(lines).toEqual([]);
      }),
    );
  });

  it("lines are found for the hosts that ssh-keygen finds them for", () => {
    const part = fc.constantFrom(
      "a",
      "b",
      "ab",
      "a.b",
      "*",
      "?",
      "*.b",
      "!a",
      "!a*",
      "A",
      "[a]:2222",
      "[*]:2222",
      "",
    );
    const pattern = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join(","));
    const host = fc.constantFrom("a", "b", "ab", "a.b", "abc", "[a]:2222");
    fc.assert(
      fc.property(fc.array(pattern, { minLength: 1, maxLength: 4 }), host, (patterns, name) => {
        const text = patterns.map((hosts) => `${hosts} ${right.line}\n`).join("");
        const file = knownHostsFile(text, "compared");
        const said = spawnSync("ssh-keygen", ["-F", name, "-f", file], { encoding: "utf8" }).stdout;
        const theirs = said.split("\n").filter((line) => line.endsWith(right.line)).length;
        const ours = [...parseKnownHosts(text)].filter((line) => isAbout(line, name)).length;
        expect([text, name, ours]).toEqual([text, name, theirs]);
      }),
      { numRuns: 60 },
    );
  });
});
