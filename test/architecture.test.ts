import { readFileSync, readdirSync } from "node:fs";
import { join, normalize } from "node:path";
import { describe, expect, it } from "vitest";

const source = new URL("../src/", import.meta.url).pathname;
const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((file) =>
  file.endsWith(".ts"),
);

/** What a file of `src/` imports of its own project, types included or not. */
function importsOf(file: string, kind: "all" | "values"): string[] {
  const text = readFileSync(join(source, file), "utf8");
  return [...text.matchAll(/^(import|export)\s+(type\s)?[^;]*?from "(\.[^"]+)";/gms)]
    .filter(([, , isType]) => kind === "all" || isType === undefined)
    .map(([, , , path = ""]) => normalize(join(file, "..", path)));
}

const folderOf = (file: string) => (file.includes("/") ? (file.split("/")[0] ?? "") : file);

/** Pure: what messages, triggers, paths and jobs mean. */
const CORE = [
  "errors.ts",
  "messages/",
  "triggers/",
  "jobs/",
  "beamtime/paths.ts",
  "beamtime/constraint.ts",
  "beamtime/reservation.ts",
  "beamtime/metadata.ts",
  "beamtime/online-analysis.ts",
  "shells/quote.ts",
  "shells/environment.ts",
];
const isCore = (file: string) =>
  CORE.some((one) => file === one || (one.endsWith("/") && file.startsWith(one)));
/** Edges: each owns one outside thing. Only the lines, the worker and the commands put them together. */
const EDGES = ["broker", "beamtime", "shells", "methods", "slurm-rest", "facility"];

describe("the direction of imports", () => {
  it("the core imports the core, and types", () => {
    for (const file of files.filter(isCore)) {
      const outside = importsOf(file, "values").filter((one) => !isCore(one));
      expect(outside, file).toEqual([]);
    }
  });

  it("no edge imports another edge but its types, and none the worker or a command", () => {
    for (const file of files.filter((one) => !isCore(one) && EDGES.includes(folderOf(one)))) {
      const others = importsOf(file, "values").filter((one) => {
        const folder = folderOf(one);
        if (isCore(one) || folder === folderOf(file)) return false;
        return EDGES.includes(folder) || ["worker.ts", "main.ts", "index.ts", "commands"].includes(folder);
      });
      expect(others, file).toEqual([]);
    }
  });

  it("only messages/json.ts parses JSON that others wrote, and config-yaml.ts YAML: no deeper than can be followed", () => {
    const own = ["facility/state.ts", "facility/lock.ts", "facility/mirror-journal.ts"];
    const written = ["command-line.ts", "log.ts", "commands/open-sessions.ts"];
    const parsing = files.filter((file) =>
      /JSON\.parse\(|parseDocument\(|from "lossless-json"/.test(readFileSync(join(source, file), "utf8")),
    );
    expect(parsing.sort()).toEqual(["messages/json.ts", "config-yaml.ts", ...own, ...written].sort());
  });

  it("only terminal.ts writes to standard output and standard error, and so all of it is made plain", () => {
    for (const file of files.filter((one) => one !== "terminal.ts" && one !== "command-line.ts")) {
      const text = readFileSync(join(source, file), "utf8");
      expect(text, file).not.toMatch(/\bconsole\.|\bstd(out|err)\.write\b|process\.std(out|err)\b/);
    }
    const commandLine = readFileSync(join(source, "command-line.ts"), "utf8");
    expect(commandLine).not.toMatch(/\bconsole\.|\bstd(out|err)\.write\b/);
  });

  it("files that others may have put there are read by plain-file.ts only", () => {
    const OTHERS = [
      ...["plain-file.ts", "command-line.ts", "doctor/path-checks.ts"],
      // The system's, and those that only the facility writes to, which may be of any size.
      ...["accounts", "mirror-journal", "owned-processes", "processes", "server"].map(
        (one) => `facility/${one}.ts`,
      ),
    ];
    for (const file of files.filter((one) => !OTHERS.includes(one))) {
      expect(readFileSync(join(source, file), "utf8"), file).not.toMatch(/\b(readFile|createReadStream)/);
    }
  });

  it("no files import one another in a circle, types aside", () => {
    const visited = new Set<string>();
    const visit = (file: string, way: string[]): void => {
      const circle = way.includes(file) ? [...way.slice(way.indexOf(file)), file] : [];
      expect(circle.join(" -> ")).toBe("");
      if (visited.has(file)) return;
      visited.add(file);
      for (const imported of importsOf(file, "values")) visit(imported, [...way, file]);
    };
    for (const file of files) visit(file, []);
  });

  it("no file passes 400 lines", () => {
    for (const file of files) {
      expect(readFileSync(join(source, file), "utf8").split("\n").length, file).toBeLessThanOrEqual(400);
    }
  });
});
