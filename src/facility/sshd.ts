import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { NODES } from "./nodes.ts";
import { findProgram, type Say } from "./packages.ts";
import { run, runChecked, SYSTEM_PATH } from "./processes.ts";
import { isServerRunning, startOnFreePorts, startServer, waitForServers } from "./server.ts";
import { slurmEnvironment } from "./slurm.ts";
import {
  type FacilityState,
  makeDirectory,
  placesOf,
  reachedAt,
  readText,
  writeFileAtomically,
} from "./state.ts";

export const SSH_PORTS = 1;
const HOST_KEY = "host_ed25519";

export async function describeSshd(state: FacilityState) {
  const hostKey = join(sshDirectory(state.dir), `${HOST_KEY}.pub`);
  const fingerprint = await runChecked("ssh-keygen", ["-l", "-E", "sha256", "-f", hostKey]);
  return {
    address: reachedAt(state),
    port: state.ports.ssh[0] ?? 0,
    knownHosts: placesOf(state.dir).knownHosts,
    hostKeyFingerprint: fingerprint.split(" ")[1] ?? "",
  };
}

/** One sshd that stands for the sshd of every reserved node. */
export async function startSshd(state: FacilityState, say: Say): Promise<void> {
  if (isServerRunning(state, "sshd")) return;
  say("starting sshd …");
  makeDirectory(placesOf(state.dir).authorizedKeys);
  makeDirectory(placesOf(state.dir).bin);
  const hostKey = await ensureHostKey(state.dir);
  // Where sshd, as root, locks its unprivileged half in; a machine without a running sshd of its own may lack it.
  if (process.getuid?.() === 0) mkdirSync("/run/sshd", { recursive: true, mode: 0o755 });

  await startOnFreePorts(state, { part: "ssh", servers: ["sshd"] }, say, async ([port = 0]) => {
    const configuration = join(sshDirectory(state.dir), "sshd_config");
    writeFileAtomically(configuration, sshdConfig(state, port), 0o644);
    // sshd starts itself again for each connection, and so wants its whole path.
    const program = findProgram("sshd") ?? "sshd";
    const args = ["-f", configuration, ...(await withoutPenalties(program, configuration))];
    await startServer(state, { name: "sshd", program, args: ["-D", "-e", ...args] });
    await waitForServers(state, ["sshd"], 20, () => showsKey(reachedAt(state), port, hostKey));
    writeFileSync(placesOf(state.dir).knownHosts, knownHosts(reachedAt(state), port, hostKey));
  });
  say("sshd is ready");
}

/**
 * Since 9.8 OpenSSH takes no connection for a while from where logins have failed: after three of them, and eight nodes
 * share this sshd.
 */
async function withoutPenalties(program: string, configuration: string): Promise<string[]> {
  const option = ["-o", "PerSourcePenalties=no"];
  const test = await run(program, ["-t", "-f", configuration, ...option]);
  return test.exitCode === 0 ? option : [];
}

/** sshd's configuration. MaxSessions and MaxStartups stay at their defaults, which Mento has to live with. */
function sshdConfig({ dir, serving }: FacilityState, port: number): string {
  const environment = { ...slurmEnvironment(dir), PATH: `${placesOf(dir).bin}:${SYSTEM_PATH}` };
  const settings = [
    `Port ${port}`,
    `ListenAddress ${serving?.address ?? "127.0.0.1"}`,
    `HostKey ${join(sshDirectory(dir), HOST_KEY)}`,
    "PidFile none",
    `AuthorizedKeysFile ${placesOf(dir).authorizedKeys}/%u`,
    // It refuses keys below a directory that anybody may write to, such as /tmp.
    "StrictModes no",
    "UsePAM no",
    "PasswordAuthentication no",
    "KbdInteractiveAuthentication no",
    "PermitRootLogin prohibit-password",
    "UseDNS no",
    "X11Forwarding no",
    "PrintMotd no",
    "PrintLastLog no",
    "Subsystem sftp internal-sftp",
    // A second SetEnv line would be ignored.
    `SetEnv ${Object.entries(environment)
      .map(([name, value]) => `${name}=${value}`)
      .join(" ")}`,
  ];
  return `${settings.join("\n")}\n`;
}

async function ensureHostKey(dir: string): Promise<string> {
  const file = join(sshDirectory(dir), HOST_KEY);
  if (!existsSync(`${file}.pub`)) {
    rmSync(file, { force: true });
    await runChecked("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "mento facility", "-f", file]);
  }
  return readText(`${file}.pub`).split(" ").slice(0, 2).join(" ");
}

/** True once a server on this port proves to have our host key. */
async function showsKey(address: string, port: number, hostKey: string): Promise<boolean> {
  const args = ["-T", "5", "-t", "ed25519", "-p", String(port), address];
  const scan = await run("ssh-keyscan", args, { timeoutSeconds: 10 });
  return scan.stdout.includes(hostKey);
}

/** Each node's name has an entry too, for clients that are told to check the key under that name; and this machine's. */
function knownHosts(address: string, port: number, hostKey: string): string {
  const hosts = [address, hostname(), ...NODES.map(({ name }) => name)];
  return hosts.map((host) => `[${host}]:${port} ${hostKey}\n`).join("");
}

function sshDirectory(dir: string): string {
  return join(dir, "ssh");
}
