import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { quote, quoteAll, quotedBytes } from "../../src/shells/quote.ts";

/** What a real shell hands to a program for each list of words: how many arguments, and these, each ended by NUL. */
function through(shell: string, lists: string[][]): string[] {
  const calls = lists.map((words) => `told ${quoteAll(words)}`);
  const script = `told() { printf '%s\\0' "$#" "$@"; }\n${calls.join("\n")}`;
  return execFileSync(shell, ["-c", script], { encoding: "utf8" }).split("\0").slice(0, -1);
}

describe.each(["sh", "bash"])("quoteAll through a real %s", (shell) => {
  it.each(["; rm -rf ~", "$(id)", "`id`", "a'b\"c", "-n", "a b", "a\nb", "", "*", "!!", "~", "A=b", "\\"])(
    "hands over %j as one literal argument",
    (word) => {
      expect(through(shell, [["x", word]])).toEqual(["2", "x", word]);
    },
  );

  it("hands over any words unchanged", () => {
    const word = fc.string({ unit: "binary" }).filter((one) => !one.includes("\0") && one.isWellFormed());
    const words = fc.array(word, { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(fc.array(words, { minLength: 10, maxLength: 10 }), (lists) => {
        expect(through(shell, lists)).toEqual(lists.flatMap((one) => [String(one.length), ...one]));
      }),
      { numRuns: 6 },
    );
  });
});

it("tells the bytes of a quoted word without making it", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom("'", "\\", "ü", "a", "\n") }), (word) => {
      expect(quotedBytes(word)).toBe(Buffer.byteLength(quote(word)));
    }),
  );
});
