import { createHash } from "node:crypto";
import { appendFileSync } from "node:fs";
import { setImmediate as nextTick } from "node:timers/promises";
import { Misconfigured, errorText } from "../errors.ts";
import { isMissing, readGivenFile, readPlainFile, type FileRules } from "../files/plain-file.ts";
import { isAbout, parseKnownHosts, typeOf, type KnownHostsLine } from "./known-hosts-file.ts";

/** `SHA256:…`, as `ssh-keygen -lf` prints it. */
export function fingerprint(hostKey: Buffer): string {
  return "SHA256:" + createHash("sha256").update(hostKey).digest("base64").replace(/=+$/, "");
}

/** What a host key is held against. */
export interface HostKeyRules {
  /** OpenSSH known_hosts files. */
  knownHosts: readonly string[];
  /** Node name → fingerprints that are accepted for it. */
  pinned: Readonly<Record<string, readonly string[]>>;
  /** Where the key of a node that nothing is known of is written down, and from then on expected. */
  acceptNew?: { file: string; accepted: (node: string, fingerprint: string) => void };
}

interface Node {
  name: string;
  address: string;
  port: number;
}

/** What the files say of a node, under its name and under its address, as ssh(1) looks them up. */
export interface KnownOfNode {
  keys: { key: Buffer; type: string }[];
  revoked: { key: Buffer; file: string }[];
  /** Files that have a certificate authority for it. */
  authorities: string[];
  /** Files that could not be read. */
  unread: { file: string; why: string; isMissing: boolean }[];
}

/** The configuration names the files, which are often links; the keys of 20,000 hosts fit. */
const KNOWN_HOSTS: FileRules = { maxBytes: 8 * 1024 * 1024, links: "follow" };
/** Hashed names take a hash each: between so many others get their turn. */
const LINES_AT_ONCE = 1_000;

/** Reads all files to their end: a key can be revoked anywhere. One that cannot be read does not stop the others. */
export async function knownOfNode(node: Node, rules: HostKeyRules): Promise<KnownOfNode> {
  const known: KnownOfNode = { keys: [], revoked: [], authorities: [], unread: [] };
  const accepted = rules.acceptNew === undefined ? [] : [rules.acceptNew.file];
  for (const file of [...rules.knownHosts, ...accepted]) {
    try {
      const { bytes } = await readPlainFile(file, KNOWN_HOSTS);
      let count = 0;
      for (const line of parseKnownHosts(bytes.toString("latin1"))) {
        if (++count % LINES_AT_ONCE === 0) await nextTick();
        if (isAboutNode(line, node)) take(line, file, known);
      }
    } catch (error) {
      if (accepted.includes(file) && isMissing(error)) continue;
      known.unread.push({ file, why: errorText(error), isMissing: isMissing(error) });
    }
  }
  known.keys = known.keys.filter(({ key }) => !known.revoked.some((one) => one.key.equals(key)));
  return known;
}

function take({ jobComment, key, type }: KnownHostsLine, file: string, known: KnownOfNode): void {
  if (jobComment === "@revoked") known.revoked.push({ key, file });
  else if (jobComment === "@cert-authority") known.authorities.push(file);
  else known.keys.push({ key, type });
}

/** A key may have been revoked under any name: ssh(1) looks for those with the port, and for the name without. */
function isAboutNode(line: KnownHostsLine, { name, address, port }: Node): boolean {
  const names = [hostPattern(name, 22), hostPattern(address, port)];
  if (line.jobComment === "@revoked") names.push(hostPattern(name, port), hostPattern(address, 22));
  return names.some((one) => isAbout(line, one));
}

/**
 * Accepts the key that a node shows, or throws. A revoked key is never accepted; else a pin for the node decides alone;
 * else the known_hosts files do.
 *
 * @throws Misconfigured `host-key-unknown`, `host-key-changed`
 */
export function checkHostKey(key: Buffer, node: Node, known: KnownOfNode, rules: HostKeyRules): void {
  const shown = fingerprint(key);
  const revoked = known.revoked.find((one) => one.key.equals(key));
  if (revoked !== undefined) throw changed(node, shown, `${revoked.file} marks that key as revoked`);
  const pins = pinsOf(node, rules);
  if (pins !== undefined) {
    if (pins.includes(shown)) return;
    throw changed(node, shown, `the configuration (ssh.hostKeys) has ${pins.join(", ")}`);
  }
  if (known.keys.some((one) => one.key.equals(key))) return;
  if (known.keys.length > 0) throw changed(node, shown, `${filesOf(rules).join(", ")} has another`);
  const { acceptNew } = rules;
  // What nobody could read may know another key, or that this one is revoked.
  const mayAccept = known.authorities.length === 0 && known.unread.every((one) => one.isMissing);
  if (acceptNew === undefined || !mayAccept) throw unknown(node, shown, known);
  accept(key, node, shown, acceptNew);
}

/** Written down, unless another connection has just done so. */
function accept(
  key: Buffer,
  node: Node,
  shown: string,
  acceptNew: Required<HostKeyRules>["acceptNew"],
): void {
  const { file, accepted } = acceptNew;
  const since = acceptedSince(file).filter((line) => isAboutNode(line, node));
  if (since.some((line) => line.key.equals(key))) return;
  if (since.length > 0) throw changed(node, shown, `${file} has another`);
  appendFileSync(file, `${knownHostsLine(key, node)}\n`, { mode: 0o600 });
  accepted(node.name, shown);
}

function acceptedSince(file: string): KnownHostsLine[] {
  try {
    return [...parseKnownHosts(readGivenFile(file, KNOWN_HOSTS).bytes.toString("latin1"))];
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/** The line of a known_hosts file for a node that shows this key. */
export function knownHostsLine(key: Buffer, node: Node): string {
  const names = [...new Set([hostPattern(node.name, 22), hostPattern(node.address, node.port)])];
  return `${names.join(",")} ${typeOf(key) ?? ""} ${key.toString("base64")}`;
}

/**
 * The types of host key that the files know for a node, e.g. `ssh-ed25519`: those are to be asked for first, as ssh(1)
 * does, else a node that has another type too would seem to have changed its key. Empty if the files know or decide
 * nothing.
 */
export function knownKeyTypes(node: Node, known: KnownOfNode, rules: HostKeyRules): string[] {
  if (pinsOf(node, rules) !== undefined) return [];
  return [...new Set(known.keys.map(({ type }) => type))];
}

function pinsOf({ name }: Node, { pinned }: HostKeyRules): readonly string[] | undefined {
  return Object.hasOwn(pinned, name) ? pinned[name] : undefined;
}

function filesOf({ knownHosts, acceptNew }: HostKeyRules): string[] {
  return [...knownHosts, ...(acceptNew === undefined ? [] : [acceptNew.file])];
}

function changed(node: { name: string }, shown: string, what: string): Misconfigured {
  return new Misconfigured({
    code: "host-key-changed",
    message: `${node.name} shows the host key ${shown}, but ${what}.`,
    hint: "Ask the operator of the node whether its key was changed; if so, take the old one out there.",
  });
}

function unknown({ name, address, port }: Node, shown: string, known: KnownOfNode): Misconfigured {
  const add = "add it: ssh.hostKeys in the configuration, or a line in a file of ssh.knownHosts";
  const unread = known.unread.map(({ file, why }) => ` ${file} cannot be read: ${why}.`).join("");
  const [authority] = known.authorities;
  const what =
    authority === undefined
      ? `There is no known host key for ${name} (${address}:${port}); it shows ${shown}.`
      : `${authority} has only a certificate authority (@cert-authority) for ${name} (${address}:${port}), and Mento checks keys, not certificates; it shows the key ${shown}.`;
  return new Misconfigured({
    code: "host-key-unknown",
    message: `${what}${unread}`,
    hint:
      unread === ""
        ? `If that is its key, ${add}.`
        : `Correct ssh.knownHosts; or, if that is its key, ${add}.`,
  });
}

function hostPattern(host: string, port: number): string {
  return port === 22 ? host.toLowerCase() : `[${host.toLowerCase()}]:${port}`;
}
