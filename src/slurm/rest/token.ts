import { execFile } from "node:child_process";
import * as z from "zod";
import { Deferred, errorText } from "../../errors.ts";
import { parsePlainJson } from "../../messages/json.ts";
import { readPlainFile, textOf, type FileRules } from "../../files/plain-file.ts";

/**
 * Gives the token to send.
 *
 * @param refused the token that the server has just refused: another is given if there is one
 * @throws Deferred `slurm-rest-token`
 */
export type Token = (refused?: string) => Promise<string>;

/** A token that ends sooner is not relied on. */
const SPARE_SECONDS = 60;
/** So often a command is run again at most for a token that is refused, or whose end is not known. */
const AGAIN_AFTER_SECONDS = 60;

/** A token has less than 1 kB. The configuration names the file; Kubernetes mounts it as a link. */
const TOKEN_FILE: FileRules = { maxBytes: 64 * 1024, links: "follow" };

/**
 * The token in a file, as `scontrol token` prints it or bare. It is read each time: whoever renews it need tell nobody.
 */
export function tokenFromFile(file: string, now: () => Date): Token {
  return async () => {
    const { bytes } = await readPlainFile(file, TOKEN_FILE).catch((error: unknown) => {
      throw noToken(
        `The token file ${file} cannot be read: ${errorText(error)}.`,
        "Make it readable for this account.",
      );
    });
    const token = findToken(textOf(bytes));
    if (token === undefined) {
      throw noToken(`${file} holds no token.`, "It must hold what `scontrol token` prints.");
    }
    const { end } = claimsOf(token);
    if (end !== undefined && end <= now().getTime()) {
      const when = new Date(end).toISOString();
      throw noToken(
        `The token in ${file} has expired, at ${when}.`,
        "Renew it: scontrol token lifespan=SECONDS > FILE",
      );
    }
    return token;
  };
}

/** The token that a command prints, which is run without a shell, once at a time, and again before its token ends. */
export function tokenFromCommand(command: readonly string[], timeoutMs: number, now: () => Date): Token {
  let held: { token: string; end: number; since: number } | undefined;
  let running: Promise<string> | undefined;

  const renew = async (): Promise<string> => {
    try {
      const token = findToken(await output(command, timeoutMs));
      if (token === undefined) throw noToken(`${command[0] ?? ""} printed no token.`, COMMAND_HINT);
      const since = now().getTime();
      const { end = since + (AGAIN_AFTER_SECONDS + SPARE_SECONDS) * 1000 } = claimsOf(token);
      if (end <= since) throw noToken(`${command[0] ?? ""} printed a token that has expired.`, COMMAND_HINT);
      held = { token, end, since };
      return token;
    } catch (error) {
      // The old one is still good for a while.
      if (held !== undefined && held.end > now().getTime()) return held.token;
      throw error;
    } finally {
      running = undefined;
    }
  };

  return async (refused) => {
    const time = now().getTime();
    if (held !== undefined) {
      const isRefused = held.token === refused && time - held.since >= AGAIN_AFTER_SECONDS * 1000;
      if (held.end - time > SPARE_SECONDS * 1000 && !isRefused) return held.token;
    }
    return (running ??= renew());
  };
}

const COMMAND_HINT = "slurmRest.tokenCommand must print a token, as `scontrol token` does.";

/** `SLURM_JWT=…` on a line of its own, or nothing but the token. */
export function findToken(text: string): string | undefined {
  const named = /^(?:export )?SLURM_JWT=["']?([\x21-\x7e]+?)["']?\s*$/m.exec(text)?.[1];
  return named ?? /^\s*([\x21-\x3c\x3e-\x7e]+)\s*$/.exec(text)?.[1];
}

const Claims = z.looseObject({ exp: z.number().optional(), sun: z.string().optional() });

/** When a token ends, and whose it is, as far as it says; nothing of it is verified here. Milliseconds since 1970. */
export function claimsOf(token: string): { end: number | undefined; user: string | undefined } {
  try {
    const payload = Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8");
    const { exp, sun } = Claims.parse(parsePlainJson(payload));
    return { end: exp === undefined ? undefined : exp * 1000, user: sun };
  } catch {
    return { end: undefined, user: undefined };
  }
}

function output(command: readonly string[], timeout: number): Promise<string> {
  const [program = "", ...args] = command;
  return new Promise((resolve, reject) => {
    const options = { timeout, killSignal: "SIGKILL", maxBuffer: 1024 * 1024 } as const;
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      if (error === null) {
        resolve(stdout);
        return;
      }
      // Not what it printed: a token could be in it.
      const how =
        error.killed === true
          ? `did not end within ${timeout} ms`
          : `failed: ${lastWords(stderr, error.code)}`;
      reject(noToken(`${program} ${how}.`, COMMAND_HINT));
    });
    child.stdin?.end();
  });
}

function lastWords(stderr: string, code: unknown): string {
  const line = stderr.trim().split("\n").at(-1) ?? "";
  return line === "" || /SLURM_JWT|eyJ/.test(line) ? `exit code ${String(code)}` : line.slice(0, 200);
}

export function tokenOfAnother(user: string, account: string): Deferred {
  return noToken(
    `The token for Slurm's REST server is of ${user}, and the session's account is ${account}.`,
    `Give slurmRest a token of ${account}: a job of another account would write where ${account} can lay links.`,
  );
}

export function noToken(message: string, hint: string): Deferred {
  return new Deferred({ code: "slurm-rest-token", message, hint, giveUpAfterSeconds: 24 * 3600 });
}
