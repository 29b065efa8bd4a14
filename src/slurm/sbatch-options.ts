/**
 * sbatch's options, as its getopt_long takes them: slurm_opt.c of 22.05.8 and 24.11.5. A name that only one of the two
 * knows is here too; sbatch says itself what it does not know.
 */
const SHORT: Record<string, string> = {
  ...{ A: "account", a: "array", B: "extra-node-info", b: "begin", C: "constraint", c: "cpus-per-task" },
  ...{ D: "chdir", d: "dependency", e: "error", F: "nodefile", G: "gpus", H: "hold", h: "help", i: "input" },
  ...{ J: "job-name", k: "no-kill", L: "licenses", M: "clusters", m: "distribution", N: "nodes" },
  ...{ n: "ntasks", O: "overcommit", o: "output", p: "partition", Q: "quiet", q: "qos", S: "core-spec" },
  ...{ s: "oversubscribe", t: "time", V: "version", v: "verbose", W: "wait", w: "nodelist", x: "exclude" },
};

const WITHOUT_VALUE = `contiguous help hold ignore-pbs no-requeue overcommit oversubscribe parsable quiet reboot requeue
  spread-job stepmgr test-only usage use-min-nodes verbose version wait`;

/** The value stands behind `=`, or there is none. */
const OPTIONAL_VALUE = "exclusive get-user-env nice no-kill oom-kill-step propagate resv-ports";

const WITH_VALUE = `account acctg-freq array autocomplete batch bb bbf begin chdir cluster cluster-constraint clusters
  comment constraint container container-id context core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline
  delay-boot dependency distribution error exclude export export-file extra extra-node-info gid gpu-bind gpu-freq gpus
  gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint input job-name kill-on-invalid-dep licenses mail-type
  mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nodefile nodelist nodes ntasks ntasks-per-core
  ntasks-per-gpu ntasks-per-node ntasks-per-socket ntasks-per-tres open-mode output partition power prefer priority profile
  qos reservation segment signal sockets-per-node switches tasks-per-node thread-spec threads-per-core time time-min tmp
  tres-bind tres-per-task uid wait-all-nodes wckey wrap`;

type Takes = "none" | "optional" | "value";

const OPTIONS = new Map<string, Takes>([
  ...WITHOUT_VALUE.split(/\s+/).map((name) => [name, "none"] as const),
  ...OPTIONAL_VALUE.split(/\s+/).map((name) => [name, "optional"] as const),
  ...WITH_VALUE.split(/\s+/).map((name) => [name, "value"] as const),
]);

/** For tests: the table is compared with what sbatch does, name by name. */
export const SBATCH_OPTIONS: readonly string[] = [...OPTIONS.keys()];

export interface SbatchOption {
  /** Its long name; null: a word that is no option known here, and sbatch's affair. */
  name: string | null;
  /** null: none; of a word that is not known the word itself. */
  value: string | null;
}

/** The options of an argument list. */
export function optionsOf(words: readonly string[]): SbatchOption[] {
  const options: SbatchOption[] = [];
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === "--") {
      options.push(...[word, ...rest].map((value) => ({ name: null, value })));
      break;
    }
    if (/^-[^-]/.test(word)) options.push(...cluster(word, rest));
    else options.push(long(word, rest));
  }
  return options;
}

function long(word: string, rest: string[]): SbatchOption {
  const [, given, equals, value = ""] = /^--([^=]+)(=)?(.*)$/s.exec(word) ?? [];
  const name = given === undefined ? undefined : meant(given);
  if (name === undefined) return { name: null, value: word };
  if (equals !== undefined) return { name, value };
  return { name, value: OPTIONS.get(name) === "value" ? (rest.shift() ?? null) : null };
}

/** `-Hk`, `-Ht5`, `-t 5`. */
function cluster(word: string, rest: string[]): SbatchOption[] {
  const options: SbatchOption[] = [];
  for (let at = 1; at < word.length; at++) {
    const name = SHORT[word[at] ?? ""];
    const behind = word.slice(at + 1);
    if (name === undefined) return [...options, { name: null, value: `-${word.slice(at)}` }];
    const takes = OPTIONS.get(name);
    if (takes === "none") options.push({ name, value: null });
    else if (behind !== "") return [...options, { name, value: behind }];
    else options.push({ name, value: takes === "value" ? (rest.shift() ?? null) : null });
  }
  return options;
}

/** A name may be cut short as long as it is the beginning of no other. */
function meant(given: string): string | undefined {
  if (OPTIONS.has(given)) return given;
  const [first, second] = SBATCH_OPTIONS.filter((name) => name.startsWith(given));
  return second === undefined ? first : undefined;
}
