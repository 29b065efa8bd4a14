/** One node of the facility's cluster, with a slurmd of its own. */
export interface Node {
  name: string;
  features: readonly string[];
  partition: string;
}

/** Whose nodes a beamtime asks for: those of all beamlines, or those of its own beamline alone. */
export type Resources = "common" | "dedicated";

export const PARTITION = "ponline";
/** Where everybody's pre-started beamtimes are, with a reservation each; no start hands it out. */
export const SHARED_NODE = "max-display001";

export const NODES: readonly Node[] = [
  { name: "max-wn001", features: ["cpu"], partition: PARTITION },
  { name: "max-wn002", features: ["cpu"], partition: PARTITION },
  { name: "max-wn003", features: ["gpu", "P100"], partition: PARTITION },
  { name: SHARED_NODE, features: ["cpu", "shared"], partition: PARTITION },
  { name: "max-p11-001", features: ["AP", "cpu"], partition: "ponline_p11" },
  { name: "max-p11-002", features: ["AP", "AC", "cpu"], partition: "ponline_p11" },
  { name: "max-p11-003", features: ["AC", "gpu", "A100"], partition: "ponline_p11" },
  { name: "max-p11-004", features: ["AC", "gpu", "H100"], partition: "ponline_p11" },
];

/** The nodes that a beamline may ask for; no dedicated ones at most beamlines. */
export function nodesFor(resources: Resources, beamline: string): Node[] {
  const partition = resources === "common" ? PARTITION : `${PARTITION}_${beamline}`;
  return NODES.filter((node) => node.partition === partition && node.name !== SHARED_NODE);
}

/** `max-p11-001 (AP,cpu), max-p11-003 (AC,gpu,A100)` */
export function listNodes(nodes: readonly Node[]): string {
  return nodes.map(({ name, features }) => `${name} (${features.join(",")})`).join(", ");
}
