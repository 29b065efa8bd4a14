import { createHash } from "node:crypto";
import { PrivateKeys } from "./beamtime/private-key.ts";
import { reservationFor } from "./beamtime/reservation.ts";
import type { Session } from "./beamtime/session.ts";
import type { MentoConfig } from "./config.ts";
import type { Shell } from "./shells/shell.ts";
import { ReservedNodes } from "./shells/reserved-nodes.ts";
import { SshShell } from "./shells/ssh.ts";

/**
 * The SSH connections of a process: one for each session's account, key and node, made when needed. A session whose
 * nodes or key have changed gets new ones, and the old are closed.
 */
export class SessionShells {
  readonly #ssh: MentoConfig["ssh"];
  readonly #keys = new PrivateKeys();
  readonly #shells = new Map<string, { version: string; shell: ReservedNodes }>();

  constructor(ssh: MentoConfig["ssh"]) {
    this.#ssh = ssh;
  }

  /** @throws Deferred `private-key-unreadable` */
  async open(session: Session): Promise<Shell> {
    const { online, metadataFile } = session;
    const { file, key } = await this.#keys.read(metadataFile, online.privateKeyPath);
    const { nodes } = reservationFor(online);
    const version = createHash("sha256")
      .update(JSON.stringify([nodes, online.account, file]))
      .update(key)
      .digest("hex");
    const known = this.#shells.get(session.id);
    if (known?.version === version) return known.shell;

    const shells = nodes.map((name) => this.#shellOn(name, online.account, key, file));
    const shell = new ReservedNodes(shells, online.account);
    known?.shell.close();
    this.#shells.set(session.id, { version, shell });
    return shell;
  }

  #shellOn(name: string, account: string, privateKey: Buffer, privateKeyFile: string): SshShell {
    const { connectTimeoutMs, commandTimeoutMs, maxChannels, knownHosts, hostKeys, hosts } = this.#ssh;
    const { address, port } = hosts[name] ?? { address: name, port: 22 };
    return new SshShell(
      { name, address, port, account, privateKey, privateKeyFile },
      { knownHosts, pinned: hostKeys },
      { connectTimeout: connectTimeoutMs, commandTimeout: commandTimeoutMs, maxChannels },
    );
  }

  closeAll(): void {
    for (const { shell } of this.#shells.values()) shell.close();
    this.#shells.clear();
  }
}
