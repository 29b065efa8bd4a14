import { statSync } from "node:fs";
import { parseConfig } from "./config-file.ts";
import type { ConfigMistake } from "./config-yaml.ts";
import { LARGEST_CONFIG } from "./config-yaml.ts";
import type { MentoConfig } from "./config-schema.ts";
import { Misconfigured, errorText } from "../errors.ts";
import { NotPlain, readGivenFile, textOf, type FileRules } from "../files/plain-file.ts";

export type { MentoConfig };

/** Where a configuration is looked for when the command does not say. */
export function configFile(
  option: string | undefined,
  environment: NodeJS.ProcessEnv,
  exists: (file: string) => boolean,
): string {
  const candidates = ["./mento.yaml", "/etc/mento/mento.yaml"];
  const found = option ?? environment["MENTO_CONFIG"] ?? candidates.find(exists);
  if (found !== undefined) return found;
  throw new Misconfigured({
    code: "configuration-unreadable",
    message: `There is no configuration: no -c, no MENTO_CONFIG, no ${candidates.join(", no ")}.`,
    hint: "Write one with `mento init`.",
  });
}

/** Whoever starts Mento names it; Kubernetes mounts it as a link. */
export const CONFIG_FILE: FileRules = { maxBytes: LARGEST_CONFIG, links: "follow" };
const PASSWORD_FILE: FileRules = { maxBytes: 64 * 1024, links: "follow" };

/** A configuration, and the text of the file that it came from. */
export interface ReadConfig {
  config: MentoConfig;
  text: string;
  /** What others can read and should not; null: nothing. */
  warning: string | null;
}

/** Reads and checks a configuration file; the environment's `MENTO_<SECTION>_<KEY>` wins over it. */
export function loadConfig(file: string, environment: NodeJS.ProcessEnv): MentoConfig {
  return readConfig(file, environment).config;
}

/** The same, with the file's text. */
export function readConfig(file: string, environment: NodeJS.ProcessEnv): ReadConfig {
  let text: string;
  let mode: number;
  try {
    const read = readGivenFile(file, { ...CONFIG_FILE, pipes: true });
    text = textOf(read.bytes);
    mode = read.mode;
  } catch (cause) {
    throw new Misconfigured({
      code: "configuration-unreadable",
      message: `The configuration ${file} cannot be read: ${errorText(cause)}.`,
      hint: "Write one with `mento init`, or name another with -c.",
      cause,
    });
  }
  const config = configFrom(text, file, environment);
  return { config, text, warning: openSecret(file, mode, config) };
}

/** A sentence if other accounts can read a file that holds the broker's password; null if not. */
export function openSecret(file: string, mode: number, { broker }: MentoConfig): string | null {
  const ofPassword = broker.passwordFile === undefined ? null : openPasswordFile(broker.passwordFile);
  if (ofPassword !== null) return ofPassword;
  const inUrl = [broker.url].flat().some((url) => URL.canParse(url) && new URL(url).password !== "");
  const hasPassword = broker.password !== undefined || inUrl;
  if (!hasPassword || (mode & 0o044) === 0) return null;
  const bits = (mode & 0o777).toString(8);
  return `${file} holds the broker's password, and other accounts can read it (mode ${bits}): chmod 600 ${file}, or write the password into a file of its own (broker.passwordFile).`;
}

function openPasswordFile(file: string): string | null {
  const mode = statSync(file, { throwIfNoEntry: false })?.mode ?? 0;
  if ((mode & 0o044) === 0) return null;
  return `${file} holds the broker's password, and other accounts can read it (mode ${(mode & 0o777).toString(8)}): chmod 600 ${file}.`;
}

/** `mento.yaml:4:11: worker.concurrency: must be …`, as compilers write it. */
export function mistakeLine(file: string, { line, column, place, message }: ConfigMistake): string {
  const where = line === null ? "environment" : [file, line, column].filter((one) => one !== null).join(":");
  return `${where}: ${place === "" ? "" : `${place}: `}${message}`;
}

/** Checks what a configuration file says. */
export function configFrom(text: string, file: string, environment: NodeJS.ProcessEnv): MentoConfig {
  const { config, mistakes } = parseConfig(text, environment);
  if (config !== undefined) return config;
  const list = mistakes.map((one) => `  ${mistakeLine(file, one)}`);
  throw new Misconfigured({
    code: "wrong-configuration",
    message: `The configuration has ${mistakes.length} mistake${mistakes.length === 1 ? "" : "s"}:\n${list.join("\n")}`,
    hint: "docs/configuration.md describes every key.",
  });
}

/** The password, from wherever it is given. */
export function brokerCredentials(broker: MentoConfig["broker"]): {
  username: string | undefined;
  password: string | undefined;
} {
  if (broker.passwordFile === undefined) return { username: broker.username, password: broker.password };
  try {
    const password = textOf(readGivenFile(broker.passwordFile, PASSWORD_FILE).bytes).replace(/\r?\n$/, "");
    if (password === "") throw new NotPlain("it is empty, and a password is expected in its first line");
    return { username: broker.username, password };
  } catch (cause) {
    throw new Misconfigured({
      code: "configuration-unreadable",
      message: `The broker's password file ${broker.passwordFile} cannot be read: ${errorText(cause)}.`,
      hint: "Correct broker.passwordFile, write the password into it, or make the file readable for this account.",
      cause,
    });
  }
}

/** The nodes that triggers name. */
export function destinationsOf({ triggers }: MentoConfig): string[] {
  return triggers.flatMap(({ destination }) => destination ?? []);
}
