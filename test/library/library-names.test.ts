import { readFileSync } from "node:fs";
import type { Command } from "commander";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import { beamtimeCommand } from "../../src/commands/beamtime.ts";
import { runCommand } from "../../src/commands/run.ts";
import { sshCommand } from "../../src/commands/ssh.ts";

const fileOf = (file: string) => new URL(`../../${file}`, import.meta.url).pathname;
const read = (file: string) => readFileSync(fileOf(file), "utf8");

const entry = fileOf("src/index.ts");
const { config } = ts.readConfigFile(fileOf("tsconfig.json"), (file) => readFileSync(file, "utf8")) as {
  config: object;
};
const { options } = ts.parseJsonConfigFileContent(
  { ...config, include: [], files: [entry] },
  ts.sys,
  fileOf(""),
);
const program = ts.createProgram([entry], options);
const checker = program.getTypeChecker();
const library = program.getSourceFile(entry);
const exported = new Map(
  (library === undefined
    ? []
    : checker.getExportsOfModule(checker.getSymbolAtLocation(library) as ts.Symbol)
  ).map((symbol) => [
    symbol.name,
    symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol,
  ]),
);

/** The members of an exported name: of the type, and of the value. */
function membersOf(symbol: ts.Symbol): ts.Symbol[] {
  const types = [checker.getDeclaredTypeOfSymbol(symbol), checker.getTypeOfSymbol(symbol)];
  return types.flatMap((type) => checker.getNonNullableType(type).getProperties());
}

/** Whether `Session.roots.core` is there for who imports the library. */
function isExported(name: string): boolean {
  const [first = "", ...steps] = name.split(".");
  let found = exported.get(first);
  for (const step of steps) found = found && membersOf(found).find((member) => member.name === step);
  return found !== undefined;
}

const COMMANDS = [beamtimeCommand(), runCommand(), sshCommand()];

/** Whether `mento run --show` is there. */
function isCommand([, ...words]: string[]): boolean {
  let command: Command | undefined;
  for (const word of words) {
    if (word.startsWith("--")) return command?.options.some(({ long }) => long === word) ?? false;
    command = (command?.commands ?? COMMANDS).find((one) => one.name() === word);
  }
  return command !== undefined;
}

/** The rows of each table, as lists of cells. */
const rowsOf = (text: string) =>
  [...text.matchAll(/^\| (.*) \|$/gm)].map(([, row = ""]) => row.split(" | ").map((cell) => cell.trim()));
const spansOf = (cell: string) => [...cell.matchAll(/`([^`]+)`/g)].map(([, span = ""]) => span);

describe("docs/coming-from-mento.md", () => {
  const rows = rowsOf(read("docs/coming-from-mento.md")).slice(2);

  it("has every name of MENTO", () => {
    const left = rows.map(([one = ""]) => one).join("\n");
    for (const name of MENTOS_NAMES) expect(left).toMatch(new RegExp(`\`${name.replace(".", "\\.")}\\b`));
  });

  it("maps them to what is there, or says that there is none", () => {
    const names = rows.flatMap(([, ours = ""]) => (ours === "none" ? [] : spansOf(ours)));
    expect(names.length).toBeGreaterThan(30);
    const missing = names.filter((name) => {
      return name.startsWith("mento ") ? !isCommand(name.split(" ")) : !isExported(name);
    });
    expect(missing).toEqual([]);
    for (const [mentos = "", ours = ""] of rows) expect(ours, mentos).toMatch(/^none$|^`/);
  });

  it("would find a name that is not there", () => {
    expect(
      ["findSessions", "Session.rots", "RunOptions.jobname", "TriggerMethod.SLURM"].filter(isExported),
    ).toEqual([]);
    expect(isCommand(["mento", "run", "--shw"]) || isCommand(["mento", "sh"])).toBe(false);
  });
});

describe("docs/library.md", () => {
  const text = read("docs/library.md");
  const sectionOf = (title: string) => text.split(/^## /m).find((one) => one.startsWith(title)) ?? "";
  const namesIn = (title: string) =>
    rowsOf(sectionOf(title)).flatMap(([first = ""]) =>
      spansOf(first).map((one) => one.replace(/\(.*\)/, "")),
    );
  const membersNamed = (name: string) => {
    const symbol = exported.get(name);
    return symbol === undefined ? [] : checker.getDeclaredTypeOfSymbol(symbol).getProperties();
  };
  const publicNames = (name: string) =>
    membersNamed(name)
      .map((member) => member.name)
      .filter((one) => !one.startsWith("__#"));

  it("lists every method and option, and no other", () => {
    const methods = [...namesIn("new Trigger")].filter((one) => /^[A-Z_]+$/.test(one));
    expect(methods.filter((one) => !isExported(`TriggerMethod.${one}`))).toEqual([]);
    expect(methods).toHaveLength(5);
    const triggerOptions = namesIn("new Trigger").filter((one) => !/^[A-Z_]+$/.test(one));
    expect(triggerOptions.sort()).toEqual(publicNames("TriggerOptions").sort());
    expect(namesIn("run(").sort()).toEqual(publicNames("RunOptions").sort());
  });

  it("lists no member of a job that is not there", () => {
    expect(namesIn("Job").filter((one) => !isExported(`Job.${one}`))).toEqual([]);
    expect(namesIn("Job").length).toBeGreaterThan(8);
  });
});

/** What the documentation of desy-mento 0.2 lists for its users. */
const MENTOS_NAMES = [
  ...["SLURM_REST_API", "REMOTE_COMMAND", "REMOTE_SBATCH_SCRIPT", "LOCAL_BASH_SCRIPT"].map(
    (method) => `TriggerMethod.${method}`,
  ),
  ...["Trigger", "beamline_root_dir", "Trigger.bt_info", "Trigger.run"],
  ...["destination", "job_name", "job_time", "job_dependency", "log_file"],
  ...["get_ssh_command", "get_sbatch_command"],
  ...["BeamtimeMetadata", "OnlineInfo", "SSHInfo", "SlurmInfo", "AsapoInfo"],
  ...["get_active_session_root", "locate_metadata_file", "parse_metadata_file", "get_beamtime_metadata"],
  ...["get_path_core", "get_path_mountpoint", "prepare_results_filename", "make_writable_dir"],
  ...["run_subprocess", "run_slurm"],
];
