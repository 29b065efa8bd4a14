import type { Command } from "commander";
import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { wholeProgram } from "../../src/commands/command-line.ts";
import { scriptFor } from "../../src/commands/completion.ts";
import { EXAMPLES } from "../../src/commands/examples.ts";

const program = await wholeProgram();
const script = scriptFor("bash", program).join("\n");

/** What bash offers for the last of these words, in the order of the alphabet. */
function offered(...words: string[]): string[] {
  const line = `COMP_WORDS=(mento ${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length}; _mento; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const said = execFileSync("bash", ["--norc", "-c", `${script}\n${line}`], { encoding: "utf8" });
  return said.split("\n").filter(Boolean).sort();
}

describe("what bash completes", () => {
  it.each([
    [["st"], ["status"]],
    [["wh"], ["why"]],
    [["dead", "re"], ["replay"]],
    [
      ["-c", "x", "facility", "start-"],
      ["start-beamtime", "start-commissioning"],
    ],
    [
      ["jobs", "--s"],
      ["--session", "--since", "--state"],
    ],
    [["watch", "--no"], ["--no-follow"]],
    [
      ["run", "--method", "local-"],
      ["local-bash-script", "local-sbatch-script"],
    ],
    [
      ["validate", "--as", ""],
      ["cancel", "config", "message"],
    ],
    [
      ["completion", ""],
      ["bash", "fish", "zsh"],
    ],
    // Names of files, which bash completes where nothing is offered.
    [["validate", "mento"], []],
    [["trace", "--since", "2"], []],
  ])("%j", (words, expected) => {
    expect(offered(...words)).toEqual(expected);
  });

  it("is all commands, and a script of bash's", () => {
    const names = program.commands.flatMap((command) => [command.name(), ...command.aliases()]);
    expect(offered("")).toEqual(names.sort());
    execFileSync("bash", ["-n"], { input: script });
  });
});

it("fish is told of each command and option, each text in its quotes", () => {
  const lines = scriptFor("fish", program);
  expect(lines).toContain(
    "complete -c mento -n '__fish_seen_subcommand_from watch' -l no-follow -d 'end with the last event so far'",
  );
  for (const line of lines)
    expect(line).toMatch(/^complete -c mento -n '[^']*'( -[flasrd]( ([\w-]+|'([^'\\]|\\['\\])*'))?)+$/);
});

const paths: { path: string; command: Command }[] = [];
const walk = (command: Command, path: string) => {
  paths.push({ path, command });
  for (const child of command.commands) walk(child, path === "" ? child.name() : `${path} ${child.name()}`);
};
walk(program, "");

describe("the help of a command", () => {
  it.each(paths.filter(({ path }) => path !== ""))(
    "$path has an example, whose options it has",
    ({ path, command }) => {
      let text = "";
      command.configureOutput({ writeOut: (more) => (text += more) }).outputHelp();
      const examples = EXAMPLES[path] ?? [];
      expect(examples.length).toBeGreaterThan(0);
      for (const [what, line] of examples) {
        expect(text).toContain(`  ${what}:\n    $ ${line}\n`);
        const [, said = line] = /<\((mento .*)\)/.exec(line) ?? [];
        const words = said.split(" ");
        const name = paths
          .filter((one) => `${said} `.startsWith(`mento ${one.path} `))
          .sort((one, other) => other.path.length - one.path.length)[0];
        const known =
          name?.command
            .createHelp()
            .visibleOptions(name.command)
            .map(({ long }) => long) ?? [];
        const end = words.includes("--") ? words.indexOf("--") : words.length;
        for (const word of words.slice(0, end).filter((one) => one.startsWith("--")))
          expect(known).toContain(word);
      }
    },
  );

  it("is of no command that is not there", () => {
    expect(Object.keys(EXAMPLES).filter((path) => !paths.some((one) => one.path === path))).toEqual([]);
  });
});
