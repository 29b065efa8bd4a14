/** A configuration with one mistake: what it is, its line, what is said, and whether an editor with the schema sees it too. */
export interface MistakenConfig {
  text: string;
  line: number;
  says: string;
  byForm: boolean;
}

/** Below `- name: a`; a line is added for the program unless there is one. Line 2 is the name's. */
function trigger(...lines: string[]): string {
  const run = lines.some((line) => line.startsWith("run")) ? [] : ['run: [prog, "{{ path }}"]'];
  return ["triggers:", "  - name: a", ...[...lines, ...run].map((line) => `    ${line}`), ""].join("\n");
}

const B = ["", "- name: b", "  run: [prog]"].join("\n  ");

/** What only `mento validate` sees, for it lies in the meaning of a text or between two keys. */
const byMeaning: [text: string, line: number, says: string][] = [
  [
    trigger("array: {}", "latest: true"),
    3,
    "jobs of an array take no turns: leave it out, or latest and concurrency; array.limit says how many of an array run at once",
  ],
  [trigger('run: [./plot.sh, "{{ path }}"]'), 3, "./plot.sh would be looked for in the job's directory"],
  [trigger("run: [bin/plot]"), 3, "write its absolute path, or set workdir"],
  [
    trigger("on: { type: job.completed, trigger: b }", 'run: [prog, "{{ results[0].beamlinePath }}"]') + B,
    4,
    "results[0].beamlinePath: the results of b are not copied to the beamline; give it copyBack, or take results[0].path",
  ],
  // Conditions
  [trigger("on: { scan: { min: 9, max: 5 } }"), 3, "min 9 is greater than max 5: nothing can fit"],
  [trigger("on: { scan: {} }"), 3, "must have min or max, or exists"],
  [
    trigger("on: { scan: { exists: true, min: 1 } }"),
    3,
    "exists stands alone: a range asks for a value anyway",
  ],
  [trigger('on: { path: "raw/**" }'), 3, "paths are absolute; write **/raw/**"],
  [trigger('on: { path: "*_master.h5" }'), 3, "paths are absolute; write **/*_master.h5"],
  [trigger('on: { path: "{raw,processed}/**" }'), 3, "write **/{raw,processed}/**"],
  [trigger('on: { path: "?gpfs/**" }'), 3, "write **/?gpfs/**"],
  [trigger('on: { path: "./a" }'), 3, "write **/a"],
  [trigger('unless: { path: "!raw/**" }'), 3, "write !**/raw/**"],
  [trigger('on: { path: "{/gpfs,asap3}/**" }'), 3, "begin each of its alternatives with / or **/"],
  [trigger('on: { path: "**/scan_{1..12}.h5" }'), 3, "has {1..12}, which means nothing here; write {1,2,3}"],
  [trigger('on: { path: "**/@(a|b)/*" }'), 3, "has @(a|b), which means nothing here; write {a,b}"],
  [trigger('on: { path: "**/[[:digit:]].h5" }'), 3, "which means nothing here; write [0-9]"],
  [trigger('results: ["!(a).png"]'), 3, "has !(a), which means nothing here"],
  [
    trigger('on: { path: "**/[ab.h5" }'),
    3,
    "the glob **/[ab.h5 has a [ without its ]; \\[ is the character itself",
  ],
  [trigger("on:", "  path:", '    - "**/*.h5"', '    - "**/{a,b"'), 6, "has a { without its }"],
  [trigger('on: { path: ["**/*.h5", "!**/dark/**"] }'), 3, "write it under unless"],
  [
    trigger('on: { parameters: { "a..b": 1 } }'),
    3,
    "must be a parameter's name, such as exposure or detector.distance",
  ],
  [trigger("unless: {}"), 3, "must have at least one field"],
  [trigger("unless: { parameters: {} }"), 3, "must name at least one parameter"],
  [
    trigger("on: { type: job.completed, trigger: b, reason: timeout }") + B,
    3,
    "only job.failed has a reason; set on.type to it",
  ],
  [
    trigger(
      "on: { type: [job.completed, job.failed], trigger: b }",
      "unless: { type: job.completed, reason: timeout }",
    ) + B,
    4,
    "only job.failed has a reason",
  ],
  [trigger("unless: { type: job.failed }"), 3, "the trigger does not start on job.failed anyway"],
  [trigger("unless: { trigger: a }"), 3, "this trigger starts on data.ready alone"],
  [
    trigger("on: { reason: timeout }"),
    3,
    "reason is of a job's event, and data.ready has none: set on.type to job.completed",
  ],
  [
    trigger("on:", "  type: [data.ready, job.failed]", "  exitCode: 1", "unless: { trigger: a }"),
    5,
    "make a trigger of its own for data.ready",
  ],
  [
    trigger("on:", "  type: job.completed", "  trigger: b", "  bytes: 5") + B,
    6,
    "bytes is of a data.ready message, and a job's event has none",
  ],
  // Chains
  [
    trigger("on: { type: job.completed, trigger: bb }") + B,
    3,
    "no trigger of this configuration is bb; did you mean b?",
  ],
  [
    trigger("on:", "  type: job.completed", "  trigger: [b, 'x*']") + B,
    5,
    "no trigger of this configuration is x*; known are a, b",
  ],
  [
    trigger("on: { type: job.failed, trigger: bb }", "unless: { group: p09 }") + B,
    3,
    "no trigger of this configuration is bb; did you mean b?",
  ],
  [
    trigger("on: { type: job.failed, group: p09 }", "unless: { group: default, trigger: bb }") + B,
    4,
    "no trigger of this configuration is bb; did you mean b?",
  ],
  [trigger("on: { type: job.completed }"), 3, "a would start itself again and again"],
  [
    trigger("on: { type: job.completed, trigger: '[ab]*' }") + B,
    3,
    "no trigger of this configuration is [ab]*",
  ],
  [trigger("on: { type: job.completed, trigger: '?' }") + B, 3, "exclude it: unless: { trigger: a }"],
  [
    trigger("on: { type: job.completed, trigger: b }") +
      "  - name: b\n    on: { type: job.failed, trigger: c }\n    run: [p]\n" +
      "  - name: c\n    on: { type: [job.lost, job.failed], trigger: a }\n    run: [p]\n",
    3,
    "a circle without end: a → c → b → a",
  ],
  [trigger() + "  - name: a\n    run: [prog]\n", 4, '"a" is the name of another trigger; names must differ'],
  // Programs
  [
    trigger('run: [sha256sum, "{{ path }}", "|", tee, log]'),
    3,
    "| would be an argument of sha256sum: there is no shell; put a pipeline into a script",
  ],
  [trigger('run: [prog, ">", out]'), 3, "> would be an argument of prog"],
  [
    trigger('run: ["sha256sum {{ path }}"]'),
    3,
    'must be a list, each argument on its own: [sha256sum, "{{ path }}"]',
  ],
  [
    trigger('run: [/bin/sh, -c, "wc < {{ path }}"]'),
    3,
    '{{ path }} in a script after -c would be run as code; give "$1" in it',
  ],
  [
    trigger('run: [srun, bash, -ec, "wc {{ parameters.x }}"]'),
    3,
    "{{ parameters.x }} in a script after -ec would be run as code",
  ],
  [trigger("run: [python3, -c, \"open('{{ path }}')\"]"), 3, "give the value as arguments after the script"],
  ...[
    '[bash, -e, -c, "cat {{ path }}"]',
    '[bash, -xe, -c, "cat {{ path }}"]',
    '[bash, -cx, "cat {{ path }}"]',
    '[/bin/sh, -c, -e, --, "cat {{ path }}"]',
    '[bash, -euo, pipefail, -c, "cat {{ path }}"]',
    '[fish, "--command=cat {{ path }}"]',
    "[python3, -We, -c, \"open('{{ path }}')\"]",
    "[python3.11, -W, error, -Ic, \"open('{{ path }}')\"]",
    "[python3, \"-copen('{{ path }}')\"]",
    "[perl, -E, \"say '{{ path }}'\"]",
    "[perl, '-0777', -ne, print, -e, \"say '{{ path }}'\"]",
    "[node, -e, \"open('{{ path }}')\"]",
    "[node, -r, fs, -p, \"'{{ path }}'\"]",
    "[node, \"--eval=open('{{ path }}')\"]",
    "[ruby, -rjson, -e, \"open('{{ path }}')\"]",
    "[Rscript, --vanilla, -e, \"read('{{ path }}')\"]",
    "[julia, -e, \"open('{{ path }}')\"]",
    "[matlab, -nodisplay, -batch, \"f('{{ path }}')\"]",
    "[matlab, -r, \"f('{{ path }}')\"]",
  ].map((run): [string, number, string] => [trigger(`run: ${run}`), 3, "{{ path }} in a script after -"]),
  ...["[bash]", '[python3, "-"]', "[bash, -s, one]", "[srun, /usr/bin/python3, -u]", "[node]"].map(
    (run): [string, number, string] => [
      trigger(`run: ${run}`, 'stdin: "cat {{ path }}"'),
      4,
      "reads from its standard input would be run as code; put the script into a file",
    ],
  ),
  // Templates
  [trigger("run:", "  - prog", '  - "{{path}"'), 5, "has a {{ without its }}"],
  [trigger('run: [prog, "path }}"]'), 3, "has a }} without its {{"],
  [trigger('run: [prog, "{{ }}"]'), 3, "{{ }} names nothing"],
  [trigger('run: [prog, "{{ pth }}"]'), 3, "{{ pth }} names no known value; did you mean path?"],
  [trigger('run: [prog, "{{ poni }}"]'), 3, "{{ poni }} names no known value; known are path, paths, "],
  [trigger('run: [prog, "{{ parameters }}"]'), 3, "needs the parameter's name: parameters.NAME"],
  [trigger('run: [prog, "{{ path[0] }}"]'), 3, "{{ path[0] }} has no items: path is one value"],
  [trigger('run: [prog, "{{ paths[0].name }}"]'), 3, "is too deep: paths[0] is a path"],
  [
    trigger('run: [prog, "{{ results[0] }}"]'),
    3,
    "must be a result's path: results[0].path or results[0].beamlinePath",
  ],
  [
    trigger('run: [prog, "{{ results[0].path }}"]'),
    3,
    "is of a job's event, and this trigger starts on data.ready",
  ],
  [trigger('run: [prog, "{{ cause.job }}"]'), 3, "{{ cause.job }} is of a job's event"],
  [
    trigger("on: { type: job.completed, trigger: b }", 'run: [x, "{{ results[0].pth }}"]') + B,
    4,
    "names nothing of a result; did you mean path?",
  ],
  [trigger('run: [prog, "{{ path | upper }}"]'), 3, "there is no upper; known are default, join"],
  [trigger("run: [prog, \"{{ path | defualt('x') }}\"]"), 3, "there is no defualt; did you mean default?"],
  [
    trigger('run: [prog, "{{ path | default }}"]'),
    3,
    'default needs a value in parentheses, such as default("a.poni")',
  ],
  [
    trigger('run: [prog, "{{ path | default(other) }}"]'),
    3,
    "default needs a text in quotes, a number, true or false",
  ],
  [trigger('run: [prog, "{{ paths | join(1) }}"]'), 3, "join needs a text in quotes"],
  [trigger('run: [prog, "{{ path + 1 }}"]'), 3, "must hold one name"],
  [trigger("env:", '  A: "{{ pth }}"'), 4, "{{ pth }} names no known value"],
  [trigger('workdir: "{{ pth }}"'), 3, "{{ pth }} names no known value"],
  [trigger('stdin: "{{ pth }}"'), 3, "{{ pth }} names no known value"],
  [trigger("env: { MENTO_TRIGGER: a }"), 3, "is set by Mento itself"],
  // Slurm
  [trigger("slurm: { time: 10, timeMin: 20 }"), 3, "must not be longer than time"],
  [trigger("slurm: { dependency: afterok }"), 3, "afterok needs Slurm job ids, such as afterok:4711"],
  [trigger('slurm: { dependency: "afterOK:1" }'), 3, "is no dependency of Slurm; did you mean afterok?"],
  [trigger('slurm: { time: "00:00:00" }'), 3, "must be more than 0, which sbatch takes for no limit at all"],
  [trigger('slurm: { dependency: "singleton:1" }'), 3, "singleton stands alone"],
  [
    trigger('slurm: { dependency: "afterok:1,afterany:2?after:3" }'),
    3,
    "must have either , (all) or ? (any), not both",
  ],
  [
    trigger("slurm: { extra: [--output=/tmp/x] }"),
    3,
    "--output is Mento's: the job's log is job.log in its directory",
  ],
  [trigger("slurm: { extra: [--outp=/tmp/x] }"), 3, "--output is Mento's"],
  [
    trigger("slurm:", "  extra:", "    - --nice=10", "    - --time=5"),
    6,
    "--time has a key of its own: write slurm.time",
  ],
  [
    trigger("slurm: { extra: [-N 1] }"),
    3,
    "must be the long form of -N, --name or --name=value, as one text",
  ],
  [trigger("slurm: { extra: [nice] }"), 3, "must be a flag of sbatch, --name or --name=value"],
  // Keys that do nothing
  [
    trigger("method: local-bash-script", "slurm: { time: 5 }"),
    4,
    "means nothing for local-bash-script: the job runs on the worker's host, outside Slurm",
  ],
  [
    trigger("method: remote-command", "slurm: { time: 5 }"),
    4,
    "means nothing for remote-command: the job runs on a node, outside Slurm",
  ],
  [
    trigger("method: local-bash-script", "copyBack: { to: processed }"),
    4,
    "means nothing for local-bash-script",
  ],
  [
    trigger("method: local-bash-script", "destination: max-p11-001"),
    4,
    "means nothing for local-bash-script",
  ],
  [trigger("method: local-sbatch-script", "destination: max-p11-001"), 4, "sbatch runs on the worker's host"],
  [trigger("method: local-bash-script", "companions: true"), 4, "waits for no copy of the data"],
  [
    trigger("method: local-bash-script", 'run: [x, "{{ results }}"]'),
    4,
    "a job of the worker's account has its own in $MENTO_RESULTS_DIR",
  ],
  [trigger("method: slurm-rest-api"), 3, "needs the section slurmRest, with url and tokenFile"],
  [
    `slurmRest: { url: "https://slurm", tokenFile: /t }\n${trigger("method: slurm-rest-api", "slurm:", "  gres: gpu", "  extra: [--x11]")}`,
    7,
    "is not passed on by slurm-rest-api, which has no flags; submit with remote-sbatch-script",
  ],
  [trigger('results: ["{a"]'), 3, "has a { without its }"],
];

/** What the form forbids: an editor with schemas/mento-config.json marks it too. */
const byForm: [text: string, line: number, says: string][] = [
  [trigger("on: data.ready"), 3, 'must be a mapping of keys to values, not the text "data.ready"'],
  [trigger("on: { typ: data.ready }"), 3, "unknown key; did you mean type?"],
  [
    trigger("on: { type: job.complete }"),
    3,
    "must be one of data.ready, job.completed, job.failed, job.cancelled, job.lost; did you mean job.completed?",
  ],
  [trigger("on: { detector: [] }"), 3, "must have at least one item"],
  [trigger("on: { detector: }"), 3, "is missing: must be text, or a number"],
  [trigger('on: { sample: "" }'), 3, "must not be empty"],
  [trigger("on: { scan: { mni: 9 } }"), 3, "unknown key; did you mean min?"],
  [trigger("on: { scan: { exists: yes } }"), 3, 'must be true or false, not the text "yes"'],
  [trigger('on: { scan: { min: "5" } }'), 3, 'must be a number, not the text "5"'],
  [trigger("on: { bytes: { min: 5 MBytes } }"), 3, "must be a size such as 50MB"],
  [
    trigger('on: { type: job.failed, trigger: b, exitCode: "1" }') + B,
    3,
    'must be a number, or a list, or a mapping of keys to values, not the text "1"',
  ],
  [trigger("on: { type: job.failed, trigger: b, reason: time-out }") + B, 3, "did you mean timeout?"],
  [trigger("on: { parameters: [a] }"), 3, "must be a mapping of keys to values, not a list"],
  [trigger("method: remote-sbatch"), 3, "did you mean remote-sbatch-script?"],
  [
    trigger("run: sha256sum {{ path }}"),
    3,
    'must be a list, each argument on its own: [sha256sum, "{{ path }}"]',
  ],
  [trigger("run: sort {{ path }} | tee log"), 3, "there is no shell, so put a pipeline into a script"],
  [trigger("run: []"), 3, "must have at least one item"],
  [trigger("run: [prog, --threads, 8]"), 3, 'must be text, not 8; put it in quotes: "8"'],
  [trigger("run: [prog, {{ path }}]"), 3, 'put it in quotes: "{{ path }}"'],
  ["triggers:\n  - name: a\n", 2, "is missing: must be a list"],
  ["triggers:\n  - run: [a]\n", 2, "is missing: must be text"],
  ['triggers:\n  - name: "a b"\n    run: [a]\n', 2, "must be 1 to 63 letters, digits, '.', '_' or '-'"],
  ["triggers: { a: { run: [x] } }\n", 1, "must be a list, not a mapping"],
  [trigger('env: { OMP-NUM: "8" }'), 3, "must be a variable's name"],
  [trigger("env: { OMP_NUM_THREADS: 8 }"), 3, 'must be text, not 8; put it in quotes: "8"'],
  [
    trigger("slurm: { time: 2h }"),
    3,
    "must be a Slurm time such as 00:20:00, 45 (minutes) or 1-12:00:00; 2h is 02:00:00",
  ],
  [trigger("slurm: { time: 90 minutes }"), 3, "90 minutes is 01:30:00"],
  [trigger("slurm: { time: 1.5 }"), 3, "must be text, or a whole number, not 1.5"],
  [trigger("slurm: { memory: 4 GB }"), 3, "must be a size of Slurm such as 4G or 500M; write 4G"],
  [trigger("slurm: { nodes: 0 }"), 3, "must be more than 0"],
  [trigger('slurm: { tasks: "8" }'), 3, 'must be a number, not the text "8"'],
  [trigger("slurm: { cpuPerTask: 8 }"), 3, "unknown key; did you mean cpusPerTask?"],
  [trigger("slurm: { array: 0-9 }"), 3, "unknown key; array stands beside slurm, not in it"],
  [trigger("time: 5"), 3, "unknown key; time stands in slurm"],
  [trigger('slurm: { gres: "gpu: 1" }'), 3, "must be resources such as gpu:1"],
  [trigger('slurm: { exclusive: "yes" }'), 3, 'must be true or false, not the text "yes"'],
  [trigger("slurm: { extra: --nice=10 }"), 3, 'must be a list, not the text "--nice=10"'],
  [trigger("slurm: { fallback: none }"), 3, "must be wait, fail, or { partition: NAME }"],
  [
    trigger("copyBack: { to: /gpfs/current/processed }"),
    3,
    "must be a folder relative to the beamtime's, such as processed/onlineanalysis",
  ],
  [trigger("copyBack: { to: ../x }"), 3, "must be a folder relative to the beamtime's"],
  [trigger("copyBack: { to: a, maxBytes: 50 Mbyte }"), 3, "must be a size such as 50MB"],
  [trigger('results: ["/abs/*.png"]'), 3, "must be relative to the job's results folder"],
  [trigger('results: "*.png"'), 3, 'must be a list, not the text "*.png"'],
  [trigger("dataTimeout: 10m"), 3, "must be a whole number of seconds"],
  [trigger("companions: sometimes"), 3, 'must be true or false, not the text "sometimes"'],
];

export const MISTAKEN: MistakenConfig[] = [
  ...byMeaning.map(([text, line, says]) => ({ text, line, says, byForm: false })),
  ...byForm.map(([text, line, says]) => ({ text, line, says, byForm: true })),
];
