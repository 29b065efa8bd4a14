import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** The known_hosts files that ssh(1) looks into by itself, as far as they are there. */
export function knownHostsHere(): string[] {
  return ["/etc/ssh/ssh_known_hosts", join(homedir(), ".ssh/known_hosts")].filter((file) => existsSync(file));
}
