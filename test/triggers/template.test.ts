import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Rejected } from "../../src/errors.ts";
import { TEMPLATE_NAMES } from "../../src/triggers/template-names.ts";
import {
  fillArguments,
  fillText,
  templateMistake,
  type TemplateValues,
} from "../../src/triggers/template.ts";

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

describe("a place of a template", () => {
  const results = [
    { path: "/core/p/a.png", beamlinePath: "/gpfs/current/p/a.png", bytes: 7, mediaType: "image/png" },
    { path: "/core/scratch_cc/b", beamlinePath: null, bytes: 8, mediaType: "text/plain" },
  ];
  const ofJob: TemplateValues = {
    ...values,
    causeResults: results,
    "cause.results": results.map(({ path }) => path),
  };

  it.each([
    ["{{ parameters.mask | default('/m.h5') }}", ["/m.h5"]],
    ['{{ parameters.mask|default("")}}', [""]],
    ["--n={{ parameters.points | default(100) }}", ["--n=100"]],
    ["{{ parameters.fast | default(false) }}", ["false"]],
    ["{{ parameters.poni | default('x') }}", ["/g.poni"]],
    ["{{ detector | default('any }} {{ x') }}", ["any }} {{ x"]],
    ["{{ paths | join(',') }}", ["/core/raw/a.h5,/core/raw/b.h5"]],
    ["--list={{ parameters.list | join(' ') }}", ["--list=1 2"]],
    ["{{ parameters.mask | default('none') | join(',') }}", ["none"]],
    ["--list={{ parameters.list }}", ["--list=[1,2]"]],
    ["{{ paths[1] }}", ["/core/raw/b.h5"]],
    ["{{ paths[9] | default('') }}", [""]],
    ["{{ parameters.list[0] }}", ["1"]],
    ["{{ results }}", ["/core/processed/a"]],
    ["{{ results[0].path }}", ["/core/p/a.png"]],
    ["{{ results[0].beamlinePath }}", ["/gpfs/current/p/a.png"]],
    ["{{ results[1].beamlinePath | default('nowhere') }}", ["nowhere"]],
    ["{{ cause.results }}", ["/core/p/a.png", "/core/scratch_cc/b"]],
    ["{{ cause.results[1] }}", ["/core/scratch_cc/b"]],
    ["{{ \"{{\" }} {{ '}}' }}", ["{{ }}"]],
    ['{"scan":{{ scan }}}', ['{"scan":7}']],
  ])("%s", (template, filled) => {
    expect(templateMistake(template)).toBeUndefined();
    expect(fillArguments([template], ofJob)).toEqual(filled);
  });

  it.each([
    "{{ results[2].path }}",
    "{{ results[1].beamlinePath }}",
    "{{ paths[2] }}",
    "{{ parameters.list.length }}",
  ])("%s has no value", (template) => {
    expect(() => fillArguments([template], ofJob)).toThrow(Rejected);
  });

  it("of a job's event can have a value only in a trigger that starts on one", () => {
    const scope = (types: ("data.ready" | "job.completed")[]) => ({
      types,
      method: "remote-sbatch-script" as const,
    });
    for (const name of ["cause.job", "cause.results", "results[0].path"]) {
      expect(templateMistake(`{{ ${name} }}`, scope(["data.ready"]))).toContain("is of a job's event");
      expect(templateMistake(`{{ ${name} }}`, scope(["job.completed"]))).toBeUndefined();
      expect(templateMistake(`{{ ${name} }}`, scope(["data.ready", "job.completed"]))).toBeUndefined();
    }
  });
});

describe("filling", () => {
  const text = fc.string({
    unit: fc.constantFrom(
      "{",
      "}",
      "{{",
      "}}",
      '"',
      "'",
      "|",
      "(",
      ")",
      " ",
      "\\",
      "path",
      "paths",
      "parameters.a",
      "default",
      "join",
      "[0]",
      "x",
    ),
  });
  const value = fc.oneof(
    fc.string({ unit: "binary" }),
    text,
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
    fc.array(fc.oneof(text, fc.integer())),
    fc.dictionary(fc.string(), fc.string()),
  );

  it("never makes two arguments of one, unless a list stands alone", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...TEMPLATE_NAMES, "parameters.a"),
        text,
        text,
        value,
        (name, before, after, a) => {
          const template = `${before.replace(/[{}]/g, "")}{{ ${name} | default("d") }}${after.replace(/[{}]/g, "")}`;
          const filled = fillArguments([template], { ...values, [name]: a, parameters: { a } });
          const isAlone = template.startsWith("{{") && template.endsWith("}}");
          expect(filled).toHaveLength(isAlone && Array.isArray(a) ? a.length : 1);
        },
      ),
    );
  });

  it("one value never changes how others are filled, nor is it read as a template", () => {
    fc.assert(
      fc.property(value, fc.string(), (a, b) => {
        const templates = ["{{ parameters.a | default('d') }}", "{{ parameters.b }}", "x{{ parameters.b }}y"];
        const filled = fillArguments(templates, { ...values, parameters: { a, b } });
        expect(filled.slice(-2)).toEqual([b, `x${b}y`]);
        if (typeof a === "string") expect(filled[0]).toBe(a);
      }),
    );
  });

  it("never meets a template that the check at load lets through, and the check refuses no other", () => {
    fc.assert(
      fc.property(fc.oneof(text, fc.string()), (template) => {
        const mistake = templateMistake(template);
        const outcome = (() => {
          try {
            return typeof fillText(template, values);
          } catch (error) {
            return error instanceof Rejected ? "rejected" : "broken";
          }
        })();
        expect(outcome === "broken", `${template}: ${mistake ?? outcome}`).toBe(mistake !== undefined);
      }),
      { numRuns: 3000 },
    );
  });

  it("leaves a text without places as it is", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (plain) => {
        fc.pre(!plain.includes("{{") && !plain.includes("}}"));
        expect(fillText(plain, values)).toBe(plain);
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
