import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { claimsOf, findToken, tokenFromCommand, tokenFromFile } from "../../../src/slurm/rest/token.ts";
import { tokenOf, USER } from "./recorded.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-token-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const start = Date.parse("2026-11-22T12:00:00Z");
let time = start;
const now = () => new Date(time);
beforeEach(() => {
  time = start;
});
const goodFor = (seconds: number) => tokenOf({ exp: time / 1000 + seconds, sun: USER });
const refusedAs = (text: RegExp) =>
  expect.objectContaining({
    code: "slurm-rest-token",
    message: expect.stringMatching(text) as string,
  }) as Error;

describe("findToken", () => {
  it("takes what scontrol prints, what a shell sources, or the token alone", () => {
    const token = tokenOf({ exp: 1 });
    expect(findToken(`SLURM_JWT=${token}\n`)).toBe(token);
    expect(findToken(`export SLURM_JWT="${token}"\n`)).toBe(token);
    expect(findToken(`welcome\r\nSLURM_JWT=${token}\r\n`)).toBe(token);
    expect(findToken(`${token}\n`)).toBe(token);
  });

  it("takes nothing else", () => {
    for (const text of ["", "\n", "no token here", "SLURM_JWT=", "SLURM_JWT=a b", "TOKEN=a"]) {
      expect(findToken(text), text).toBeUndefined();
    }
  });

  it("gives only what a header can hold", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const token = findToken(text) ?? "x";
        expect(new Headers({ token }).get("token")).toBe(token);
        claimsOf(text);
      }),
    );
  });
});

describe("a token file", () => {
  const file = join(folder, "token");

  it("is read each time: a new token is sent at once", async () => {
    const token = tokenFromFile(file, now);
    const [first, second] = [goodFor(100), goodFor(200)];
    writeFileSync(file, `SLURM_JWT=${first}\n`);
    expect(await token()).toBe(first);
    writeFileSync(file, second);
    expect(await token()).toBe(second);
  });

  it("holds an expired token: says since when, and how to renew it", async () => {
    writeFileSync(file, goodFor(30));
    time += 31_000;
    const error: unknown = await tokenFromFile(file, now)().catch((one: unknown) => one);
    expect(error).toMatchObject({
      code: "slurm-rest-token",
      message: expect.stringMatching(/has expired, at 2026-11-22T12:00:30/) as string,
      hint: expect.stringContaining("scontrol token") as string,
    });
  });

  it("is not there, or holds no token", async () => {
    await expect(tokenFromFile(join(folder, "none"), now)()).rejects.toThrow(refusedAs(/cannot be read/));
    writeFileSync(file, "Error: no such user\n");
    await expect(tokenFromFile(file, now)()).rejects.toThrow(refusedAs(/holds no token/));
  });

  it("may hold a token that does not say when it ends", async () => {
    writeFileSync(file, "opaque");
    expect(await tokenFromFile(file, now)()).toBe("opaque");
  });
});

describe("a token command", () => {
  const program = join(folder, "token-command");
  const calls = join(folder, "calls");
  const prints = (script: string) => {
    writeFileSync(calls, "");
    writeFileSync(program, `#!/bin/sh\necho run "$@" >> ${calls}\n${script}\n`);
    chmodSync(program, 0o755);
  };
  const called = () =>
    readFileSync(calls, "utf8")
      .split("\n")
      .filter((line) => line !== "");

  it("is run once for many, with its arguments and without a shell", async () => {
    const one = goodFor(3600);
    prints(`sleep 0.1; echo SLURM_JWT=${one}`);
    const token = tokenFromCommand([program, "lifespan=3600", "$(reboot)"], 5000, now);
    expect(await Promise.all([token(), token(), token()])).toEqual([one, one, one]);
    expect(await token()).toBe(one);
    expect(called()).toEqual(["run lifespan=3600 $(reboot)"]);
  });

  it("is run again a minute before the token ends", async () => {
    prints(`echo ${goodFor(3600)}`);
    const token = tokenFromCommand([program], 5000, now);
    await token();
    const next = goodFor(7200);
    prints(`echo ${next}`);
    time += 3500 * 1000;
    await token();
    expect(called()).toEqual([]);
    time += 45 * 1000;
    expect(await token()).toBe(next);
  });

  it("is run again for a token that is refused, but not all the time", async () => {
    const [first, second] = [goodFor(3600), goodFor(3601)];
    prints(`echo ${first}`);
    const token = tokenFromCommand([program], 5000, now);
    expect(await token()).toBe(first);
    prints(`echo ${second}`);
    expect(await token(first)).toBe(first);
    time += 61_000;
    expect(await token(first)).toBe(second);
    expect(await token(first)).toBe(second);
    expect(called()).toHaveLength(1);
  });

  it("fails while the last token is still good: that is given", async () => {
    const first = goodFor(90);
    prints(`echo ${first}`);
    const token = tokenFromCommand([program], 5000, now);
    await token();
    prints("exit 1");
    time += 60_000;
    expect(await token()).toBe(first);
    time += 60_000;
    await expect(token()).rejects.toThrow(refusedAs(/failed: exit code 1/));
  });

  it("fails, hangs, prints nothing or an old token: says so, without a token in it", async () => {
    const secret = goodFor(-10);
    const cases: [string, RegExp][] = [
      ["echo 'no such user' >&2; exit 3", /failed: no such user/],
      [`echo SLURM_JWT=${secret}; echo SLURM_JWT=${secret} >&2; exit 3`, /failed: exit code 3/],
      ["exec sleep 30", /did not end within 500 ms/],
      ["echo hello world", /printed no token/],
      [`echo ${secret}`, /has expired/],
    ];
    for (const [script, message] of cases) {
      prints(script);
      const error: unknown = await tokenFromCommand([program], 500, now)().catch((one: unknown) => one);
      expect(error).toMatchObject({
        code: "slurm-rest-token",
        message: expect.stringMatching(message) as string,
      });
      expect(JSON.stringify(error) + String(error)).not.toContain(secret);
    }
    await expect(tokenFromCommand(["/nowhere/token"], 500, now)()).rejects.toThrow(refusedAs(/ENOENT/));
  });
});
