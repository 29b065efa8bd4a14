import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { quote } from "../../src/shells/quote.ts";
import { ASK_SBATCH } from "../../src/slurm/sbatch-call.ts";
import { FakePrograms } from "../support/fake-programs.ts";

const programs = new FakePrograms();
afterAll(() => programs.remove());

/** What is taken for the id that an `sbatch` has printed which ended so. */
function idIn(printed: string, code = 0, before = ""): string | undefined {
  programs.answer(
    "sbatch",
    `${before}
printf %s ${quote(printed)}; exit ${code}`,
  );
  const { stdout } = programs.run(
    `${ASK_SBATCH}\nask_sbatch run.sh && echo "is $id" || echo "none $code $id"`,
  );
  expect(stdout).toMatch(/^(is .+|none \d+ )\n$/);
  return /^is (.*)$/m.exec(stdout)?.[1];
}

const isId = (line: string) => /^[1-9]\d*(;[A-Za-z0-9._-]+)?$/.test(line);

describe("the id that sbatch prints", () => {
  it.each([
    ["4711\n", "4711"],
    ["4711", "4711"],
    ["4711;maxwell\n", "4711;maxwell"],
    ["\n4711;max-well.1\n\n", "4711;max-well.1"],
    ["sbatch: info: 2 jobs of yours are pending\n4711\nsbatch: lua: quota 5 GB\n", "4711"],
  ])("is found in %j", (printed, id) => expect(idIn(printed)).toBe(id));

  it.each([
    "",
    "\n",
    "2 jobs of yours are pending\n",
    "Submitted batch job 4711\n",
    "12\n4711\n",
    "4711\n4711\n",
    "Welcome to Maxwell\n\n4711\n",
    "17\nSubmitted batch job 18\n",
    "* ? [a-z] $(id) `id`\n4711\n",
    "0\n",
    "4711;\n",
    "4711;max well\n",
    "4711;a;b\n",
    "4711_3\n",
    "4711\r\n",
    "-4711\n",
  ])("cannot be told from %j", (printed) => expect(idIn(printed)).toBeUndefined());

  it("is none of an sbatch that has not ended well", () => {
    for (const code of [1, 2, 124, 137, 255]) expect(idIn("4711\n", code)).toBeUndefined();
  });

  it("is known when sbatch ends, whatever it has left behind that holds its outputs", () => {
    const before = Date.now();
    expect(idIn("4711\n", 0, "sleep 60 &")).toBe("4711");
    expect(Date.now() - before).toBeLessThan(30_000);
  });

  it("is none of an sbatch that prints more than anybody reads, and not all of it is kept", () => {
    expect(idIn("4711\n", 0, "yes | head -c 300000")).toBeUndefined();
    programs.answer("sbatch", `yes | head -c 300000; exit 1`);
    const { stdout, stderr } = programs.run(`${ASK_SBATCH}\nask_sbatch run.sh || echo "none $code"`);
    expect(stdout).toBe("none 137\n");
    expect(stderr.length).toBeLessThan(300_000);
  });

  it("is the one line beside sbatch's own messages, if it has its form", () => {
    const line = fc.oneof(
      fc.string(),
      fc.stringMatching(/^[0-9;a-z ._-]{0,6}$/),
      fc.constantFrom("4711", "4712;c", "sbatch: error: 4711", "sbatch: 12"),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 5 }), (lines) => {
        const printed = lines.join("\n").replaceAll("\0", "");
        const others = printed.split("\n").filter((one) => one !== "" && !one.startsWith("sbatch: "));
        const [first = ""] = others;
        expect(idIn(printed)).toBe(others.length === 1 && isId(first) ? first : undefined);
      }),
      { numRuns: 60 },
    );
  });
});
