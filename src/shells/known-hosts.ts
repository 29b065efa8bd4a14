import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { Misconfigured } from "../errors.ts";

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

/**
 * Accepts the key that a node shows, or throws. A pin for the node decides alone; else the known_hosts files do, under
 * the node's name and under its address, as ssh(1) looks them up.
 *
 * @throws Misconfigured `host-key-unknown`, `host-key-changed`
 */
export function checkHostKey(
  key: Buffer,
  node: { name: string; address: string; port: number },
  rules: HostKeyRules,
): void {
  const shown = fingerprint(key);
  const pins = rules.pinned[node.name];
  if (pins !== undefined) {
    if (pins.includes(shown)) return;
    throw changed(node, shown, `the configuration (ssh.hostKeys) has ${pins.join(", ")}`);
  }
  const names = [hostPattern(node.name, 22), hostPattern(node.address, node.port)];
  let known = false;
  for (const file of filesOf(rules)) {
    for (const line of parseKnownHosts(readKnownHosts(file))) {
      if (!names.some((name) => line.matches(name))) continue;
      if (line.revoked) {
        if (line.key.equals(key)) throw changed(node, shown, `${file} marks that key as revoked`);
        continue;
      }
      if (line.key.equals(key)) return;
      known = true;
    }
  }
  if (known) throw changed(node, shown, `${filesOf(rules).join(", ")} has another`);
  if (rules.acceptNew !== undefined) {
    appendFileSync(rules.acceptNew.file, `${knownHostsLine(key, node)}\n`, { mode: 0o600 });
    rules.acceptNew.accepted(node.name, shown);
    return;
  }
  throw new Misconfigured({
    code: "host-key-unknown",
    message: `There is no known host key for ${node.name} (${node.address}:${node.port}); it shows ${shown}.`,
    hint: "If that is its key, add it: ssh.hostKeys in the configuration, or a line in a file of ssh.knownHosts.",
  });
}

/** The line of a known_hosts file for a node that shows this key. */
export function knownHostsLine(key: Buffer, node: { name: string; address: string; port: number }): string {
  const type = key.subarray(4, 4 + key.readUInt32BE(0)).toString("latin1");
  const names = [...new Set([hostPattern(node.name, 22), hostPattern(node.address, node.port)])];
  return `${names.join(",")} ${type} ${key.toString("base64")}`;
}

function filesOf({ knownHosts, acceptNew }: HostKeyRules): string[] {
  const accepted = acceptNew !== undefined && existsSync(acceptNew.file) ? [acceptNew.file] : [];
  return [...knownHosts, ...accepted];
}

/**
 * The types of host key that the files know for a node, e.g. `ssh-ed25519`: those are to be asked for first, as ssh(1)
 * does, else a node that has another type too would seem to have changed its key. Empty if the files know or decide
 * nothing.
 */
export function knownKeyTypes(
  node: { name: string; address: string; port: number },
  rules: HostKeyRules,
): string[] {
  if (rules.pinned[node.name] !== undefined) return [];
  const names = [hostPattern(node.name, 22), hostPattern(node.address, node.port)];
  const lines = filesOf(rules).flatMap((file) => parseKnownHosts(readKnownHosts(file)));
  const fitting = lines.filter((line) => !line.revoked && names.some((name) => line.matches(name)));
  return [...new Set(fitting.map(({ type }) => type))];
}

function changed(node: { name: string }, shown: string, what: string): Misconfigured {
  return new Misconfigured({
    code: "host-key-changed",
    message: `${node.name} shows the host key ${shown}, but ${what}.`,
    hint: "Ask the operator of the node whether its key was changed; if so, take the old one out there.",
  });
}

function readKnownHosts(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new Misconfigured({
      code: "host-key-unknown",
      message: `The known_hosts file ${file} cannot be read.`,
      hint: "Correct ssh.knownHosts in the configuration.",
      cause,
    });
  }
}

function hostPattern(host: string, port: number): string {
  return port === 22 ? host.toLowerCase() : `[${host.toLowerCase()}]:${port}`;
}

interface KnownHostsLine {
  matches(name: string): boolean;
  revoked: boolean;
  type: string;
  key: Buffer;
}

/** The lines of a known_hosts file, sshd(8) "SSH_KNOWN_HOSTS FILE FORMAT"; certificate authorities are passed over. */
export function parseKnownHosts(text: string): KnownHostsLine[] {
  const lines: KnownHostsLine[] = [];
  for (const line of text.split("\n")) {
    const words = line.trim().split(/\s+/);
    const marker = words[0]?.startsWith("@") === true ? words.shift() : undefined;
    const [hosts, type, key] = words;
    if (hosts === undefined || type === undefined || key === undefined || hosts.startsWith("#")) continue;
    if (marker !== undefined && marker !== "@revoked") continue;
    lines.push({
      matches: (name) => matchesHosts(hosts, name),
      revoked: marker === "@revoked",
      type,
      key: Buffer.from(key, "base64"),
    });
  }
  return lines;
}

function matchesHosts(hosts: string, name: string): boolean {
  if (hosts.startsWith("|1|")) return matchesHashed(hosts, name);
  let found = false;
  for (const pattern of hosts.toLowerCase().split(",")) {
    const negated = pattern.startsWith("!");
    if (!wildcard(negated ? pattern.slice(1) : pattern).test(name)) continue;
    if (negated) return false;
    found = true;
  }
  return found;
}

function wildcard(pattern: string): RegExp {
  const escaped = pattern.replace(/[.+^${}()|[\]\\]/g, String.raw`\$&`);
  return new RegExp(`^${escaped.replaceAll("*", ".*").replaceAll("?", ".")}$`);
}

function matchesHashed(hosts: string, name: string): boolean {
  const [, , salt = "", hash = ""] = hosts.split("|");
  const wanted = Buffer.from(hash, "base64");
  const found = createHmac("sha1", Buffer.from(salt, "base64")).update(name).digest();
  return wanted.length === found.length && timingSafeEqual(wanted, found);
}
