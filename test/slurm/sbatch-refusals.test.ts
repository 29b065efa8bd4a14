import { describe, expect, it } from "vitest";
import { failureOf, meaningOfText } from "../../src/slurm/sbatch-refusals.ts";
import { SBATCH_FAILED } from "../../src/slurm/sbatch-call.ts";

describe("what a program that stands before sbatch prints", () => {
  const REPORT = "sbatch: error: Batch job submission failed: ";

  it.each([
    ["a report that does not end", REPORT + " ".repeat(1_000_000)],
    ["a report in which blanks and words alternate", REPORT + "x ".repeat(500_000)],
    ["reports", `${REPORT}\n`.repeat(20_000)],
    ["half reports", `${REPORT.trimEnd()}${" ".repeat(2000)}\n`.repeat(500)],
    ["options that are refused nearly", `sbatch: error: --x=${"y".repeat(2000)} `.repeat(500)],
    ["programs named sbatch", `${"/sbatch: ".repeat(200)}\n`.repeat(500)],
    ["blanks", " ".repeat(1_000_000)],
    ["line ends", "\n".repeat(1_000_000)],
  ])("is read soon: %s", (_, stderr) => {
    const begun = performance.now();
    const { meaning, said } = failureOf(SBATCH_FAILED, stderr);
    expect(meaning).toBeUndefined();
    expect(said.length).toBeLessThanOrEqual(2048);
    meaningOfText(stderr);
    expect(performance.now() - begun).toBeLessThan(5000);
  });

  it("does not hide what Slurm says last", () => {
    const stderr = `${"x ".repeat(1_000_000)}\n${REPORT}Invalid partition name specified\n`;
    expect(failureOf(SBATCH_FAILED, stderr).meaning).toBe("never");
  });
});
