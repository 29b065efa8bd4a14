/** A program that takes code from its arguments or its standard input. */
interface Interpreter {
  program: RegExp;
  /** A flag after which code follows, as the next argument or, the group, in the same one. */
  code: RegExp;
  /** Flags whose next argument is their value. */
  valued: RegExp;
  /** Its code is the first argument that is no flag, wherever `-c` stands before it. */
  isShell?: true;
  /** What follows the code is the code's, flags too. */
  endsWithCode?: true;
}

const INTERPRETERS: readonly Interpreter[] = [
  {
    program: /^(sh|bash|dash|ash|ksh|zsh|csh|tcsh|fish)$/,
    code: /^(?:-[a-zA-Z]*c[a-zA-Z]*|--command(?:=(.*))?)$/s,
    valued: /^([-+][a-zA-Z]*[oO]|--(rcfile|init-file))$/,
    isShell: true,
  },
  {
    program: /^(i?python|pypy)[0-9.]*$/,
    code: /^-[bBdEhiIOPqsSuvVx]*c(.*)$/s,
    valued: /^(-[bBdEhiIOPqsSuvVx]*[WX]|--check-hash-based-pycs)$/,
    endsWithCode: true,
  },
  { program: /^perl[0-9.]*$/, code: /^-[0-9acflnpsStTuUwWX]*[eE](.*)$/s, valued: /^-I$/ },
  { program: /^ruby[0-9.]*$/, code: /^-[0-9aclnpsSuvwW]*e(.*)$/s, valued: /^-[CEIr]$/ },
  {
    program: /^node(js)?$/,
    code: /^(?:-(?:e|p|pe)|--(?:eval|print)(?:=(.*))?)$/s,
    valued: /^(-[Cr]|--(require|import|conditions|loader))$/,
  },
  { program: /^R(script)?$/, code: /^-e(.*)$/s, valued: /^-g$/ },
  {
    program: /^julia$/,
    code: /^(?:-[eE](.*)|--(?:eval|print)(?:=(.*))?)$/s,
    valued: /^(-[CJLptH]|--(project|sysimage|load|threads|procs))$/,
  },
  { program: /^matlab$/, code: /^-(?:batch|r)$/, valued: /^-(sd|logfile)$/ },
  { program: /^octave(-cli)?$/, code: /^--eval(?:=(.*))?$/s, valued: /^(-p|--path)$/ },
];

/** Programs that run the one in their arguments. */
const RUNNER =
  /^(\S*\/)?(env|srun|nice|ionice|nohup|time|timeout|stdbuf|setsid|sudo|mpirun|mpiexec|taskset|numactl|apptainer|singularity)$/;

/** What of a program and its arguments an interpreter would run as code. */
export interface Code {
  /** The interpreter, as it is written. */
  interpreter: string;
  isShell: boolean;
  /** Places of arguments that are code, each with the flag that says so. */
  places: { place: number; flag: string }[];
  /** The code comes from the standard input. */
  isReadFromInput: boolean;
}

/** null: there is no interpreter. */
export function codeIn(run: readonly string[]): Code | null {
  const start = run.findIndex((argument) => interpreterOf(argument) !== undefined);
  const name = run[start] ?? "";
  const interpreter = interpreterOf(name);
  if (interpreter === undefined) return null;
  const isProgram = start === 0 || RUNNER.test(run[0] ?? "");
  const { places, script, flags } = readArguments(run, start + 1, interpreter);
  const isShell = interpreter.isShell === true;
  const readsInput =
    script === undefined ||
    /^(-|\/dev\/stdin)$/.test(script) ||
    // bash -s one two
    (isShell && flags.some((flag) => /^-[a-zA-Z]*s[a-zA-Z]*$/.test(flag)));
  return {
    interpreter: name,
    isShell,
    places,
    isReadFromInput: isProgram && places.length === 0 && readsInput,
  };
}

/** Of the interpreter: its arguments end at the first that is no flag, and the rest is the script's. */
function readArguments(run: readonly string[], from: number, interpreter: Interpreter) {
  const { code, valued, isShell, endsWithCode } = interpreter;
  const places: Code["places"] = [];
  const flags: string[] = [];
  let flagOfShell: string | undefined;
  let place = from;
  for (; /^[-+]./.test(run[place] ?? ""); place++) {
    const argument = run[place] ?? "";
    if (argument === "--") {
      place += 1;
      break;
    }
    flags.push(argument);
    const found = code.exec(argument);
    const attached = found?.slice(1).join("") ?? "";
    if (found !== null && isShell === true && attached === "") flagOfShell = argument;
    else if (found !== null) {
      if (attached === "") place += 1;
      places.push({ place, flag: argument.slice(0, argument.length - attached.length) });
      if (endsWithCode === true) return { places, script: undefined, flags };
    }
    // -eo pipefail
    if (valued.test(argument)) place += 1;
  }
  if (flagOfShell !== undefined) places.push({ place, flag: flagOfShell });
  return { places, script: run[place], flags };
}

function interpreterOf(argument: string): Interpreter | undefined {
  const name = /^(?:\S*\/)?([^\s/]+)$/.exec(argument)?.[1];
  return name === undefined ? undefined : INTERPRETERS.find(({ program }) => program.test(name));
}
