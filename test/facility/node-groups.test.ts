import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fitsConstraint } from "../../src/beamtime/constraint.ts";
import { assignNodes, chooseNodes, type NodeGroup, nodeGroups } from "../../src/facility/node-groups.ts";
import { type Node, NODES, nodesFor, type Resources } from "../../src/facility/nodes.ts";
import { errorOf } from "./error-of.ts";

const asked = (nodes: string | null, feature: string | null = null, resources: Resources = "dedicated") => {
  return { resources, nodes, feature };
};
/** The short names of the nodes that a start would reserve. */
function chosen(
  nodes: string | null,
  feature: string | null = null,
  resources: Resources = "dedicated",
  busy: string[] = [],
): string[] {
  const groups = nodeGroups(asked(nodes, feature, resources));
  const isFree = ({ name }: Node) => !busy.some((end) => name.endsWith(end));
  const all = chooseNodes(groups, { resources, beamline: "p11" }, isFree);
  return all.map((group) => group.map(({ name }) => name.slice(-3)).join(" "));
}

describe("nodeGroups", () => {
  it.each<[string | null, string | null, Resources, NodeGroup[]]>([
    [null, null, "common", [{ count: 1, constraint: "cpu" }]],
    [null, "gpu", "common", [{ count: 1, constraint: "gpu" }]],
    ["2", null, "common", [{ count: 2, constraint: "" }]],
    [null, null, "dedicated", [{ count: "all", constraint: "" }]],
    [null, "AP&cpu", "dedicated", [{ count: "all", constraint: "AP&cpu" }]],
  ])("of --nodes %s --feature %s in %s resources are %j", (nodes, feature, resources, groups) => {
    expect(nodeGroups(asked(nodes, feature, resources))).toEqual(groups);
  });

  it.each<[string, string, string[]]>([
    ["2:2", "AP:AC", ["AP", "AC"]],
    ["1:1", "gpu", ["gpu", "gpu"]],
    ["1:1:1", "AP:AC", ["AP", "AC", ""]],
    ["1:1:1", ":AC:AP", ["", "AC", "AP"]],
  ])("of --nodes %s --feature %s have the features %j", (nodes, feature, constraints) => {
    expect(nodeGroups(asked(nodes, feature)).map(({ constraint }) => constraint)).toEqual(constraints);
  });

  it.each([
    ["0", null],
    ["2:", null],
    ["", null],
    ["-1", null],
    ["1.5", null],
    ["2:x", null],
    ["1", "AP:AC"],
    [null, "AP:AC"],
    ["1", ""],
    ["1", "AP&&AC"],
    ["1:1", "AP:(AC"],
  ])("refuses --nodes %j --feature %j", (nodes, feature) => {
    expect(errorOf(() => nodeGroups(asked(nodes, feature))).code).toBe("wrong-usage");
  });

  it("refuses what it cannot read with its code, whatever the text", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (nodes, feature) => {
        try {
          expect(nodeGroups(asked(nodes, feature)).length).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toMatchObject({ code: "wrong-usage" });
        }
      }),
    );
  });
});

describe("chooseNodes", () => {
  it.each([
    ["2:2", "AP:AC", ["001 002", "003 004"]],
    // 002 has both features; the second group needs it.
    ["1:3", "AP:AC", ["001", "002 003 004"]],
    ["1:1:1", "AP:AC", ["001", "002", "003"]],
    ["1:1:1", ":AC:AP", ["001", "003", "002"]],
    ["1:1", "gpu", ["003", "004"]],
    ["2", null, ["001 002"]],
    [null, null, ["001 002 003 004"]],
    [null, "A100|H100", ["003 004"]],
    [null, "!gpu", ["001 002"]],
    // One of them for all nodes, the first that can.
    ["2", "[AP|AC]", ["001 002"]],
    ["3", "[AP|AC]", ["002 003 004"]],
    [null, "[AP|AC]", ["001 002"]],
    ["1:2", "[AP|gpu]:[gpu|AC]", ["001", "003 004"]],
    ["2", "AP*1&AC*1", ["001 002"]],
    ["1", "AP*1&AC*1", ["001 002"]],
    ["1", "gpu*1&AP*1", ["001 003"]],
    ["3", "[AP*1&gpu*2]", ["001 003 004"]],
    [null, "AP*1&AC*1", ["001 002 003 004"]],
  ])("gives --nodes %s --feature %s the dedicated nodes %j", (nodes, feature, groups) => {
    expect(chosen(nodes, feature)).toEqual(groups);
  });

  it("gives a common CPU node if nothing else is asked, and GPU nodes last", () => {
    expect(chosen(null, null, "common")).toEqual(["001"]);
    expect(chosen(null, "gpu", "common")).toEqual(["003"]);
    expect(chosen("3", null, "common")).toEqual(["001 002 003"]);
    expect(nodesFor("common", "p11").map(({ name }) => name)).not.toContain("max-display001");
  });

  it("takes only free nodes, and says which are free when they are not enough", () => {
    expect(chosen(null, null, "dedicated", ["001", "004"])).toEqual(["002 003"]);
    expect(() => chosen("1:3", "AP:AC", "dedicated", ["001"])).toThrow(
      "1 node with AP and 3 nodes with AC cannot be reserved now: free are only max-p11-002 (AP,AC,cpu), max-p11-003 (AC,gpu,A100), max-p11-004 (AC,gpu,H100).",
    );
    expect(errorOf(() => chosen(null, null, "common", ["001", "002"])).code).toBe("facility-beamtime");
  });

  it("says where a feature is that the asked nodes do not have", () => {
    const error = errorOf(() => chosen(null, "H100", "common"));
    expect(error.message).toBe(
      "No common node has the feature H100: they are max-wn001 (cpu), max-wn002 (cpu), max-wn003 (gpu,P100).",
    );
    expect(error.hint).toContain("--resources dedicated");
    expect(errorOf(() => chosen(null, "P100")).hint).toContain("--resources common");
  });

  it("refuses more nodes than there are, and dedicated ones where a beamline has none", () => {
    expect(errorOf(() => chosen("5")).code).toBe("wrong-usage");
    const all = { resources: "dedicated" as const, beamline: "p09" };
    const refused = errorOf(() => chooseNodes([{ count: 1, constraint: "" }], all, () => true));
    expect(refused.message).toBe("The beamline p09 has no dedicated nodes.");
  });
});

describe("assignNodes", () => {
  const group = fc.record({
    count: fc.integer({ min: 1, max: 3 }),
    constraint: fc.constantFrom("", "cpu", "gpu", "AP", "AC", "A100|H100", "AP&cpu"),
  });

  it("finds a way wherever there is one, and takes no node twice", () => {
    const property = fc.property(
      fc.array(group, { maxLength: 4 }),
      fc.subarray([...NODES]),
      (groups, free) => {
        const assigned = assignNodes(groups, free);
        expect(assigned !== undefined).toBe(isPossible(groups, free));
        if (assigned === undefined) return;
        expect(new Set(assigned.flat()).size).toBe(assigned.flat().length);
        for (const [place, { count, constraint }] of groups.entries()) {
          expect(assigned[place]).toHaveLength(count);
          expect(assigned[place]?.every((node) => fits(constraint, node))).toBe(true);
        }
      },
    );
    fc.assert(property);
  });
});

const fits = (constraint: string, { features }: Node) =>
  constraint === "" || fitsConstraint(constraint, features) === true;

/** Another way to the same answer: each node wanted finds one, if need be by moving those that were there before. */
function isPossible(groups: { count: number; constraint: string }[], free: Node[]): boolean {
  const wanted = groups.flatMap(({ count, constraint }) => Array.from({ length: count }, () => constraint));
  const holder = new Map<Node, number>();
  const place = (want: number, tried: Set<Node>): boolean =>
    free.some((node) => {
      if (tried.has(node) || !fits(wanted[want] ?? "", node)) return false;
      tried.add(node);
      const before = holder.get(node);
      if (before !== undefined && !place(before, tried)) return false;
      holder.set(node, want);
      return true;
    });
  return wanted.every((_, want) => place(want, new Set()));
}
