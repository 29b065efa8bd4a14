import { createHmac, timingSafeEqual } from "node:crypto";

/** A line of a known_hosts file. */
export interface KnownHostsLine {
  jobComment: "@revoked" | "@cert-authority" | null;
  /** Patterns in lower case, or one hashed name. */
  hosts: string;
  type: string;
  key: Buffer;
}

/**
 * The lines of a known_hosts file, sshd(8) "SSH_KNOWN_HOSTS FILE FORMAT". Lines that OpenSSH passes over are left out: of
 * another form, with an unknown job comment, or with a key of another type than they say.
 */
export function* parseKnownHosts(text: string): Generator<KnownHostsLine> {
  for (const line of text.replace(/^(\uFEFF|\xef\xbb\xbf)/, "").split("\n")) {
    const words = line
      .replace(/\r$/, "")
      .split(/[ \t]+/)
      .filter((word) => word !== "");
    const jobComment = words[0]?.startsWith("@") === true ? words.shift() : null;
    const [hosts, type, base64] = words;
    if (hosts === undefined || type === undefined || base64 === undefined || hosts.startsWith("#")) continue;
    if (jobComment !== null && jobComment !== "@revoked" && jobComment !== "@cert-authority") continue;
    const key = Buffer.from(base64, "base64");
    if (typeOf(key) !== type) continue;
    yield { jobComment, hosts: hosts.startsWith("|") ? hosts : hosts.toLowerCase(), type, key };
  }
}

/** A key begins with the name of its type (RFC 4253, 6.6); undefined if it does not. */
export function typeOf(key: Buffer): string | undefined {
  if (key.length < 4) return undefined;
  const length = key.readUInt32BE(0);
  return length > 64 || length > key.length - 4 ? undefined : key.toString("latin1", 4, 4 + length);
}

/** Whether a line is about a host, whose name is in lower case, with `[…]:port` around it if the port is not 22. */
export function isAbout({ hosts }: KnownHostsLine, name: string): boolean {
  if (hosts.startsWith("|1|")) return matchesHashed(hosts, name);
  let found = false;
  for (const pattern of hosts.split(",")) {
    // OpenSSH's match_pattern_list reads no further, either.
    if (pattern.length > LONGEST_PATTERN) return false;
    const isNegated = pattern.startsWith("!");
    if (!matchesPattern(isNegated ? pattern.slice(1) : pattern, name)) continue;
    if (isNegated) return false;
    found = true;
  }
  return found;
}

const LONGEST_PATTERN = 1023;

/**
 * `*` for any text, `?` for one character. What follows a `*` moves on through the name and never back, so it takes no
 * longer than the product of both lengths, however many stars there are.
 */
export function matchesPattern(pattern: string, name: string): boolean {
  let [inPattern, inName] = [0, 0];
  let [afterStar, tried] = [-1, 0];
  while (inName < name.length) {
    const wanted = pattern[inPattern];
    if (wanted === "*") {
      afterStar = ++inPattern;
      tried = inName;
    } else if (wanted === "?" || wanted === name[inName]) {
      inPattern += 1;
      inName += 1;
    } else if (afterStar >= 0) {
      inPattern = afterStar;
      inName = ++tried;
    } else return false;
  }
  while (pattern[inPattern] === "*") inPattern += 1;
  return inPattern === pattern.length;
}

function matchesHashed(hosts: string, name: string): boolean {
  const [, , salt = "", hash = ""] = hosts.split("|");
  const wanted = Buffer.from(hash, "base64");
  const found = createHmac("sha1", Buffer.from(salt, "base64")).update(name).digest();
  return wanted.length === found.length && timingSafeEqual(wanted, found);
}
