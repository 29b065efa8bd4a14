import {
  chmodSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { RuntimeDirectory } from "../../src/shells/runtime-directory.ts";

const uid = process.getuid?.() ?? 0;
let tmp: string;

beforeEach(() => {
  tmp = mkdtempSync(join(tmpdir(), "mento-runtime-"));
  chmodSync(tmp, 0o1777);
  vi.stubEnv("TMPDIR", tmp);
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(tmp, { recursive: true });
});

function expectPrivate(path: string): void {
  const { uid: owner, mode } = lstatSync(path);
  expect([owner, mode & 0o777]).toEqual([uid, 0o700]);
}

describe("the folder for keys, without XDG_RUNTIME_DIR", () => {
  it("is one for all processes of the account", () => {
    const folder = new RuntimeDirectory({}).base;
    expect(folder).toBe(join(tmp, `mento-${uid}`));
    expectPrivate(folder);
    expect(new RuntimeDirectory({}).base).toBe(folder);
  });

  const others: [string, (path: string) => void][] = [
    [
      "open to all",
      (path) => {
        mkdirSync(path);
        chmodSync(path, 0o777);
      },
    ],
    ["a file", (path) => writeFileSync(path, "")],
    ["a link to a folder", (path) => symlinkSync(tmp, path)],
    ["a link to nowhere", (path) => symlinkSync(join(tmp, "nowhere"), path)],
    ...(uid === 0
      ? [
          [
            "another account's",
            (path: string) => {
              mkdirSync(path, 0o700);
              lchownSync(path, 65534, 65534);
            },
          ] as [string, (path: string) => void],
        ]
      : []),
  ];

  it.each(others)("is another, and still one for all, where its name is taken by what is %s", (_, take) => {
    take(join(tmp, `mento-${uid}`));
    take(join(tmp, `mento-${uid}-000000`));
    const folder = new RuntimeDirectory({}).base;
    expect(dirname(folder)).toBe(tmp);
    expect(basename(folder)).toMatch(new RegExp(`^mento-${uid}-.{6}$`));
    expectPrivate(folder);
    expectPrivate(new RuntimeDirectory({}).ofProcess);
    expect(new RuntimeDirectory({}).base).toBe(folder);
  });
});

it("a folder in XDG_RUNTIME_DIR that is open to others is refused", () => {
  mkdirSync(join(tmp, "mento"));
  chmodSync(join(tmp, "mento"), 0o755);
  expect(() => new RuntimeDirectory({ XDG_RUNTIME_DIR: tmp }).base).toThrow(
    expect.objectContaining({ code: "runtime-directory-unsafe" }),
  );
});
