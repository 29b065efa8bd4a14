import { createHash } from "node:crypto";
import { reservationFor } from "./beamtime/reservation.ts";
import { PrivateKeys } from "./beamtime/private-key.ts";
import type { Session } from "./beamtime/session.ts";
import type { MentoConfig } from "./config.ts";
import type { Shell } from "./shells/shell.ts";
import { SshShell } from "./shells/ssh.ts";

/**
 * The SSH connections of a process: one for each session's account, node and key. A session whose node or key has
 * changed gets a new one, and the old is closed.
 */
export class SessionShells {
  readonly #ssh: MentoConfig["ssh"];
  readonly #keys = new PrivateKeys();
  readonly #shells = new Map<string, { version: string; shell: SshShell }>();

  constructor(ssh: MentoConfig["ssh"]) {
    this.#ssh = ssh;
  }

  /** @throws Deferred `private-key-unreadable` */
  async open(session: Session): Promise<Shell> {
    const { online, metadataFile } = session;
    const { file, key } = await this.#keys.read(metadataFile, online.privateKeyPath);
    const [name = ""] = reservationFor(online).nodes;
    const version = createHash("sha256").update(`${name} ${online.account} `).update(key).digest("hex");
    const known = this.#shells.get(session.id);
    if (known?.version === version) return known.shell;

    const { address, port } = this.#ssh.hosts[name] ?? { address: name, port: 22 };
    const shell = new SshShell(
      { name, address, port, account: online.account, privateKey: key, privateKeyFile: file },
      { knownHosts: this.#ssh.knownHosts, pinned: this.#ssh.hostKeys },
      {
        connectTimeout: this.#ssh.connectTimeoutMs,
        commandTimeout: this.#ssh.commandTimeoutMs,
        maxChannels: this.#ssh.maxChannels,
      },
    );
    known?.shell.close();
    this.#shells.set(session.id, { version, shell });
    return shell;
  }

  closeAll(): void {
    for (const { shell } of this.#shells.values()) shell.close();
    this.#shells.clear();
  }
}
