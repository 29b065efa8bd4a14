import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { afterAll, describe, expect, it } from "vitest";
import { SLURM_PACKAGES } from "../src/facility/packages.ts";

const file = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8");
const folder = mkdtempSync(join(tmpdir(), "mento-containers-"));
chmodSync(folder, 0o755);
afterAll(() => rmSync(folder, { recursive: true }));

/** A copy of the scripts that any account can read. */
const scripts = join(folder, "project/scripts/containers");
cpSync(new URL("../scripts/containers", import.meta.url), scripts, { recursive: true });

/** What `prepare` says where `docker` is this shell script, to somebody who is not root. */
function prepare(docker: string, env: Record<string, string> = {}) {
  const bin = mkdtempSync(join(folder, "bin-"));
  chmodSync(bin, 0o755);
  writeFileSync(join(bin, "docker"), `#!/bin/sh\n${docker}\n`, { mode: 0o755 });
  const temporary = mkdtempSync(join(folder, "tmp-"));
  chmodSync(temporary, 0o777);
  const node = join(folder, "node");
  mkdirSync(folder, { recursive: true });
  copyFileSync(process.execPath, node);
  const nobody = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  return spawnSync(node, [join(scripts, "main.mjs"), "prepare"], {
    env: { PATH: `${bin}:/usr/bin:/bin`, TMPDIR: temporary, ...env },
    encoding: "utf8",
    ...nobody,
  });
}

/** What engine 20.10 and the client 28.2 say where no registry is in reach. */
const CANNOT_PULL = `case $1 in
  version) echo 20.10.24+dfsg1 ;;
  pull) echo 'Error response from daemon: Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io on 192.0.2.53:53: no such host' >&2; exit 1 ;;
  *) exit 1 ;;
esac`;

describe("npm run containers -- prepare", () => {
  it("says in one sentence that there is no engine, and what to do", () => {
    const { status, stderr } = prepare(
      "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock.' >&2; exit 1",
    );
    expect(status).toBe(1);
    expect(stderr.trim()).toBe(
      "No Docker engine answers: start one, set DOCKER_HOST, or run this as root on Debian or Ubuntu, where it is installed.",
    );
  });

  it("says which engine does not answer, if DOCKER_HOST names one", () => {
    const { status, stderr } = prepare("exit 1", { DOCKER_HOST: "tcp://192.0.2.1:2375" });
    expect(status).toBe(1);
    expect(stderr.trim()).toBe(
      "No Docker engine answers at tcp://192.0.2.1:2375 (DOCKER_HOST): start it, or unset the variable.",
    );
  });

  it("tells an engine that cannot pull from none, with the image, the reason and what to do", () => {
    const { status, stderr } = prepare(CANNOT_PULL);
    expect(status).toBe(1);
    const sentence = stderr.trim().split("\n").at(-1);
    expect(sentence).toMatch(
      /^The Docker engine answers, but cannot pull node:24-trixie-slim \(.*no such host\): set /,
    );
    expect(sentence).toContain("NODE_IMAGE, DEBIAN_IMAGE, RABBITMQ_IMAGE");
  });

  it("names the image that a site has set and that cannot be pulled", () => {
    const { stderr } = prepare(CANNOT_PULL, { NODE_IMAGE: "mirror.example/node:24" });
    expect(stderr).toContain("cannot pull mirror.example/node:24 ");
  });
});

describe("the images", () => {
  it("have the facility's packages, as `mento facility up` installs them", () => {
    const dockerfile = file("Dockerfile");
    for (const name of SLURM_PACKAGES) expect(dockerfile).toMatch(new RegExp(`\\s${name}\\s`));
    expect(file("containers/facility.Dockerfile")).toContain(" rabbitmq-server");
  });

  it("all have a variable in docker-compose.yml, and ports on loopback alone", () => {
    const compose = file("docker-compose.yml");
    const images = [...compose.matchAll(/(?:image|_IMAGE): (.*)/g)].map(([, image]) => image);
    expect(images.length).toBeGreaterThan(4);
    for (const image of images) expect(image).toMatch(/^\$\{[A-Z]+_IMAGE:-/);
    for (const [, port] of compose.matchAll(/"(\S+:\d+)"/g)) expect(port).toMatch(/^127\.0\.0\.1:/);
  });

  it("give the broker two logins, no administrators, with the rights and passwords that are documented", () => {
    interface Login {
      name: string;
      password_hash: string;
      tags: string[];
    }
    interface Definitions {
      users: Login[];
      permissions: { user: string; configure: string; write: string; read: string }[];
    }
    const { users, permissions } = JSON.parse(file("containers/rabbitmq-definitions.json")) as Definitions;
    expect(users.map(({ name }) => name)).toEqual(["worker", "detector"]);
    expect(users.flatMap(({ tags }) => tags)).not.toContain("administrator");
    for (const { name, password_hash } of users) {
      // https://www.rabbitmq.com/docs/passwords#computing-password-hash
      const bytes = Buffer.from(password_hash, "base64");
      const salted = Buffer.concat([bytes.subarray(0, 4), Buffer.from(name)]);
      expect(createHash("sha256").update(salted).digest()).toEqual(bytes.subarray(4));
      expect(file("docker-compose.yml")).toContain(
        `USERNAME: ${name}\n      MENTO_BROKER_PASSWORD: ${name}\n`,
      );
    }
    const documented = (login: string) =>
      new RegExp(`set_permissions -p mento ${login} '(.*)' '(.*)' '(.*)'`)
        .exec(file("docs/security.md"))
        ?.slice(1);
    const [worker, detector] = permissions.map(({ configure, write, read }) => [configure, write, read]);
    expect(worker).toEqual(documented("worker"));
    // It shows what becomes of its data, too.
    expect(detector?.slice(0, 2)).toEqual(documented("detector")?.slice(0, 2));
    expect(detector?.[2]).toBe(documented("viewer")?.[2]);
  });

  it("take nothing into them but what they need", () => {
    const [first, ...others] = file(".dockerignore").trim().split("\n");
    expect(first).toBe("*");
    expect(others.every((line) => line.startsWith("!"))).toBe(true);
  });
});
