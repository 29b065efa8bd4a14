import { describe, expect, it } from "vitest";
import { parseConfig } from "../../src/config/config-file.ts";
import { MISTAKEN } from "./mistakes.ts";

describe("a mistake in a trigger", () => {
  it.each(MISTAKEN)("line $line: $says", ({ text, line, says }) => {
    const { mistakes } = parseConfig(text, {});
    expect(mistakes.length, text).toBeGreaterThan(0);
    for (const mistake of mistakes) expect(mistake.line, mistake.message).toBe(line);
    expect(mistakes.map(({ message }) => message).join("\n")).toContain(says);
  });

  it("does not hide those of other triggers, nor theirs it", () => {
    const text = `triggers:
  - name: a
    run: sleep 5
  - name: b
    run: [prog, "{{ pth }}"]
  - name: c
    on: { type: job.completed, trigger: [a, bb] }
    run: [prog]
`;
    expect(parseConfig(text, {}).mistakes.map(({ line, place }) => `${line ?? 0} ${place}`)).toEqual([
      "3 triggers.0.run",
      "5 triggers.1.run.1",
      "7 triggers.2.on.trigger.1",
    ]);
  });
});

describe("what is no mistake", () => {
  const valid = (body: string) =>
    parseConfig(`triggers:\n  - name: a\n    run: [prog, "{{ path }}"]\n${body}`, {}).mistakes;

  it.each<readonly [string, string]>([
    ["a trigger on all jobs but its own", "    on: { type: job.completed }\n    unless: { trigger: a }\n"],
    [
      "one on another group's jobs but one trigger's",
      "    on: { type: job.completed, group: p09 }\n    unless: { trigger: x }\n",
    ],
    ["one on another group's jobs", "    on: { type: job.completed, trigger: x, group: p09 }\n"],
    [
      "one on the jobs of all groups but this",
      "    on: { type: job.completed }\n    unless: { group: default }\n",
    ],
    ["data or the end of a job", "    on: { type: [data.ready, job.failed], group: p09 }\n"],
    [
      "all of one's own jobs that fail, by a trigger that excludes them",
      "    on: { type: [job.failed, job.lost] }\n    unless: { trigger: 'a*' }\n",
    ],
    ...["**/scan (1)/*.h5", "{/gpfs,/asap3,**/{raw,x}}/**", "{{**/a,/b},/c}", "!/gpfs/**", "**"].map(
      (glob) => ["a glob that can fit", `    on: { path: "${glob}" }\n`] as const,
    ),
    ["a beamtime's id as YAML has it", "    on: { beamtimeId: 11010000 }\n"],
    [
      "a shell whose script takes its values as arguments",
      '  - name: b\n    run: [sh, -c, "wc < $1 | cut -d: -f1", sh, "{{ path }}"]\n',
    ],
    ...[
      '[python3, /opt/x.py, -c, "{{ parameters.config }}"]',
      '[python3, -W, error, /opt/x.py, -c, "{{ path }}"]',
      '[python3, -m, fit, -c, "{{ path }}"]',
      '[python3, -c, "import sys", -c, "{{ path }}"]',
      '[bash, /opt/run.sh, -c, "{{ path }}"]',
      '[bash, -o, errexit, --, run.sh, -c, "{{ path }}"]',
      '[perl, -Mstrict, /opt/x.pl, -e, "{{ path }}"]',
      '[Rscript, /opt/x.R, -e, "{{ path }}"]',
    ].map(
      (run) => ["a script that has a flag like its interpreter's", `  - name: b\n    run: ${run}\n`] as const,
    ),
    ...["[bash, /opt/run.sh]", '[python3, -c, "import sys"]', "[cat]", "[tool, --language, R]"].map(
      (run) =>
        ["a value for a script's input", `  - name: b\n    run: ${run}\n    stdin: "{{ path }}"\n`] as const,
    ),
    ["a literal brace", `  - name: b\n    run: [p, '{"a":{"b":1{{ "}}" }}']\n`],
    [
      "flags of sbatch that continue one of Mento's",
      "    slurm: { extra: [--mem-per-cpu=2G, --wait-all-nodes=1, --nice, --mail-type=END] }\n",
    ],
    ["Slurm's dependencies", '    slurm: { dependency: "after:1+5:2_3,afterok:4_*:5,singleton" }\n'],
    [
      "all of Slurm's keys",
      "    slurm: { tasks: 4, gres: 'gpu:a100:2,nvme', account: x, qos: high, exclusive: true }\n",
    ],
  ])("%s", (_, body) => {
    expect(valid(body)).toEqual([]);
  });

  it("an event of another group's job starts only a trigger that names its group", () => {
    const groupOf = (body: string) =>
      parseConfig(
        `worker: { group: p11 }\ntriggers:\n  - name: a\n    run: [x]\n  - name: b\n    run: [x]\n${body}`,
        {},
      ).config?.triggers[1]?.on.group;
    expect(groupOf("    on: { type: job.completed, trigger: a }\n")).toBe("p11");
    expect(groupOf("    on: { type: job.completed, trigger: a, group: '*' }\n")).toBe("*");
    expect(
      groupOf("    on: { type: [data.ready, job.completed], path: '**' }\n    unless: { trigger: b }\n"),
    ).toBe("p11");
    expect(groupOf("")).toBeUndefined();
  });
});
