import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Misconfigured } from "../../src/errors.ts";
import { checkHostKey, fingerprint, knownKeyTypes } from "../../src/shells/known-hosts.ts";

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
const node = { name: "max-p11-001", address: "127.0.0.1", port: 2222 };

function verdict(knownHosts: string, pinned: Record<string, string[]> = {}): string {
  const file = join(folder, "known_hosts");
  writeFileSync(file, knownHosts);
  try {
    checkHostKey(right.key, node, { knownHosts: [file], pinned });
    return "accepted";
  } catch (error) {
    if (error instanceof Misconfigured) return error.code;
    throw error;
  }
}

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
  ])("for a line of %s says %s", (hosts, expected) => {
    expect(verdict(`${hosts} ${right.line} a comment\n`)).toBe(expected);
  });

  it("reads host names that ssh-keygen has hashed", () => {
    const file = join(folder, "hashed");
    writeFileSync(file, `[127.0.0.1]:2222 ${right.line}\n`);
    execFileSync("ssh-keygen", ["-q", "-H", "-f", file], { stdio: "ignore" });
    const hashed = readFileSync(file, "utf8");
    expect(hashed).toContain("|1|");
    expect(verdict(hashed)).toBe("accepted");
  });

  it("tells a changed key from an unknown host, and takes any of several known keys", () => {
    expect(verdict(`max-p11-001 ${wrong.line}\n`)).toBe("host-key-changed");
    expect(verdict(`max-p11-001 ${wrong.line}\nmax-p11-001 ${right.line}\n`)).toBe("accepted");
    expect(verdict("")).toBe("host-key-unknown");
  });

  it("names the types of key that are known, so that the node is asked for those first", () => {
    const file = join(folder, "types");
    writeFileSync(
      file,
      `max-p11-001 ssh-rsa AAAA\n[127.0.0.1]:2222 ${right.line}\nother ecdsa-sha2-nistp256 AAAA\n`,
    );
    expect(knownKeyTypes(node, { knownHosts: [file], pinned: {} })).toEqual(["ssh-rsa", "ssh-ed25519"]);
    // A pin decides alone: no file is read.
    const pinned = { "max-p11-001": [fingerprint(right.key)] };
    expect(knownKeyTypes(node, { knownHosts: ["/nonexistent"], pinned })).toEqual([]);
  });

  it("refuses a revoked key though it is known", () => {
    expect(verdict(`@revoked * ${right.line}\nmax-p11-001 ${right.line}\n`)).toBe("host-key-changed");
  });

  it("lets a pinned fingerprint decide alone", () => {
    expect(verdict("", { "max-p11-001": [fingerprint(right.key)] })).toBe("accepted");
    expect(verdict(`max-p11-001 ${right.line}\n`, { "max-p11-001": [fingerprint(wrong.key)] })).toBe(
      "host-key-changed",
    );
  });
});

describe("accepting new host keys for a session", () => {
  it("writes an unknown node's key down, expects it from then on, and accepts no other", () => {
    const file = join(folder, "accepted");
    const accepted: string[] = [];
    const rules = {
      knownHosts: [],
      pinned: {},
      acceptNew: { file, accepted: (name: string, shown: string) => accepted.push(`${name} ${shown}`) },
    };
    checkHostKey(right.key, node, rules);
    checkHostKey(right.key, node, rules);
    expect(accepted).toEqual([`max-p11-001 ${fingerprint(right.key)}`]);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(knownKeyTypes(node, rules)).toEqual(["ssh-ed25519"]);
    expect(() => checkHostKey(wrong.key, node, rules)).toThrow(
      expect.objectContaining({ code: "host-key-changed" }),
    );
    const other = { name: "max-p11-002", address: "127.0.0.2", port: 22 };
    checkHostKey(wrong.key, other, rules);
    expect(accepted).toHaveLength(2);
    // OpenSSH reads the file too.
    const found = execFileSync("ssh-keygen", ["-F", "[127.0.0.1]:2222", "-f", file], { encoding: "utf8" });
    expect(found).toContain(right.line);
  });

  it("never overrules a known key or a pinned fingerprint", () => {
    const file = join(folder, "overruled");
    writeFileSync(join(folder, "known"), `max-p11-001 ${right.line}\n`);
    const acceptNew = { file, accepted: () => undefined };
    const rules = [
      { knownHosts: [join(folder, "known")], pinned: {}, acceptNew },
      { knownHosts: [], pinned: { "max-p11-001": [fingerprint(right.key)] }, acceptNew },
    ];
    for (const one of rules) {
      expect(() => checkHostKey(wrong.key, node, one)).toThrow(
        expect.objectContaining({ code: "host-key-changed" }),
      );
    }
    expect(existsSync(file)).toBe(false);
  });
});
