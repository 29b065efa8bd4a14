import { describe, expect, it } from "vitest";
import { directiveLines, sbatchOptions } from "../../src/jobs/sbatch-script.ts";

const linesOf = (...lines: string[]) =>
  directiveLines(
    sbatchOptions(["#!/bin/bash", ...lines.map((one) => `#SBATCH ${one}`), "true"].join("\n")) ?? [],
  );

describe("#SBATCH lines of a user's own script", () => {
  it("are carried over", () => {
    expect(linesOf("--gres=gpu:4", "-t 10:00 --mem-per-cpu 2G", "--wait-all-nodes=1", "--hold")).toEqual([
      "#SBATCH --gres=gpu:4",
      "#SBATCH --time=10:00",
      "#SBATCH --mem-per-cpu=2G",
      "#SBATCH --wait-all-nodes=1",
      "#SBATCH --hold",
    ]);
  });

  it.each(["array=0-9", "export=NONE", "wrap=x", "error=x", "output=x", "comment=x", "wait", "input=x"])(
    "that are Mento's are not, however short: --%s",
    (option) => {
      const [name = "", value] = option.split("=");
      const unambiguous =
        { export: 3, error: 2, comment: 3, wait: 2, wrap: 2, output: 2, array: 2, input: 2 }[name] ?? 1;
      for (let length = unambiguous; length <= name.length; length++) {
        expect(linesOf(`--${name.slice(0, length)}${value === undefined ? "" : `=${value}`}`)).toEqual([]);
      }
    },
  );

  it.each([
    "uid=5",
    "gid=5",
    "get-user-env",
    "help",
    "usage",
    "version",
    "reservation=x",
    "part=y",
    "clusters=c",
  ])("that would keep Mento from its job are not: --%s", (option) =>
    expect(linesOf(`--${option}`)).toEqual([]),
  );

  it("ask for what they ask in full, if they are cut short", () => {
    expect(sbatchOptions("#!/bin/sh\n#SBATCH --tim=5 --constr=gpu\n")).toEqual([
      ["time", "5"],
      ["constraint", "gpu"],
    ]);
  });
});
