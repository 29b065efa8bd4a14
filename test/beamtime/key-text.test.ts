import { execFileSync } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { privateKeyIn } from "../../src/beamtime/key-text.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-key-text-"));
const file = join(folder, "id");
let text: string;
let publicText: string;

beforeAll(() => {
  execFileSync("ssh-keygen", ["-q", "-t", "ecdsa", "-m", "PEM", "-N", "", "-f", file]);
  text = readFileSync(file, "latin1");
  publicText = readFileSync(`${file}.pub`, "latin1");
});
afterAll(() => rmSync(folder, { recursive: true }));

/** An odd number of so many bytes. */
function long(bytes: number): Buffer {
  return Buffer.concat([Buffer.from([0x7f]), randomBytes(bytes - 2), Buffer.from([1])]);
}

type Rsa = Partial<Record<"n" | "e" | "d" | "p" | "q" | "dp" | "dq" | "qi", Buffer>>;

/** PKCS#1 (RFC 8017, A.1.2) with the numbers of a good key, but for these. */
function rsaWith(others: Rsa): string {
  const good = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });
  const numbers = (["n", "e", "d", "p", "q", "dp", "dq", "qi"] as const).map(
    (name) => others[name] ?? Buffer.concat([Buffer.of(0), Buffer.from(good[name] ?? "", "base64url")]),
  );
  const body = Buffer.concat([Buffer.of(0), ...numbers].map((number) => der(2, number)));
  return `-----BEGIN RSA PRIVATE KEY-----\n${der(0x30, body).toString("base64")}\n-----END RSA PRIVATE KEY-----\n`;
}

function der(tag: number, content: Buffer): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(content.length);
  return Buffer.concat([Buffer.of(tag, 0x84), size, content]);
}

const read = (content: string) => privateKeyIn(Buffer.from(content, "latin1"), "/k/id");

describe("the text of a private key's file", () => {
  it.each([
    ["as it is", (key: string) => key],
    ["with DOS line ends", (key: string) => key.replaceAll("\n", "\r\n")],
    ["with a byte order mark", (key: string) => `\xef\xbb\xbf${key}`],
    ["without a last line end", (key: string) => key.trimEnd()],
    [
      "with bag attributes",
      (key: string) => `Bag Attributes\n    friendlyName: x\nKey Attributes: <No Attributes>\n${key}`,
    ],
    ["with garbage behind it", (key: string) => `${key}\0\0garbage: \xff`],
    ["and another key", (key: string) => `${key}${key.replace("M", "N")}`],
    ["with spaces behind its lines", (key: string) => key.replaceAll("\n", "  \n")],
  ])("%s gives the key alone", (_, change) => {
    expect(read(change(text))).toEqual({ key: Buffer.from(text), type: "ecdsa-sha2-nistp256" });
  });

  it.each(["1024", "2050", "3072"])("an RSA key of %s bits is good in both formats", (bits) => {
    for (const format of ["PEM", "RFC4716"]) {
      const rsa = join(folder, `rsa-${bits}-${format}`);
      execFileSync("ssh-keygen", ["-q", "-t", "rsa", "-b", bits, "-m", format, "-N", "", "-f", rsa]);
      expect(read(readFileSync(rsa, "latin1"))).toMatchObject({ type: "ssh-rsa" });
    }
  });

  it.each([
    ["a public key", () => publicText, /public key/],
    [
      "PuTTY's format",
      () => "PuTTY-User-Key-File-3: ssh-ed25519\n",
      /PuTTY's format.*puttygen \/k\/id -O private-openssh/,
    ],
    ["nothing", () => " \n", /it is empty/],
    ["UTF-16", () => text.replace(/./g, "$&\0"), /not plain text.*iconv/],
    ["half of it", () => text.slice(0, text.length / 2), /its end is missing/],
    ["what is no base64", () => text.replace(/\n.{5}/, "\n<a:b>"), /(no key|Malformed|format)/],
    [
      "a certificate",
      () => "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
      /a certificate/,
    ],
    ["other text", () => "hello", /no private key/],
    ["an RSA key with a prime of 32 kbit", () => rsaWith({ p: long(4096), dp: long(4096) }), /of lengths/],
    ["an RSA key with an exponent of 128 kbit", () => rsaWith({ dp: long(16_000) }), /of lengths/],
    ["an RSA key with a public exponent as long", () => rsaWith({ e: long(16_000) }), /of lengths/],
    [
      "an RSA key of 32 kbit",
      () => rsaWith({ n: long(4096), d: long(4096), p: long(2048), q: long(2048) }),
      /of lengths/,
    ],
    [
      "an RSA key of 16 kbit, which takes seconds to sign",
      () => rsaWith({ n: long(2048), d: long(2048), p: long(1024), q: long(1024) }),
      /of lengths/,
    ],
    [
      "an RSA key of a long prime and a short one",
      () =>
        rsaWith({
          n: long(1024),
          d: long(1024),
          ...{ p: long(900), q: long(124), dp: long(900), dq: long(124) },
        }),
      /of lengths/,
    ],
    ["a million headers", () => text.replace("\n", `\n${"a: b\n".repeat(10_000)}`), /is no key/],
  ])("%s is named, with what to do", (_, content, words) => {
    const found = read(content());
    expect("problem" in found && `${found.problem} ${found.hint}`).toMatch(words);
  });

  it.each([
    ["BEGIN marks", "-----BEGIN PRIVATE KEY-----"],
    ["words of a BEGIN mark", "-----BEGIN RSA "],
    ["BEGIN lines that end in blanks", `-----BEGIN PRIVATE KEY-----${" ".repeat(1000)}x\n`],
    ["blanks", "\t\r "],
    ["line ends", "\n"],
    ["lines of base64 that end in blanks", `AAAA${" ".repeat(1000)}:`],
    ["dashes", "-----"],
  ])("full of %s is refused soon", (_, part) => {
    const body = part.repeat(Math.ceil(1_000_000 / part.length));
    for (const content of [body, `-----BEGIN PRIVATE KEY-----\n${body}\n-----END PRIVATE KEY-----\n`]) {
      const begun = performance.now();
      expect(read(content)).toHaveProperty("problem");
      expect(performance.now() - begun).toBeLessThan(5000);
    }
  });

  it("of any other kind is refused in words", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => {
        expect(privateKeyIn(Buffer.from(bytes), "/k/id")).toHaveProperty("problem");
      }),
    );
  });
});
