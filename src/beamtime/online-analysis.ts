import { expandHostlist, isHostName } from "../slurm/hostlist.ts";
import { LONGEST_PATH } from "../messages/path-text.ts";

/** One reservation of a session. */
export interface SessionReservation {
  /** null at a site that has none: the partition and nodes alone. */
  name: string | null;
  /** null: what Slurm has for the reservation, else its default. */
  partition: string | null;
  nodes: string[];
}

/** The keys of `onlineAnalysis` that something cannot do without. */
export type OnlineKey = "reservedNodes" | "slurmReservation" | "sshPrivateKeyPath" | "userAccount";

/** Where and as whom a session's jobs run. Of what is null, `trouble` says what the file has instead. */
export interface OnlineResources {
  /** In the file's order, at least one. */
  reservations: SessionReservation[] | null;
  /** Of all reservations; at least one. */
  nodes: string[] | null;
  /** Relative to the directory of the metadata file. */
  privateKeyPath: string | null;
  account: string | null;
  failure: Partial<Record<OnlineKey, string>>;
}

/** What the value of a key is, or what is wrong with it. */
type Read<T> = { value: T } | { wrong: string };

/**
 * `onlineAnalysis` of a metadata file. A key that is missing, or that cannot be what it should, stops only what needs it:
 * a job over Slurm's REST API needs no key, and a command on a node no reservation.
 */
export function readOnlineAnalysis(file: Readonly<Record<string, unknown>>): OnlineResources {
  const names = readNames(file["slurmReservation"]);
  const partitions = readNames(file["slurmPartition"]);
  const lists = readNodeLists(file["reservedNodes"]);
  const key = readText(
    file["sshPrivateKeyPath"],
    (text) => text.length <= LONGEST_PATH && !/[\0\n]/.test(text),
    "a path",
  );
  const account = readText(file["userAccount"], (text) => ACCOUNT.test(text), "an account's name");
  const wrong = (one: Read<unknown>) => ("wrong" in one ? one.wrong : undefined);
  const failure = {
    reservedNodes: wrong(lists),
    slurmReservation: wrong(names),
    sshPrivateKeyPath: wrong(key),
    userAccount: wrong(account),
  };
  const nodeLists = "value" in lists ? lists.value : { kind: "lists" as const, lists: [] };
  const everyNode = [...new Set(Object.values(nodeLists.lists).flat())];
  return {
    reservations:
      "value" in names
        ? reservationsOf(names.value, "value" in partitions ? partitions.value : [], nodeLists, everyNode)
        : null,
    nodes: everyNode.length === 0 ? null : everyNode,
    privateKeyPath: "value" in key ? key.value : null,
    account: "value" in account ? account.value : null,
    failure: Object.fromEntries(Object.entries(failure).filter(([, what]) => what !== undefined)),
  };
}

const ACCOUNT = /^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}$/;
/** Of a reservation or partition: it becomes the value of an option, in which Slurm takes a comma for the next. */
const SLURM_NAME = /^[!-+.-~][!-+\--~]{0,254}$/;

/** Node names in a list, in a list a reservation, in a text a reservation perhaps, or by the reservation's name. */
type NodeLists =
  { kind: "lists" | "texts"; lists: string[][] } | { kind: "by name"; lists: Record<string, string[]> };

/**
 * Reservations, partitions and node lists belong together by their places or names; a single one is everybody's. Where
 * there are more node lists than names, the others are named by the rule `<name>_1`, `<name>_2`, …
 * (docs.desy.de/asap3, "Online Analysis Resources").
 */
function reservationsOf(
  given: string[],
  partitions: string[],
  nodeLists: NodeLists,
  everyNode: string[],
): SessionReservation[] {
  const [first = ""] = given;
  const names = [...given];
  if (names.length === 1 && nodeLists.kind !== "texts") {
    const more = Object.keys(nodeLists.lists).length;
    for (let number = 1; number < more; number++) names.push(`${first}_${number}`);
  }
  return names.map((name, place) => ({
    name,
    partition: partitions[place] ?? partitions[0] ?? null,
    nodes: nodesOf(nodeLists, { name, place, of: names.length }) ?? everyNode,
  }));
}

function nodesOf(
  { kind, lists }: NodeLists,
  { name, place, of }: { name: string; place: number; of: number },
): string[] | undefined {
  if (kind === "by name") return Object.hasOwn(lists, name) ? lists[name] : undefined;
  // As many texts as reservations, and one of them names several nodes: each is a reservation's.
  return kind === "texts" && lists.length !== of ? undefined : lists[place];
}

function readText(value: unknown, isGood: (text: string) => boolean, what: string): Read<string> {
  const text = asText(value);
  if (text === undefined || text === "") return { wrong: absent(value) };
  return isGood(text) ? { value: text } : { wrong: `is not ${what}: ${shown(text)}` };
}

/** Of reservations, each of which is looked at for each job. */
const MOST_NAMES = 100;

/** One name, several in a list, or several joined by commas; no public file shows more than one. */
function readNames(value: unknown): Read<string[]> {
  const texts = [value].flat().map(asText);
  if (texts.includes(undefined)) return { wrong: absent(value) };
  const names = texts.flatMap((text) => (text ?? "").split(",")).map((name) => name.trim());
  const given = names.filter((name) => name !== "");
  if (given.length === 0) return { wrong: absent(value) };
  if (given.length > MOST_NAMES) return { wrong: `has ${given.length} names; ${MOST_NAMES} are the most` };
  const bad = given.find((name) => !SLURM_NAME.test(name));
  return bad === undefined ? { value: given } : { wrong: `has what is no name: ${shown(bad)}` };
}

function readNodeLists(value: unknown): Read<NodeLists> {
  const lists = nodeListsIn(value);
  if (lists === undefined) return { wrong: absent(value) };
  const all = Object.values(lists.lists).flat();
  if (all.length === 0) return { wrong: absent(value) };
  const bad = all.find((name) => !isHostName(name));
  return bad === undefined ? { value: lists } : { wrong: `has what is no host's name: ${shown(bad)}` };
}

/** Each text may be one name, several with commas, or Slurm's short form. undefined: it is something else. */
function nodeListsIn(value: unknown): NodeLists | undefined {
  const room = { left: MOST_NODES };
  if (typeof value === "string") {
    const lists = expandAll([value], room);
    return lists && { kind: "lists", lists };
  }
  if (Array.isArray(value)) {
    const items: unknown[] = value;
    if (items.length > MOST_NODES) return undefined;
    if (items.every((one) => typeof one === "string")) {
      const lists = expandAll(items, room);
      if (lists === undefined) return undefined;
      const isFlat = lists.every((list) => list.length <= 1);
      return isFlat ? { kind: "lists", lists: [lists.flat()] } : { kind: "texts", lists };
    }
    const lists = everyOne(items, (item) => nodesIn(item, room));
    return lists && { kind: "lists", lists };
  }
  if (typeof value !== "object" || value === null) return undefined;
  if (Object.keys(value).length > MOST_NODES) return undefined;
  const names = Object.keys(value);
  const lists = everyOne(Object.values(value), (list) => nodesIn(list, room));
  return (
    lists && { kind: "by name", lists: Object.fromEntries(names.map((name, at) => [name, lists[at] ?? []])) }
  );
}

/** undefined as soon as one is. */
function everyOne<T>(values: readonly unknown[], read: (value: unknown) => T | undefined): T[] | undefined {
  const all: T[] = [];
  for (const value of values) {
    const one = read(value);
    if (one === undefined) return undefined;
    all.push(one);
  }
  return all;
}

function nodesIn(value: unknown, room: { left: number }): string[] | undefined {
  const texts = [value].flat();
  if (texts.length > MOST_NODES || !texts.every((one) => typeof one === "string")) return undefined;
  return expandAll(texts, room)?.flat();
}

/** More nodes than any beamline has: each text may stand for a hundred thousand, and a file holds many texts. */
const MOST_NODES = 4096;

function expandAll(texts: readonly string[], room: { left: number }): string[][] | undefined {
  return everyOne(texts, (text) => {
    const list = expandHostlist((text as string).trim(), { most: room.left + 1 });
    room.left -= list.length;
    return room.left < 0 ? undefined : list;
  });
}

/** Ids and reservations that look like numbers are sometimes written as numbers. */
export function asText(value: unknown): string | undefined {
  if (typeof value === "string") return value.trim();
  return typeof value === "number" && Number.isSafeInteger(value) ? String(value) : undefined;
}

function absent(value: unknown): string {
  const isEmpty = value === undefined || value === null || value === "";
  return isEmpty ? "is missing" : `cannot be ${shown(value)}`;
}

/** As JSON, so that it stays in its line. */
function shown(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
