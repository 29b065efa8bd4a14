import { createHash } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { PrivateKeys, type PrivateKey } from "../beamtime/private-key.ts";
import type { OnlineSession, SessionOnline, Sessions } from "../beamtime/session.ts";
import { Deferred, Unavailable } from "../errors.ts";
import { isHostName } from "../slurm/hostlist.ts";
import type { Log } from "../log.ts";
import type { RuntimeDirectory } from "../shells/runtime-directory.ts";
import type { HostKeyRules } from "../shells/known-hosts.ts";
import { ReservedNodes } from "../shells/reserved-nodes.ts";
import type { Shell } from "../shells/shell.ts";
import type { SshTarget } from "../shells/ssh-connection.ts";
import { SshShell } from "../shells/ssh.ts";

/** How nodes are reached; `ssh` of the configuration. */
export interface SshOptions {
  /** Where a node is, if it is not at its name. */
  hosts: Readonly<Record<string, { address: string; port: number }>>;
  knownHosts: HostKeyRules["knownHosts"];
  hostKeys: HostKeyRules["pinned"];
  acceptNewHostKeys: boolean;
  connectTimeoutMs: number;
  commandTimeoutMs: number;
  maxChannels: number;
}

/** What a session's connections need: the account, and the nodes. */
interface OnNodes {
  online: Pick<SessionOnline, "account" | "nodes">;
}

interface Held {
  sessionId: string;
  version: string;
  shell: ReservedNodes;
  usedAt: number;
}

/** A session that is over, and that nobody has used for so long, is let go of. */
const LET_GO_AFTER_MS = 60_000;

/**
 * The SSH connections of a process: one for each session's account, key and node, made when needed. A session whose
 * nodes or key have changed gets new ones, and the old are closed.
 */
export class SessionShells {
  readonly #ssh: SshOptions;
  readonly #runtime: RuntimeDirectory;
  readonly #log: Log;
  readonly #keys: PrivateKeys;
  readonly #held = new Map<string, Held>();
  #isClosed = false;

  constructor(ssh: SshOptions, runtime: RuntimeDirectory, log: Log) {
    this.#ssh = ssh;
    this.#runtime = runtime;
    this.#log = log;
    this.#keys = new PrivateKeys(runtime, (message) => log.warn(message));
  }

  /**
   * All nodes of the session as one shell; or the one node that is named, which need not be reserved.
   *
   * @throws Deferred `private-key-unreadable`, `private-key-format`
   * @throws Unavailable `ssh-unreachable` after {@link close}
   */
  async open(session: OnlineSession, destination?: string): Promise<ReservedNodes> {
    this.#requireNotClosed(session.id);
    const key = await this.readKey(session);
    this.#requireNotClosed(session.id);
    const targets =
      destination === undefined ? this.targets(session, key) : [this.#target(destination, session, key)];
    const version = createHash("sha256")
      .update(JSON.stringify(targets.map(({ name, account }) => [name, account])))
      .update(key.key)
      .digest("hex");
    const target = JSON.stringify([session.id, destination]);
    const known = this.#held.get(target);
    if (known?.version === version) {
      known.usedAt = Date.now();
      return known.shell;
    }
    const shell = new ReservedNodes(this.shellsOn(targets, session.id), session.online.account);
    known?.shell.close();
    this.#held.set(target, { sessionId: session.id, version, shell, usedAt: Date.now() });
    return shell;
  }

  /** One node: the one that is named, else the first of the session's that answers. Throws as {@link open} and `run`. */
  async openNode(session: OnlineSession, destination?: string): Promise<Shell> {
    if (destination !== undefined) return this.open(session, destination);
    return (await this.open(session)).answering();
  }

  /** Our copy of the session's key. Throws as {@link open}. */
  async readKey(session: OnlineSession): Promise<PrivateKey> {
    return this.#keys.read(session.id, session.online.privateKey);
  }

  /** The nodes of all reservations, in the order in which they are tried. */
  targets({ online }: OnNodes, key: PrivateKey): SshTarget[] {
    return [...new Set(online.nodes)].map((name) => this.#target(name, { online }, key));
  }

  /** The one place where a name becomes a host: of metadata, of Slurm's answers, of records, of the configuration. */
  #target(name: string, { online }: OnNodes, key: PrivateKey): SshTarget {
    if (!isHostName(name)) throw noHostName(name);
    return {
      ...{ name, address: name, port: 22 },
      ...(Object.hasOwn(this.#ssh.hosts, name) ? this.#ssh.hosts[name] : undefined),
      account: online.account,
      privateKey: key.key,
      privateKeyFile: key.source,
    };
  }

  /** A shell on each of a session's nodes, not yet connected. Whoever asks for them closes them. */
  shellsOn(targets: readonly SshTarget[], sessionId: string): SshShell[] {
    const rules = this.hostKeyRules(sessionId);
    const { connectTimeoutMs, commandTimeoutMs, maxChannels } = this.#ssh;
    const limits = { connectTimeout: connectTimeoutMs, commandTimeout: commandTimeoutMs, maxChannels };
    return targets.map((target) => new SshShell(target, rules, limits));
  }

  hostKeyRules(sessionId: string): HostKeyRules {
    const { knownHosts, hostKeys, acceptNewHostKeys } = this.#ssh;
    if (!acceptNewHostKeys) return { knownHosts, pinned: hostKeys };
    const accepted = (node: string, fingerprint: string) =>
      this.#log.warn(
        { node, fingerprint, session: sessionId },
        "a new host key was accepted for this session",
      );
    return { knownHosts, pinned: hostKeys, acceptNew: { file: this.#acceptedKeysOf(sessionId), accepted } };
  }

  /** Lets go of sessions that are over: their connections, keys and accepted host keys. */
  async sweep(sessions: Sessions): Promise<void> {
    for (const [target, { sessionId: id, shell, usedAt }] of [...this.#held]) {
      if (Date.now() - usedAt < LET_GO_AFTER_MS) continue;
      if (!(await isOver(id, sessions))) continue;
      shell.close();
      this.#held.delete(target);
      this.#keys.forget(id);
      if (this.#ssh.acceptNewHostKeys) rmSync(this.#acceptedKeysOf(id), { force: true });
      this.#log.info({ session: id }, "the session is over: its connections are closed, its key is removed");
    }
  }

  /** For good: what is still under way opens no connection that would keep the process alive. */
  close(): void {
    this.#isClosed = true;
    this.closeAll();
  }

  /** They are made again when needed. */
  closeAll(): void {
    for (const { shell } of this.#held.values()) shell.close();
    this.#held.clear();
  }

  #requireNotClosed(id: string): void {
    if (!this.#isClosed) return;
    throw new Unavailable({
      code: "ssh-unreachable",
      message: `No connection to the nodes of ${id} is made, because the worker stops.`,
      hint: "The message is handled again.",
    });
  }

  #acceptedKeysOf(sessionId: string): string {
    return join(this.#runtime.lasting("host-keys"), encodeURIComponent(sessionId));
  }
}

/** Not open at the beamline; a file that cannot be read says nothing. */
async function isOver(id: string, sessions: Sessions): Promise<boolean> {
  const { open, broken } = await sessions.open();
  return broken === undefined && !open.some((session) => session.id === id);
}

function noHostName(name: string): Deferred {
  return new Deferred({
    code: "ssh-unreachable",
    message: `${JSON.stringify(name.slice(0, 100))} is no host's name: no connection is made to it.`,
    hint: "Names of nodes have letters, digits, '-' and '.', and do not begin with '-'.",
    giveUpAfterSeconds: 24 * 3600,
  });
}
