import { MentoError } from "../errors.ts";
import { quote } from "../shells/quote.ts";
import type { Shell } from "../shells/shell.ts";
import type { Finding } from "./checklist.ts";

/** What came of logging in to one reserved node. */
export interface NodeAnswer {
  shell: Shell;
  error: MentoError | undefined;
}

/** Every node is tried: one that is dead is found before it is the only one left. */
export function tryNodes(shells: readonly Shell[]): Promise<NodeAnswer[]> {
  return Promise.all(
    shells.map(async (shell) => {
      try {
        const end = await shell.run("id -un");
        if (end.stdout.toString("utf8").trim() === shell.account) return { shell, error: undefined };
        return { shell, error: noShell(shell, end.stderr || end.stdout.toString("utf8")) };
      } catch (error) {
        if (error instanceof MentoError) return { shell, error };
        throw error;
      }
    }),
  );
}

function noShell({ host, account }: Shell, said: string): MentoError {
  return new MentoError({
    code: "ssh-login-refused",
    message: `${host} accepts ${account}, but runs no command for it: ${said.trim().slice(0, 200) || "it said nothing"}.`,
    hint: "Its login shell must run commands (`exec /bin/sh`).",
  });
}

export function checkHostKeys(answers: readonly NodeAnswer[]): Finding<undefined> {
  const wrong = answers.flatMap(({ error }) => (error !== undefined && isHostKeyError(error) ? [error] : []));
  const [first] = wrong;
  if (first !== undefined) {
    const message = wrong.map((error) => error.message).join("\n");
    return { state: "failed", message, hint: first.hint, code: first.code };
  }
  const shown = answers.filter(({ error }) => error?.code !== "ssh-unreachable");
  if (shown.length === 0) return { state: "skipped", message: "not checked, because no node answers" };
  return {
    state: "ok",
    message: `${names(shown)} show${shown.length === 1 ? "s" : ""} the known key`,
    value: undefined,
  };
}

/** The first node that can be worked on, as the worker would take it. */
export function checkLogins(answers: readonly NodeAnswer[]): Finding<Shell> {
  const good = answers.filter(({ error }) => error === undefined);
  const errors = answers.flatMap(({ error }) => error ?? []);
  const dead = errors.filter((error) => !isHostKeyError(error));
  const reasons = dead.map(({ message }) => message);
  const [first] = good;
  const [reason] = dead;
  if (first === undefined) {
    if (reason === undefined) return { state: "skipped", message: 'not checked, because "host key" failed' };
    return { state: "failed", message: reasons.join("\n"), hint: reason.hint, code: reason.code };
  }
  const account = `${names(good)} take${good.length === 1 ? "s" : ""} ${first.shell.account}`;
  if (reason === undefined) return { state: "ok", message: account, value: first.shell };
  const hint = `Jobs are submitted on ${first.shell.host} meanwhile. ${reason.hint}`;
  const message = [account, ...reasons].join("\n");
  return { state: "warning", message, hint, code: reason.code, value: first.shell };
}

function isHostKeyError({ code }: MentoError): boolean {
  return code === "host-key-unknown" || code === "host-key-changed";
}

function names(answers: readonly NodeAnswer[]): string {
  return answers.map(({ shell }) => shell.host).join(", ");
}

/** Clocks that differ by more are worth a word. */
export const WARN_SECONDS = 2;
const FAIL_SECONDS = 60;

/** The clocks of the node, and of the file system that its jobs' directories are on, against this host's at that moment. */
export async function checkClock(shell: Shell, directory: string): Promise<Finding<undefined>> {
  const before = Date.now();
  const end = await shell.run(`date +%s.%N
f=$(mktemp ${quote(`${directory}/.mento-doctor-XXXXXX`)}) && stat -c %.9Y "$f"; rm -f "$f"`);
  const middle = (before + Date.now()) / 2000;
  const [clock = NaN, files] = [...end.stdout.toString("utf8").matchAll(/^\d+(?:\.\d+)?$/gm)].map(([time]) =>
    Number(time),
  );
  if (Number.isNaN(clock)) {
    const hint = "`date +%s` there must print seconds since 1970.";
    return { state: "failed", message: `${shell.host} does not tell its time: ${end.stderr.trim()}`, hint };
  }
  return checkClocks([
    { of: shell.host, ahead: clock - middle },
    ...(files === undefined ? [] : [{ of: `${directory}'s file system`, ahead: files - middle }]),
  ]);
}

/** A clock, and by how many seconds it is ahead of this host's. */
interface OtherClock {
  of: string;
  ahead: number;
}

export function checkClocks(clocks: readonly OtherClock[]): Finding<undefined> {
  const message = clocks
    .map(({ of, ahead }, at) => `${at === 0 ? "the clock" : "that"} of ${of} is ${differenceOf(ahead)}`)
    .join(", ");
  const worst = Math.max(...clocks.map(({ ahead }) => Math.abs(ahead)));
  const hint =
    "Have the time service (chrony, NTP) of all looked at. `received` and `submitted` of a job do not fit together, and where the nodes differ by more than 15 min, what jobs say of their start and end is left out.";
  if (worst > FAIL_SECONDS) return { state: "failed", message, hint };
  if (worst > WARN_SECONDS) return { state: "warning", message, hint, value: undefined };
  return { state: "ok", message, value: undefined };
}

/** `0.4 s ahead of this host's` */
export function differenceOf(ahead: number): string {
  return `${Math.abs(ahead).toFixed(1)} s ${ahead < 0 ? "behind" : "ahead of"} this host's`;
}
