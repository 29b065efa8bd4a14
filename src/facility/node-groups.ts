import { fitsConstraint } from "../beamtime/constraint.ts";
import { MentoError } from "../errors.ts";
import { listNodes, type Node, nodesFor, type Resources } from "./nodes.ts";
import type { AskedResources } from "./state.ts";
import { wrongUsage } from "./wrong-usage.ts";

/** The nodes of one reservation, as asked for. */
export interface NodeGroup {
  /** `all`: as many as are free. */
  count: number | "all";
  /** In Slurm's syntax; empty: any node. */
  constraint: string;
}

/**
 * The reservations that `--nodes 2:1 --feature AP:AC` asks for. A single feature is that of all groups; where one is
 * missing, any node will do. Without `--nodes` it is one common node, or all dedicated ones; without either, a CPU node.
 *
 * @throws Misconfigured `wrong-usage`
 */
export function nodeGroups({ resources, nodes, feature }: AskedResources): NodeGroup[] {
  const counts = nodes === null ? [resources === "common" ? 1 : ("all" as const)] : readCounts(nodes);
  if (feature?.trim() === "") throw wrongUsage("--feature is empty.", "Leave it out, or name a feature.");
  const features = feature ?? (resources === "common" && nodes === null ? "cpu" : "");
  const constraints = features.split(":").map((text) => text.trim());
  if (constraints.length > counts.length) {
    const groups = counts.length === 1 ? "one reservation is" : `${counts.length} reservations are`;
    throw wrongUsage(
      `--feature ${features} has ${constraints.length} parts, but ${groups} asked for.`,
      "Give --nodes as many parts, such as --nodes 2:2 --feature AP:AC.",
    );
  }
  for (const constraint of constraints) {
    if (constraint === "" || fitsConstraint(constraint, []) !== undefined) continue;
    throw wrongUsage(
      `--feature ${constraint} is not in Slurm's constraint syntax.`,
      "Write it as for sbatch --constraint: gpu, AP&cpu, P100|A100.",
    );
  }
  const [first = ""] = constraints;
  return counts.map((count, place) => {
    return { count, constraint: constraints.length === 1 ? first : (constraints[place] ?? "") };
  });
}

function readCounts(nodes: string): number[] {
  const counts = nodes.split(":").map(Number);
  if (/^\d{1,4}(:\d{1,4})*$/.test(nodes) && counts.every((count) => count > 0)) return counts;
  throw wrongUsage(
    `--nodes cannot be ${JSON.stringify(nodes)}.`,
    "It looks like 2, or like 2:1:1 for three reservations.",
  );
}

/**
 * Real nodes for each group, out of the free ones.
 *
 * @throws Misconfigured `wrong-usage`: there are no such nodes, or not so many
 * @throws MentoError `facility-beamtime`: not so many of them are free
 */
export function chooseNodes(
  groups: readonly NodeGroup[],
  { resources, beamline }: { resources: Resources; beamline: string },
  isFree: (node: Node) => boolean,
): Node[][] {
  const all = nodesFor(resources, beamline);
  if (all.length === 0) {
    throw wrongUsage(`The beamline ${beamline} has no dedicated nodes.`, "Leave --resources dedicated out.");
  }
  for (const { constraint } of groups) requireFitting(constraint, { resources, beamline });
  const free = all.filter(isFree);
  const chosen = assignNodes(groups, free);
  if (chosen !== undefined) return chosen;
  if (assignNodes(groups, all) === undefined) {
    throw wrongUsage(
      `${describe(groups)} cannot be reserved: the ${resources} nodes are ${listNodes(all)}.`,
      "Ask for less with --nodes or --feature.",
    );
  }
  throw new MentoError({
    code: "facility-beamtime",
    message:
      `${describe(groups)} cannot be reserved now: ` +
      (free.length === 0 ? `no ${resources} node is free.` : `free are only ${listNodes(free)}.`),
    hint: "Ask for less with --nodes or --feature, or stop what has the others; mento facility status lists it.",
  });
}

/** Nodes for each group, no node twice; undefined if there is no way. Earlier nodes are taken first. */
export function assignNodes(groups: readonly NodeGroup[], free: readonly Node[]): Node[][] | undefined {
  const [group, ...others] = groups;
  if (group === undefined) return [];
  for (const taken of waysFor(group, free)) {
    const rest = assignNodes(
      others,
      free.filter((node) => !taken.includes(node)),
    );
    if (rest !== undefined) return [taken, ...rest];
  }
  return undefined;
}

/**
 * As sbatch(1), `--constraint`: of `[AP|AC]` one holds for all nodes, the first that can; of `AP*1&AC*1` so many nodes at
 * least have the one and so many others the other, and the number of nodes is that of both at least.
 */
function* waysFor({ count, constraint }: NodeGroup, free: readonly Node[]): Generator<Node[]> {
  const [, matching] = /^\[([^[\]*]*\|[^[\]*]*)\]$/.exec(constraint.trim()) ?? [];
  if (matching !== undefined) {
    for (const one of matching.split("|")) yield* waysFor({ count, constraint: one.trim() }, free);
    return;
  }
  const counted = countedTerms(constraint);
  const fitting = free.filter((node) => fits(constraint, node));
  if (fitting.length === 0) return;
  const hasCounts = (nodes: readonly Node[]) => assignNodes(counted, nodes) !== undefined;
  if (count === "all") {
    if (hasCounts(fitting)) yield fitting;
    return;
  }
  const least = counted.reduce((sum, term) => sum + Number(term.count), 0);
  for (const taken of waysToTake(Math.max(count, least), fitting)) {
    if (hasCounts(taken)) yield taken;
  }
}

/** `AP*1&AC*2` → one with AP, two with AC. */
function countedTerms(constraint: string): NodeGroup[] {
  const terms = [...constraint.matchAll(/(\([^()]*\)|[^&|,()[\]!*\s]+)\s*\*(\d{1,4})/g)];
  return terms.map(([, feature = "", count]) => ({ count: Number(count), constraint: feature }));
}

function* waysToTake(count: number, nodes: readonly Node[]): Generator<Node[]> {
  if (count === 0) yield [];
  for (const [place, node] of nodes.entries()) {
    if (count === 0 || nodes.length - place < count) return;
    for (const others of waysToTake(count - 1, nodes.slice(place + 1))) yield [node, ...others];
  }
}

function fits(constraint: string, { features }: Node): boolean {
  return constraint === "" || fitsConstraint(constraint, features) === true;
}

function requireFitting(
  constraint: string,
  { resources, beamline }: { resources: Resources; beamline: string },
): void {
  const [asked, other] =
    resources === "common" ? (["common", "dedicated"] as const) : (["dedicated", "common"] as const);
  const haveIt = (which: Resources) => nodesFor(which, beamline).filter((node) => fits(constraint, node));
  if (haveIt(asked).length > 0) return;
  const elsewhere = haveIt(other);
  throw wrongUsage(
    `No ${asked} node has the feature ${constraint}: they are ${listNodes(nodesFor(asked, beamline))}.`,
    elsewhere.length > 0
      ? `Use --resources ${other}: ${listNodes(elsewhere)}.`
      : "Choose a feature that a node has.",
  );
}

/** `2 nodes with AP and 2 nodes with AC` */
function describe(groups: readonly NodeGroup[]): string {
  const parts = groups.map(({ count, constraint }) => {
    const nodes = count === "all" ? "A node" : `${count} node${count === 1 ? "" : "s"}`;
    return constraint === "" ? nodes : `${nodes} with ${constraint}`;
  });
  return parts.join(" and ");
}
