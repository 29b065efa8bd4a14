import { execFileSync } from "node:child_process";
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
