import { MentoError, errorText, type ErrorCode } from "../errors.ts";

/** One line of what `mento doctor` prints. */
export interface CheckResult {
  /** The session that was looked at; null for what belongs to none. */
  session: string | null;
  check: string;
  state: "ok" | "warning" | "failed" | "skipped";
  code: ErrorCode | null;
  message: string;
  hint: string | null;
}

/** What a check has found. With a value, the checks that need it can go on. */
export type Finding<T> =
  | { state: "ok"; message: string; value: T }
  | { state: "warning"; message: string; hint: string | null; code?: ErrorCode; value: T }
  | { state: "failed"; message: string; hint: string; code?: ErrorCode }
  | { state: "skipped"; message: string };

/** A check that is done: its value, or which check has failed before it. */
export type Done<T> = { value: T } | { blocker: string };

/** Checks one after the other. One that needs another's value is skipped if there is none. */
export class Checklist {
  readonly #show: (result: CheckResult) => void;
  readonly #stop: AbortSignal;
  readonly #results: CheckResult[] = [];
  #warnings: string[] = [];

  constructor(show: (result: CheckResult) => void, stop: AbortSignal) {
    this.#show = show;
    this.#stop = stop;
  }

  get results(): readonly CheckResult[] {
    return this.#results;
  }

  /** What the parts that a check uses warn of is said with its result. */
  warn(text: string): void {
    this.#warnings.push(text);
  }

  /** Whatever the check throws is a failure; only when the command was stopped, it is thrown on. */
  async check<N, T>(
    { check, session = null }: { check: string; session?: string | null },
    need: Done<N>,
    look: (value: N) => Finding<T> | Promise<Finding<T>>,
  ): Promise<Done<T>> {
    this.#stop.throwIfAborted();
    const finding: Finding<T> =
      "value" in need
        ? await this.#found(() => look(need.value))
        : { state: "skipped", message: `not checked, because "${need.blocker}" failed` };
    const { state, message } = finding;
    const result: CheckResult = {
      ...{ session, check, state, code: null, message, hint: null },
      ...("hint" in finding && { hint: finding.hint }),
      ...("code" in finding && { code: finding.code }),
    };
    this.#results.push(result);
    this.#show(result);
    if ("value" in finding) return { value: finding.value };
    return { blocker: "blocker" in need ? need.blocker : check };
  }

  async #found<T>(look: () => Finding<T> | Promise<Finding<T>>): Promise<Finding<T>> {
    this.#warnings = [];
    try {
      const finding = await look();
      if (finding.state !== "ok" || this.#warnings.length === 0) return finding;
      const message = [finding.message, ...this.#warnings].join("\n");
      return { state: "warning", message, hint: null, value: finding.value };
    } catch (error) {
      this.#stop.throwIfAborted();
      return failure(error);
    }
  }
}

/** What a check that needs no other is given. */
export const NOTHING_NEEDED: Done<undefined> = { value: undefined };

export function failure(error: unknown): Finding<never> {
  if (error instanceof MentoError) {
    const { code, message, hint } = error;
    return { state: "failed", message, hint, code };
  }
  const hint = "Mento did not expect this; please report it.";
  return { state: "failed", message: errorText(error), hint, code: "internal-error" };
}

const WORDS = { ok: "ok", warning: "warning", failed: "FAILED", skipped: "skipped" };

/**
 * The lines for a person.
 *
 * @param idWidth the room for sessions' ids, where several are told apart by them; else 0
 */
export function describeResult(result: CheckResult, idWidth: number): string {
  const { session, check, state, code, message, hint } = result;
  const name = idWidth > 0 && session !== null ? `${session}: ${check}` : check;
  const head = `${WORDS[state].padEnd(8)} ${name.padEnd(20 + (idWidth > 0 ? idWidth + 2 : 0))} `;
  const lines = [...message.split("\n"), ...(hint === null ? [] : [`→ ${hint}${code ? ` [${code}]` : ""}`])];
  return head + lines.join(`\n${" ".repeat(head.length)}`);
}
