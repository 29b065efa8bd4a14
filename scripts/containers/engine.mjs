import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ask, run, Trouble } from "./run.mjs";

/** Of an engine that is started here: all that it keeps. */
const ENGINE_DIRECTORY = "/var/lib/mento-engine";
const PID_FILE = join(ENGINE_DIRECTORY, "pid");
const LOG = join(ENGINE_DIRECTORY, "log");
/** There if the engine was started for tests alone: then they end it. */
const FOR_TESTS = join(ENGINE_DIRECTORY, "for-tests");
const PACKAGES = ["docker.io", "docker-compose", "iptables"];

/** The version of the Docker engine that answers here; undefined: none does. */
export function engineVersion() {
  return ask("docker", ["version", "--format", "{{.Server.Version}}"]) || undefined;
}

/** Root on a system of Debian's kind can have an engine and base images without any registry. */
export function canInstall() {
  return process.getuid?.() === 0 && existsSync("/usr/bin/apt-get");
}

/** @param {string[]} names */
export async function installPackages(names, log = LOG) {
  if (
    ask("dpkg-query", ["--show", "--showformat=${db:Status-Abbrev}\n", ...names])?.match(/^ii/gm)?.length ===
    names.length
  )
    return;
  mkdirSync(ENGINE_DIRECTORY, { recursive: true });
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const options = ["-q", "-o", "DPkg::Lock::Timeout=120"];
  await run("apt-get", [...options, "update"], { log, env });
  await run("apt-get", [...options, "install", "--yes", "--no-install-recommends", ...names], { log, env });
}

/**
 * An engine that answers: the one that is there, or one that is started here.
 *
 * @param {(step: string) => void} say
 * @param {{ forTests: boolean }} options
 */
export async function ensureEngine(say, { forTests }) {
  const isThere = engineVersion() !== undefined;
  if (!isThere) await startEngine(say);
  if (!canInstall() || !existsSync(ENGINE_DIRECTORY)) return;
  if (!forTests) rmSync(FOR_TESTS, { force: true });
  else if (!isThere) writeFileSync(FOR_TESTS, "");
}

async function startEngine(/** @type {(step: string) => void} */ say) {
  const { DOCKER_HOST } = process.env;
  if (DOCKER_HOST !== undefined) {
    throw new Trouble(
      `No Docker engine answers at ${DOCKER_HOST} (DOCKER_HOST): start it, or unset the variable.`,
    );
  }
  if (!canInstall()) {
    throw new Trouble(
      "No Docker engine answers: start one, set DOCKER_HOST, or run this as root on Debian or Ubuntu, where it is installed.",
    );
  }
  say(`installing ${PACKAGES.join(" ")}`);
  await installPackages(PACKAGES);
  // A packaged engine may have been started by its installation.
  if (engineVersion() !== undefined) return;
  await stopEngine();
  say("starting a Docker engine");
  mkdirSync(ENGINE_DIRECTORY, { recursive: true });
  const log = openSync(LOG, "a");
  const engine = spawn(
    "dockerd",
    [
      ...["--data-root", join(ENGINE_DIRECTORY, "data"), "--exec-root", join(ENGINE_DIRECTORY, "exec")],
      ...["--pidfile", join(ENGINE_DIRECTORY, "docker.pid"), "--host", "unix:///var/run/docker.sock"],
    ],
    { detached: true, stdio: ["ignore", log, log] },
  );
  closeSync(log);
  let failed = false;
  engine.on("error", () => (failed = true));
  engine.on("exit", () => (failed = true));
  engine.unref();
  writeFileSync(PID_FILE, String(engine.pid ?? ""));
  for (let tries = 0; tries < 120 && !failed; tries++) {
    if (engineVersion() !== undefined) return;
    await sleep(500);
  }
  const end = readFileSync(LOG, "utf8").trimEnd().split("\n").slice(-5).join("\n");
  await stopEngine();
  throw new Trouble(`dockerd does not answer; its log ends:\n${end}`);
}

/** Ends the engine that was started here, if one was, and removes what it kept. */
export async function stopEngine() {
  const pid = existsSync(PID_FILE) ? Number(readFileSync(PID_FILE, "utf8")) : 0;
  if (pid > 0 && isDockerd(pid)) {
    process.kill(pid, "SIGTERM");
    for (let tries = 0; tries < 120 && isDockerd(pid); tries++) await sleep(500);
  }
  if (!existsSync(ENGINE_DIRECTORY)) return;
  // Mounts of containers whose engine was killed.
  const mounts = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "");
  for (const mount of mounts.filter((path) => path.startsWith(`${ENGINE_DIRECTORY}/`)).reverse()) {
    ask("umount", ["--lazy", mount]);
  }
  rmSync(ENGINE_DIRECTORY, { recursive: true, force: true });
}

/** The same, of an engine that was started for tests alone. */
export async function stopEngineOfTests() {
  if (existsSync(FOR_TESTS)) await stopEngine();
}

/** @param {number} pid */
function isDockerd(pid) {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "dockerd";
  } catch {
    return false;
  }
}
