import { execFileSync, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chooseFreePorts } from "../../src/facility/ports.ts";
import { eventually } from "./eventually.ts";
import { runNode } from "./mento.ts";
import type { OwnFacility } from "./own-facility.ts";
import { there } from "./servers.ts";

const INSTALL = fileURLToPath(new URL("install-packages.mjs", import.meta.url));
const PACKAGES = ["slurmdbd", "mariadb-server"];
/** Slurm's controller drops a job so soon after its end. */
const MIN_JOB_AGE_SECONDS = 10;

/**
 * Slurm's accounting for a facility of a test's own: MariaDB and slurmdbd on loopback, in a folder of the facility, and a
 * slurmctld that uses them in place of the facility's.
 */
export class AccountingDatabase {
  readonly #servers: ChildProcess[] = [];

  static async start(own: OwnFacility): Promise<AccountingDatabase> {
    const installed = await runNode([INSTALL, ...PACKAGES]);
    if (installed.code !== 0) throw new Error(installed.stderr);
    const database = new AccountingDatabase();
    await database.#start(own);
    return database;
  }

  async #start(own: OwnFacility): Promise<void> {
    const { facility } = own;
    const folder = join(facility.dir, "accounting");
    mkdirSync(folder);
    chmodSync(folder, 0o755);
    const [sqlPort = 0, dbdPort = 0] = await chooseFreePorts(2, new Set());
    const data = join(folder, "data");
    const user = process.getuid?.() === 0 ? ["--user=root"] : [];
    const install = ["--no-defaults", `--datadir=${data}`, "--skip-test-db", ...user];
    execFileSync(...there("mariadb-install-db", install), { stdio: "ignore" });
    const sql = [
      ...["--no-defaults", ...user, `--datadir=${data}`, `--socket=${join(folder, "sql.socket")}`],
      ...[`--pid-file=${join(folder, "sql.pid")}`, "--bind-address=127.0.0.1", `--port=${sqlPort}`],
      ...["--skip-grant-tables", "--innodb-flush-log-at-trx-commit=0", "--innodb-log-file-size=16M"],
    ];
    this.#spawn("mariadbd", sql, folder, {});
    await listens(sqlPort);

    const conf = readFileSync(facility.slurm.conf, "utf8");
    const of = (key: string) => new RegExp(`^${key}=(.*)$`, "m").exec(conf)?.[1] ?? "";
    const settings = [
      ...["DbdHost=localhost", "DbdAddr=127.0.0.1", `DbdPort=${dbdPort}`, `SlurmUser=${of("SlurmUser")}`],
      ...["AuthType=auth/munge", `AuthInfo=${of("AuthInfo")}`, `PidFile=${join(folder, "slurmdbd.pid")}`],
      ...["StorageType=accounting_storage/mysql", "StorageHost=127.0.0.1", `StoragePort=${sqlPort}`],
      ...["StorageUser=slurm", "StorageLoc=slurm", "DebugLevel=info"],
    ];
    const env = { SLURM_CONF: facility.slurm.conf };
    const dbdConf = join(facility.slurm.conf, "..", "slurmdbd.conf");
    writeFileSync(dbdConf, `${settings.join("\n")}\n`);
    chmodSync(dbdConf, 0o600);
    this.#spawn("slurmdbd", ["-D"], folder, env);
    await listens(dbdPort);

    const accounting = [
      "AccountingStorageType=accounting_storage/slurmdbd",
      ...["AccountingStorageHost=127.0.0.1", `AccountingStoragePort=${dbdPort}`],
      // The socket of munge for what is sent to slurmdbd.
      `AccountingStoragePass=${of("AuthInfo").replace("socket=", "")}`,
    ];
    const changed = conf
      .replace(/^AccountingStorageType=.*$/m, accounting.join("\n"))
      .replace(/^MinJobAge=.*$/m, `MinJobAge=${MIN_JOB_AGE_SECONDS}`);
    writeFileSync(facility.slurm.conf, changed);
    // It answers when it has made its tables.
    const add = ["-i", "add", "cluster", of("ClusterName")];
    const all = { env: { ...process.env, ...env }, timeout: 10_000 };
    await eventually(
      "slurmdbd knows the cluster",
      () => {
        spawnSync(...there("sacctmgr", add), all);
        const { stdout } = spawnSync(...there("sacctmgr", ["-n", "-P", "show", "cluster"]), all);
        return stdout.toString().startsWith(of("ClusterName")) || undefined;
      },
      60_000,
    );
    process.kill(own.pidOf("slurmctld"), "SIGTERM");
    await eventually("slurmctld has ended", () => !answers(own) || undefined);
    this.#spawn("slurmctld", ["-D", "-i"], folder, env);
    await eventually("slurmctld is back", () => answers(own) || undefined, 60_000);
  }

  async stop(): Promise<void> {
    for (const server of this.#servers.reverse()) {
      if (server.exitCode !== null) continue;
      const ended = new Promise((resolve) => server.once("exit", resolve));
      server.kill("SIGTERM");
      const timer = setTimeout(() => server.kill("SIGKILL"), 20_000);
      await ended;
      clearTimeout(timer);
    }
  }

  #spawn(program: string, args: string[], folder: string, env: Record<string, string>): void {
    const path = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
    const [first, rest] = there(program, args);
    const server = spawn(first, rest, {
      cwd: folder,
      env: { ...process.env, PATH: path, ...env },
      stdio: "ignore",
    });
    this.#servers.push(server);
  }
}

function answers({ facility }: OwnFacility): boolean {
  const env = { ...process.env, SLURM_CONF: facility.slurm.conf };
  return spawnSync(...there("timeout", ["5", "squeue"]), { env }).status === 0;
}

function listens(port: number): Promise<true> {
  const look = () =>
    new Promise<true | undefined>((resolve) => {
      const socket = connect({ port, host: "127.0.0.1" });
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(undefined));
      socket.once("close", () => socket.destroy());
    });
  return eventually(`a server listens on port ${port}`, look, 60_000);
}
