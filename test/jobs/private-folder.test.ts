import {
  chmodSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { MentoError } from "../../src/errors.ts";
import { requirePrivateFolder } from "../../src/jobs/private-folder.ts";

const top = mkdtempSync(join(tmpdir(), "mento-own-folder-"));
afterAll(() => rmSync(top, { recursive: true }));
let count = 0;

function folder(mode: number): string {
  const path = join(top, String(++count));
  mkdirSync(path);
  chmodSync(path, mode);
  return path;
}
function check(path: string): string {
  try {
    requirePrivateFolder(path);
    return "safe";
  } catch (error) {
    return error instanceof MentoError ? error.code : String(error);
  }
}

describe("a folder that is written as the worker's account", () => {
  it("is made, with those above it, where only the account can write", () => {
    const path = join(folder(0o755), "state", "mento", "jobs");
    expect(check(path)).toBe("safe");
    expect(existsSync(path)).toBe(true);
    expect(check(path)).toBe("safe");
  });

  it("may be in a folder of everybody's where others cannot rename it, as in /tmp, but not be one", () => {
    const everybodys = folder(0o1777);
    expect(check(join(everybodys, "jobs"))).toBe("safe");
    expect(check(everybodys)).toBe("jobs-folder-unsafe");
  });

  it.each([0o777, 0o775, 0o772])("is refused, and not made, below a folder of mode %o", (mode) => {
    const above = folder(mode);
    expect(check(join(above, "a", "jobs"))).toBe("jobs-folder-unsafe");
    expect(check(above)).toBe("jobs-folder-unsafe");
    expect(existsSync(join(above, "a"))).toBe(false);
  });

  it("is looked at where a link leads", () => {
    const [above, safe, open] = [folder(0o755), folder(0o755), folder(0o777)];
    symlinkSync(safe, join(above, "safe"));
    symlinkSync(open, join(above, "open"));
    symlinkSync("loop", join(above, "loop"));
    writeFileSync(join(above, "file"), "");
    expect(check(join(above, "safe", "jobs"))).toBe("safe");
    for (const name of ["open", "loop", "file"]) {
      expect(check(join(above, name, "jobs"))).toBe("jobs-folder-unsafe");
    }
  });

  it("says which folder it is, whose, and what to do", () => {
    const above = folder(0o777);
    expect(() => requirePrivateFolder(join(above, "jobs"))).toThrow(
      `${above} belongs to uid ${process.getuid?.() ?? ""} and has mode 777`,
    );
  });

  it.runIf(process.getuid?.() === 0)("is not another account's, nor reached by its link", () => {
    const [others, above] = [folder(0o755), folder(0o755)];
    lchownSync(others, 12345, 12345);
    symlinkSync(folder(0o755), join(above, "link"));
    lchownSync(join(above, "link"), 12345, 12345);
    expect(check(join(others, "jobs"))).toBe("jobs-folder-unsafe");
    expect(check(others)).toBe("jobs-folder-unsafe");
    expect(check(join(above, "link", "jobs"))).toBe("jobs-folder-unsafe");
  });
});
