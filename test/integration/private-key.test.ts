import { execFileSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PrivateKeys } from "../../src/beamtime/private-key.ts";
import { MentoError } from "../../src/errors.ts";
import { RuntimeDirectory } from "../../src/shells/runtime-directory.ts";
import { codeOf } from "../support/code-of.ts";

let top: string;
let keys: PrivateKeys;
let warnings: string[];
let runtime: RuntimeDirectory;

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "mento-keys-"));
  mkdirSync(join(top, "run"), { mode: 0o700 });
  mkdirSync(join(top, "shared"));
  warnings = [];
  runtime = new RuntimeDirectory({ XDG_RUNTIME_DIR: join(top, "run") });
  keys = new PrivateKeys(runtime, (message) => warnings.push(message));
});
afterEach(() => rmSync(top, { recursive: true, force: true }));

const file = () => join(top, "shared/id_rsa");
const place = () => ({ file: file(), within: top });

function makeKey(...options: string[]): string {
  rmSync(file(), { force: true });
  execFileSync("ssh-keygen", ["-q", "-N", "", "-f", file(), ...options]);
  return readFileSync(file(), "utf8");
}

function makePkcs8(...options: string[]): void {
  execFileSync("openssl", ["genpkey", "-out", file(), ...options], { stdio: "ignore" });
  chmodSync(file(), 0o600);
}

describe("a session's private key", () => {
  it.each([
    ["ed25519 in OpenSSH's format", ["-t", "ed25519"]],
    ["ECDSA in OpenSSH's format", ["-t", "ecdsa"]],
    ["RSA in OpenSSH's format", ["-t", "rsa"]],
    ["ECDSA in PEM", ["-t", "ecdsa", "-m", "PEM"]],
    ["RSA in PEM", ["-t", "rsa", "-m", "PEM"]],
  ])("%s is copied to a file that only this account can read", async (_, options) => {
    const text = makeKey(...options);
    const read = await keys.read("11010000", place());
    expect(readFileSync(read.file, "utf8")).toBe(text);
    expect(statSync(read.file).mode & 0o777).toBe(0o600);
    expect(statSync(runtime.ofProcess).mode & 0o777).toBe(0o700);
    expect(warnings).toEqual([]);
  });

  it("is taken with a warning if others can read it, and its copy is closed to them", async () => {
    makeKey("-t", "ed25519");
    chmodSync(file(), 0o644);
    const read = await keys.read("11010000", place());
    await keys.read("11010000", place());
    expect(warnings).toEqual([expect.stringContaining("can be read by other accounts (mode 644)")]);
    expect(statSync(read.file).mode & 0o777).toBe(0o600);
  });

  it("is replaced when it changes, and removed when the session ends", async () => {
    makeKey("-t", "ed25519");
    const before = await keys.read("11010000", place());
    const text = makeKey("-t", "ecdsa");
    const after = await keys.read("11010000", place());
    expect([after.file, readFileSync(after.file, "utf8")]).toEqual([before.file, text]);
    keys.forget("11010000");
    expect(readdirSync(runtime.ofProcess)).toEqual([]);
  });

  it("that has vanished takes its copy along", async () => {
    makeKey("-t", "ed25519");
    await keys.read("11010000", place());
    rmSync(file());
    await expect(keys.read("11010000", place())).rejects.toMatchObject({
      code: "private-key-unreadable",
      hint: expect.stringContaining("a key that is not there") as string,
    });
    expect(readdirSync(runtime.ofProcess)).toEqual([]);
  });

  it("behind a link that leads out of the session's folder is refused", async () => {
    makeKey("-t", "ed25519");
    symlinkSync(file(), join(top, "run/other"));
    const linked = { file: join(top, "run/other"), within: join(top, "run") };
    await expect(keys.read("11010000", linked)).rejects.toThrow("it is a link");
  });

  it.each([
    ["RSA", ["-algorithm", "RSA"], /Convert it: ssh-keygen -p -N "" -f/],
    ["EC", ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], /Convert it: ssh-keygen -p -N "" -f/],
    ["ed25519", ["-algorithm", "ed25519"], /make a new one: ssh-keygen -t ed25519/],
  ])("in PKCS#8, %s: says how to mend it", async (_, options, hint) => {
    makePkcs8(...options);
    const error: unknown = await keys.read("11010000", place()).catch((one: unknown) => one);
    expect(error).toBeInstanceOf(MentoError);
    expect((error as MentoError).code).toBe("private-key-format");
    expect((error as MentoError).message).toContain("PKCS#8");
    expect((error as MentoError).hint).toMatch(hint);
  });

  it("in PKCS#8 can be used once it is converted as the hint says", async () => {
    makePkcs8("-algorithm", "RSA");
    execFileSync("ssh-keygen", ["-q", "-p", "-P", "", "-N", "", "-f", file()], { stdio: "ignore" });
    expect((await keys.read("11010000", place())).key.toString()).toContain("OPENSSH");
  });

  it.each([
    ["a named pipe", () => execFileSync("mkfifo", [file()])],
    ["more than 1048576 bytes", () => execFileSync("truncate", ["-s", "1900M", file()])],
    ["a folder", () => mkdirSync(file())],
    ["a link", () => symlinkSync("/etc/shadow", file())],
  ])("that is %s stops its own session only, and is used again when it is mended", async (what, prepare) => {
    makeKey("-t", "ed25519");
    const other = join(top, "other");
    execFileSync("cp", [file(), other]);
    rmSync(file());
    prepare();
    const looks = Promise.allSettled(Array.from({ length: 10 }, () => keys.read("bad", place())));
    const good = await keys.read("good", { file: other, within: top });
    expect(good.type).toBe("ssh-ed25519");
    for (const one of await looks) {
      expect(one).toMatchObject({ reason: { code: "private-key-unreadable" } });
      expect(String((one as PromiseRejectedResult).reason)).toContain(what);
    }
    rmSync(file(), { recursive: true });
    makeKey("-t", "ecdsa");
    expect((await keys.read("bad", place())).type).toBe("ecdsa-sha2-nistp256");
  });

  it("that is the public one is named", async () => {
    makeKey("-t", "ed25519");
    execFileSync("cp", [`${file()}.pub`, file()]);
    await expect(keys.read("1", place())).rejects.toThrow("it is a public key");
  });

  it("with a passphrase, or that is no key, is not usable", async () => {
    rmSync(file(), { force: true });
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "secret", "-f", file()]);
    await expect(keys.read("1", place())).rejects.toThrow("it has a passphrase");
    writeFileSync(file(), "no key");
    expect(await codeOf(keys.read("1", place()))).toBe("private-key-format");
  });
});

describe("the runtime directory", () => {
  it("loses what a process left that was killed", () => {
    mkdirSync(join(top, "run/mento/process-99999999"), { recursive: true, mode: 0o700 });
    expect(runtime.ofProcess).toBe(join(top, `run/mento/process-${process.pid}`));
    expect(readdirSync(join(top, "run/mento"))).toEqual([`process-${process.pid}`]);
    runtime.remove();
    expect(readdirSync(join(top, "run/mento"))).toEqual([]);
  });

  it("is not used if others can enter it", async () => {
    makeKey("-t", "ed25519");
    mkdirSync(join(top, "run/mento"));
    chmodSync(join(top, "run/mento"), 0o755);
    await expect(async () => keys.read("1", place())).rejects.toThrow("not a folder of this account alone");
  });
});
