import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Rejected } from "../../src/errors.ts";
import { fillArguments, templateMistake, type TemplateValues } from "../../src/triggers/template.ts";

const values: TemplateValues = {
  path: "/core/raw/a.h5",
  paths: ["/core/raw/a.h5", "/core/raw/b.h5"],
  results: "/core/processed/a",
  corePath: "/core",
  beamline: "p11",
  beamtimeId: "11010000",
  detector: undefined,
  technique: "saxs",
  scan: 7,
  sample: undefined,
  jobId: "k3f7",
  parameters: { poni: "/g.poni", nested: { points: 800 }, list: [1, 2] },
};

describe("fillArguments", () => {
  it("fills names inside an argument and spreads a list in a place of its own", () => {
    const run = ["p", "{{ path }}", "--scan={{scan}}", "{{ paths }}", "{{ parameters.nested.points }}"];
    expect(fillArguments(run, values)).toEqual([
      "p",
      "/core/raw/a.h5",
      "--scan=7",
      "/core/raw/a.h5",
      "/core/raw/b.h5",
      "800",
    ]);
  });

  it("names the template and the value that is missing", () => {
    const fill = () => fillArguments(["--mask", "{{ parameters.mask }}"], values);
    expect(fill).toThrow(Rejected);
    expect(fill).toThrow('"{{ parameters.mask }}" needs parameters.mask');
  });

  it("does not reach what every object has", () => {
    expect(() => fillArguments(["{{ parameters.constructor }}"], values)).toThrow(Rejected);
  });

  it("never splits, joins or interprets a value", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const filled = fillArguments(["a", "x{{ parameters.text }}y"], { ...values, parameters: { text } });
        expect(filled).toEqual(["a", `x${text}y`]);
      }),
    );
  });
});

describe("templateMistake", () => {
  it("accepts known names and parameters", () => {
    expect(templateMistake("{{ path }} {{ parameters.a.b }}")).toBeUndefined();
  });

  it.each(["{{ pahts }}", "{{ parameters }}", "{{ path", "path }}", "{{ }}"])("refuses %s", (template) => {
    expect(templateMistake(template)).toBeDefined();
  });
});
