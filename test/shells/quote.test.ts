import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { quoteAll } from "../../src/shells/quote.ts";

/** What a real shell hands to a program: its arguments, each ended by NUL. */
function through(shell: string, words: string[]): string[] {
  const output = execFileSync(shell, ["-c", `printf '%s\\0' ${quoteAll(words)}`], { encoding: "utf8" });
  return output.split("\0").slice(0, -1);
}

describe.each(["sh", "bash"])("quoteAll through a real %s", (shell) => {
  it.each(["; rm -rf ~", "$(id)", "`id`", "a'b\"c", "-n", "a b", "a\nb", "", "*", "!!", "~", "A=b", "\\"])(
    "hands over %j as one literal argument",
    (word) => {
      expect(through(shell, ["x", word])).toEqual(["x", word]);
    },
  );

  it("hands over any words unchanged", () => {
    const word = fc.string({ unit: "binary" }).filter((one) => !one.includes("\0") && one.isWellFormed());
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 6 }), (words) => {
        expect(through(shell, words)).toEqual(words);
      }),
      { numRuns: 60 },
    );
  });
});
