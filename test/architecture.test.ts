import { readFileSync, readdirSync } from "node:fs";
import { join, normalize } from "node:path";
import { describe, expect, it } from "vitest";

const source = new URL("../src/", import.meta.url).pathname;
const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((file) =>
  file.endsWith(".ts"),
);

/** What a file of `src/` imports of its own project, types included or not. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(source, file), "utf8");
  return [...text.matchAll(/^(import|export)\s+(type\s)?[^;]*?from "(\.[^"]+)";/gms)].map(
    ([, , , path = ""]) => normalize(join(file, "..", path)),
  );
}

/**
 * The rooms of the house, the lowest first. A file imports its own room, and rooms of lower rows; of those that stand in one
 * row none imports another.
 */
const ROWS: readonly (readonly string[])[] = [
  ["text", "files", "time"],
  ["errors.ts", "log.ts"],
  ["messages", "shells"],
  ["slurm", "broker"],
  ["jobs", "beamtime"],
  ["triggers"],
  ["submission"],
  ["tracking"],
  ["intake", "cancel"],
  ["config"],
  ["worker", "library", "doctor", "trace", "facility"],
  ["commands"],
  ["main.ts", "index.ts"],
];
const roomOf = (file: string) => (file.includes("/") ? (file.split("/")[0] ?? "") : file);
const rowOf = (file: string) => ROWS.findIndex((rooms) => rooms.includes(roomOf(file)));

describe("the direction of imports", () => {
  it("each file has a room, and four stand loose", () => {
    expect(files.filter((file) => rowOf(file) < 0)).toEqual([]);
    expect(files.filter((file) => !file.includes("/")).sort()).toEqual([
      "errors.ts",
      "index.ts",
      "log.ts",
      "main.ts",
    ]);
  });

  it("a room imports only rooms of lower rows, types included", () => {
    for (const file of files) {
      const upwards = importsOf(file).filter(
        (one) => roomOf(one) !== roomOf(file) && rowOf(one) >= rowOf(file),
      );
      expect(upwards, file).toEqual([]);
    }
  });

  it("only config and what stands above it knows the whole configuration", () => {
    for (const file of files.filter((one) => rowOf(one) < rowOf("config/config.ts"))) {
      expect(readFileSync(join(source, file), "utf8"), file).not.toMatch(/\bMentoConfig\b/);
    }
  });

  it("the house has 12 floors at most", () => {
    const heights = new Map<string, number>();
    const heightOf = (room: string): number => {
      const known = heights.get(room);
      if (known !== undefined) return known;
      const below = files
        .filter((file) => roomOf(file) === room)
        .flatMap((file) => importsOf(file).map(roomOf))
        .filter((other) => other !== room);
      const height = 1 + Math.max(0, ...[...new Set(below)].map(heightOf));
      heights.set(room, height);
      return height;
    };
    expect(Math.max(...files.map((file) => heightOf(roomOf(file))))).toBeLessThanOrEqual(12);
  });

  it("only messages/json.ts parses JSON that others wrote, and config/config-yaml.ts YAML: no deeper than can be followed", () => {
    const own = ["facility/state.ts", "facility/lock.ts", "facility/mirror-journal.ts"];
    const written = ["config/version.ts", "log.ts", "commands/open-sessions.ts"];
    const parsing = files.filter((file) =>
      /JSON\.parse\(|parseDocument\(|from "lossless-json"/.test(readFileSync(join(source, file), "utf8")),
    );
    expect(parsing.sort()).toEqual(["messages/json.ts", "config/config-yaml.ts", ...own, ...written].sort());
  });

  it("only terminal.ts writes to standard output and standard error, and so all of it is made plain", () => {
    for (const file of files.filter(
      (one) => one !== "text/terminal.ts" && one !== "commands/command-line.ts",
    )) {
      const text = readFileSync(join(source, file), "utf8");
      expect(text, file).not.toMatch(/\bconsole\.|\bstd(out|err)\.write\b|process\.std(out|err)\b/);
    }
    const commandLine = readFileSync(join(source, "commands/command-line.ts"), "utf8");
    expect(commandLine).not.toMatch(/\bconsole\.|\bstd(out|err)\.write\b/);
  });

  it("files that others may have put there are read by plain-file.ts only", () => {
    const OTHERS = [
      ...["files/plain-file.ts", "config/version.ts", "doctor/path-checks.ts"],
      // The system's, and those that only the facility writes to, which may be of any size.
      ...["accounts", "mirror-journal", "owned-processes", "processes", "server"].map(
        (one) => `facility/${one}.ts`,
      ),
    ];
    for (const file of files.filter((one) => !OTHERS.includes(one))) {
      expect(readFileSync(join(source, file), "utf8"), file).not.toMatch(/\b(readFile|createReadStream)/);
    }
  });

  it("no files import one another in a circle, types included", () => {
    const visited = new Set<string>();
    const visit = (file: string, way: string[]): void => {
      const circle = way.includes(file) ? [...way.slice(way.indexOf(file)), file] : [];
      expect(circle.join(" -> ")).toBe("");
      if (visited.has(file)) return;
      visited.add(file);
      for (const imported of importsOf(file)) visit(imported, [...way, file]);
    };
    for (const file of files) visit(file, []);
  });

  it("no file passes 400 lines", () => {
    for (const file of files) {
      expect(readFileSync(join(source, file), "utf8").split("\n").length, file).toBeLessThanOrEqual(400);
    }
  });
});
