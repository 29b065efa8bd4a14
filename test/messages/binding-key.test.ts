import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bindingFits } from "../../src/messages/binding-key.ts";

describe("a binding key fits as the broker's topic exchange says", () => {
  it.each([
    ["#", "p11.-.data.ready", true],
    ["p11.#", "p11.-.data.ready", true],
    ["p11.#", "p11", true],
    ["p11.*.data.ready", "p11.11010000.data.ready", true],
    ["p11.*.data.ready", "p02.11010000.data.ready", false],
    ["*.*.ready", "p11.-.data.ready", false],
    ["#.ready", "p11.-.data.ready", true],
    ["#.data.#", "p11.-.data.ready", true],
    ["*", "", false],
    ["#", "", true],
  ])("%s and %s: %s", (binding, key, fits) => {
    expect(bindingFits(binding, key)).toBe(fits);
  });

  it("as a regular expression of the same words says", () => {
    const word = fc.constantFrom("a", "b");
    const bindings = fc.array(fc.oneof(word, fc.constantFrom("*", "#")), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(bindings, fc.array(word, { minLength: 1, maxLength: 5 }), (binding, words) => {
        const pattern = binding.map((one) =>
          one === "#" ? "(\\w\\.)*" : one === "*" ? "\\w\\." : `${one}\\.`,
        );
        const expected = new RegExp(`^${pattern.join("")}$`).test(words.map((one) => `${one}.`).join(""));
        expect(bindingFits(binding.join("."), words.join("."))).toBe(expected);
      }),
    );
  });
});
