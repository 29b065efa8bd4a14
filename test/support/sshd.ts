import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { chooseFreePorts } from "../../src/facility/ports.ts";
import { eventually } from "./eventually.ts";
import { there } from "./servers.ts";

/** An sshd on loopback with settings of its own (`MaxSessions 2`), which lets this process's own account in. */
export async function startSshd(settings: string[]) {
  const folder = mkdtempSync(join(tmpdir(), "mento-sshd-"));
  const file = (name: string) => join(folder, name);
  for (const name of ["host", "user"]) {
    execFileSync(...there("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", file(name)]));
  }
  const [port = 0] = await chooseFreePorts(1, new Set());
  const lines = [
    ...settings,
    `Port ${port}`,
    "ListenAddress 127.0.0.1",
    `HostKey ${file("host")}`,
    `AuthorizedKeysFile ${file("user.pub")}`,
    "PidFile none",
    "StrictModes no",
    "UsePAM no",
    "UseDNS no",
    "PermitRootLogin prohibit-password",
    // Else bash reads its start files for each command.
    "SetEnv SHLVL=1",
  ];
  writeFileSync(file("config"), `${lines.join("\n")}\n`);
  if (process.getuid?.() === 0) execFileSync(...there("mkdir", ["-p", "/run/sshd"]));
  const server = spawn(...there("/usr/sbin/sshd", ["-D", "-e", "-f", file("config")]), { stdio: "pipe" });
  let log = "";
  server.stderr.on("data", (chunk: Buffer) => (log += chunk.toString("utf8")));
  await eventually("sshd listens", () => (log.includes("Server listening") ? true : undefined));
  const fingerprint = execFileSync(...there("ssh-keygen", ["-lf", file("host.pub")]), { encoding: "utf8" });
  return {
    target: {
      name: "node",
      address: "127.0.0.1",
      port,
      account: userInfo().username,
      privateKey: readFileSync(file("user")),
      privateKeyFile: file("user"),
    },
    hostKeys: { knownHosts: [], pinned: { node: [fingerprint.split(" ")[1] ?? ""] } },
    log: () => log,
    stop: async () => {
      const ended = new Promise((resolve) => server.once("exit", resolve));
      server.kill();
      await ended;
      rmSync(folder, { recursive: true });
    },
  };
}
