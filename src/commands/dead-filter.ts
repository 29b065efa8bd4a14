import type { Command } from "commander";
import type { MentoConfig } from "../config/config.ts";
import { ERROR_CODES } from "../errors.ts";
import { wrongUsage } from "../facility/wrong-usage.ts";
import type { DeadLetter } from "../messages/dead-letter.ts";
import { nearest } from "../text/nearest.ts";
import { sinceOption } from "./option-values.ts";

/** Which dead letters a command is for. */
export interface FilterOptions {
  group?: string;
  allGroups?: true;
  code?: string;
  path?: string;
  beamline?: string;
  since?: Date;
}

export function withFilterOptions(command: Command): Command {
  return command
    .option("--group <group>", "of this worker group; default: the configuration's own")
    .option("--all-groups", "of every group, and those that do not say of which")
    .option("--code <code>", "with this error code; - for those that RabbitMQ gave up by itself")
    .option("--path <part>", "about data with this in its path")
    .option("--beamline <beamline>", "whose message names this beamline")
    .option("--since <time>", "first seen since then: 2h, or a time", sinceOption);
}

export interface DeadFilter {
  fits: (deadLetter: DeadLetter) => boolean;
  isOfGroup: (deadLetter: DeadLetter) => boolean;
  /** `group default, code wrong-schema`. */
  words: string;
}

/**
 * @throws Misconfigured `wrong-usage`
 */
export function deadFilterOf(options: FilterOptions, { broker, worker }: MentoConfig): DeadFilter {
  const { group, allGroups = false, code, path, beamline, since } = options;
  if (allGroups && group !== undefined)
    throw wrongUsage("Both --group and --all-groups are given.", "Leave one of them out.");
  if (code !== undefined && code !== "-" && !Object.hasOwn(ERROR_CODES, code)) {
    const near = nearest(code, Object.keys(ERROR_CODES));
    const hint = near === undefined ? "docs/errors.md lists them." : `Did you mean ${near}?`;
    throw wrongUsage(`There is no error code ${code}.`, hint);
  }
  const wanted = group ?? worker.group;
  const isOfGroup = (one: DeadLetter) => allGroups || groupOf(one, broker.prefix) === wanted;
  const fits = (one: DeadLetter) =>
    isOfGroup(one) &&
    (code === undefined || (one.error.code ?? "-") === code) &&
    (path === undefined || one.paths.some((each) => each.includes(path))) &&
    (beamline === undefined || one.beamline?.toLowerCase() === beamline.toLowerCase()) &&
    (since === undefined || Date.parse(one.firstSeen ?? "") >= since.getTime());
  const words = [
    allGroups ? "all groups" : `group ${wanted}`,
    ...(code === undefined ? [] : [`code ${code}`]),
    ...(path === undefined ? [] : [`path ${path}`]),
    ...(beamline === undefined ? [] : [`beamline ${beamline}`]),
    ...(since === undefined ? [] : [`since ${since.toISOString()}`]),
  ];
  return { fits, isOfGroup, words: words.join(", ") };
}

export function isFiltered({ group, allGroups, code, path, beamline, since }: FilterOptions): boolean {
  return [group, allGroups, code, path, beamline, since].some((one) => one !== undefined);
}

/** Of whose queue it came; null if it does not say. */
export function groupOf({ queue }: DeadLetter, prefix: string): string | null {
  const rest = queue?.startsWith(`${prefix}.`) === true ? queue.slice(prefix.length + 1) : "";
  return /^([A-Za-z0-9_-]+)\.(?:intake|jobs|trigger\..+|wait\..+)(?:\..+)?$/.exec(rest)?.[1] ?? null;
}
