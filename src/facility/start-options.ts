import { parseDuration } from "./duration.ts";
import { nodeGroups } from "./node-groups.ts";
import type { AskedResources, OpenSession } from "./state.ts";
import { wrongUsage } from "./wrong-usage.ts";

/** The options of start-beamtime and start-commissioning as they were typed. */
export interface TypedOptions {
  online?: boolean;
  preStart?: boolean;
  feature?: string;
  /** As one of DESY's examples spells it. */
  features?: string;
  resources?: string;
  nodes?: string;
  asapo?: boolean;
  archive?: boolean;
  proposalType?: string;
  duration?: string;
}

export interface StartOptions {
  preStart: boolean;
  online: boolean;
  /** Whether any option says which nodes. */
  choosesNodes: boolean;
  asked: AskedResources;
  asapo: boolean;
  archive: boolean;
  /** null: not given. */
  proposalType: string | null;
  seconds: number;
}

const DEFAULT_SECONDS = 8 * 3600;

/** Reads each option on its own; throws `wrong-usage` for what cannot be read. */
export function readStartOptions(typed: TypedOptions): StartOptions {
  const { feature, features, resources = "common", nodes = null, proposalType = null } = typed;
  if (feature !== undefined && features !== undefined) {
    throw wrongUsage("--feature and --features are the same option.", "Give one of them.");
  }
  if (resources !== "common" && resources !== "dedicated") {
    throw wrongUsage(`--resources cannot be ${JSON.stringify(resources)}.`, "It is common or dedicated.");
  }
  if (proposalType !== null && !/^[A-Z]{1,4}$/.test(proposalType)) {
    throw wrongUsage(
      `${JSON.stringify(proposalType)} cannot be a proposal type.`,
      "It is H (in-house), I, II, C or P (industry), for example.",
    );
  }
  const asked: AskedResources = { resources, feature: feature ?? features ?? null, nodes };
  nodeGroups(asked);
  return {
    preStart: typed.preStart === true,
    online: typed.online === true,
    choosesNodes: [typed.resources, asked.feature ?? undefined, typed.nodes].some((one) => one !== undefined),
    asked,
    asapo: typed.asapo === true,
    archive: typed.archive === true,
    proposalType,
    seconds: typed.duration === undefined ? DEFAULT_SECONDS : readDuration(typed.duration),
  };
}

function readDuration(text: string): number {
  const seconds = parseDuration(text);
  if (seconds !== undefined) return seconds;
  throw wrongUsage(
    `--duration cannot be ${JSON.stringify(text)}.`,
    "It looks like 8h, 20m, 90s, 01:30:00 or 2-00:00:00 (two days), and is a year at most.",
  );
}

/** What belongs together: throws `wrong-usage` if the options do not. `preStarted` is the beamtime's pre-start. */
export function requireSensible(options: StartOptions, preStarted: OpenSession | undefined): void {
  const { preStart, online, asked } = options;
  if (preStart && online) {
    throw wrongUsage(
      "--pre-start and --online exclude each other.",
      "Pre-start with --pre-start; start later without.",
    );
  }
  if (preStarted !== undefined) requireSame(options, preStarted);
  const proposalType = options.proposalType ?? preStarted?.proposalType ?? "H";
  const withNodes = preStart || online || preStarted !== undefined;
  if (options.choosesNodes && !withNodes) {
    throw wrongUsage(
      "--resources, --feature and --nodes say which nodes to reserve, but none are asked for.",
      "Add --online to reserve them now, or --pre-start.",
    );
  }
  if (proposalType === "P" && withNodes && asked.resources !== "dedicated") {
    throw wrongUsage(
      "A beamtime of proposal type P (industry) must not use the common nodes.",
      "Add --resources dedicated, or leave --online and --pre-start out.",
    );
  }
  if (options.archive && proposalType !== "P") {
    throw wrongUsage(
      "--archive is for proposal type P (industry) only.",
      "Leave it out, or add --proposalType P.",
    );
  }
}

/** The real tool wants the options of the pre-start again. */
function requireSame({ asked, proposalType }: StartOptions, preStarted: OpenSession): void {
  const before = preStarted.asked;
  if (optionsText(asked) !== optionsText(before)) {
    const options = optionsText(before);
    throw wrongUsage(
      `Beamtime ${preStarted.id} was pre-started ${options === "" ? "without --resources, --feature and --nodes" : `with ${options}`}.`,
      options === "" ? "Start it without them too." : `Repeat exactly these: ${options}`,
    );
  }
  if (proposalType !== null && proposalType !== preStarted.proposalType) {
    throw wrongUsage(
      `Beamtime ${preStarted.id} was pre-started with proposal type ${preStarted.proposalType}.`,
      "Leave --proposalType out, or repeat it.",
    );
  }
}

/** The options that make a start ask for the same, as they would be typed. */
function optionsText({ resources, feature, nodes }: AskedResources): string {
  return [
    ...(resources === "common" ? [] : ["--resources", resources]),
    ...(feature === null ? [] : ["--feature", /^[\w:,.-]+$/.test(feature) ? feature : `'${feature}'`]),
    ...(nodes === null ? [] : ["--nodes", nodes]),
  ].join(" ");
}
