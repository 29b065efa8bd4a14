import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { canInstall, installPackages } from "./engine.mjs";
import { ask, run, Stopped, Trouble } from "./run.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
/** The variables of Dockerfile and docker-compose.yml, and what they stand for unless a site says otherwise. */
const USUAL = {
  NODE_IMAGE: "node:24-trixie-slim",
  DEBIAN_IMAGE: "debian:trixie-slim",
  RABBITMQ_IMAGE: "rabbitmq:4-management",
};
/** What is used where these cannot be pulled. */
const MADE_HERE = {
  NODE_IMAGE: "mento-base-node:trixie",
  DEBIAN_IMAGE: "mento-base-debian:trixie",
  RABBITMQ_IMAGE: "mento-rabbitmq",
};
/** Also what a build that fails has begun goes away. */
const BUILD = ["build", "--force-rm"];
/** Of Debian's packages; none: debootstrap's own. */
const { DEBIAN_MIRROR } = process.env;

/** @typedef {typeof USUAL} Images */
/** @typedef {"mento" | "slurm" | "servers" | "rabbitmq"} Target */

/**
 * The images that everything here is built from: those that the environment names, else the usual ones, else, where no
 * registry is in reach, ones that are made here.
 *
 * @param {(step: string) => void} say
 * @param {string} log
 * @returns {Promise<Images>}
 */
export async function baseImages(say, log) {
  const wanted = { ...USUAL };
  for (const name of /** @type {(keyof Images)[]} */ (Object.keys(wanted))) {
    wanted[name] = process.env[name] ?? wanted[name];
  }
  const missing = /** @type {(keyof Images)[]} */ (Object.keys(wanted)).filter(
    (name) => !isThere(wanted[name]),
  );
  for (const name of missing) {
    if (process.env[name] === undefined && isThere(MADE_HERE[name])) {
      say(`using ${MADE_HERE[name]}, made here before (docker rmi ${MADE_HERE[name]} removes it)`);
      wanted[name] = MADE_HERE[name];
      continue;
    }
    say(`pulling ${wanted[name]}`);
    try {
      await run("docker", ["pull", "--quiet", wanted[name]], { log });
    } catch (error) {
      if (error instanceof Stopped) throw error;
      const why = error instanceof Error ? (error.message.split("\n").at(-1) ?? "") : "";
      if (process.env[name] !== undefined || !canInstall()) throw cannotPull(wanted[name], why);
      wanted[name] = MADE_HERE[name];
      if (name === "DEBIAN_IMAGE") await makeDebian(say, log);
      if (name === "NODE_IMAGE") await makeNode(say, log);
    }
  }
  if (wanted.RABBITMQ_IMAGE === MADE_HERE.RABBITMQ_IMAGE && !isThere(wanted.RABBITMQ_IMAGE)) {
    await build("rabbitmq", MADE_HERE.RABBITMQ_IMAGE, wanted, say, log);
  }
  return wanted;
}

/**
 * @param {string} image
 * @param {string} why
 */
function cannotPull(image, why) {
  const variables = Object.keys(USUAL).join(", ");
  return new Trouble(
    `The Docker engine answers, but cannot pull ${image} (${why}): set ${variables} to images that it can pull, of a mirror for example.`,
  );
}

/** @param {string} image */
function isThere(image) {
  return ask("docker", ["image", "inspect", "--format", "{{.Id}}", image]) !== undefined;
}

/** Debian 13 of Debian's packages. */
async function makeDebian(/** @type {(step: string) => void} */ say, /** @type {string} */ log) {
  if (isThere(MADE_HERE.DEBIAN_IMAGE)) return;
  say("making a base image of Debian's packages, since none can be pulled");
  await installPackages(["debootstrap"], log);
  const folder = mkdtempSync(join(tmpdir(), "mento-debian-"));
  try {
    const root = join(folder, "root");
    await run(
      "debootstrap",
      ["--variant=minbase", "trixie", root, ...(DEBIAN_MIRROR === undefined ? [] : [DEBIAN_MIRROR])],
      { log },
    );
    // As the official images have it: an image that was cut off is made anew, so nothing need reach the disk at once.
    writeFileSync(
      join(root, "etc/dpkg/dpkg.cfg.d/in-container"),
      "force-unsafe-io\npath-exclude /usr/share/doc/*\n",
    );
    const apt =
      'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache ""; DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };\n';
    writeFileSync(join(root, "etc/apt/apt.conf.d/in-container"), apt);
    const leave = [
      "./var/cache/apt/archives",
      "./var/lib/apt/lists",
      "./dev",
      "./usr/share/doc",
      "./usr/share/locale",
    ];
    const archive = join(folder, "root.tar");
    const excluded = leave.map((path) => `--exclude=${path}/*`);
    await run("tar", ["-C", root, ...excluded, "-cf", archive, "."], { log });
    await run("docker", ["import", archive, MADE_HERE.DEBIAN_IMAGE], { log });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The same with this machine's Node and npm, and the certificates that it trusts. */
async function makeNode(/** @type {(step: string) => void} */ say, /** @type {string} */ log) {
  await makeDebian(say, log);
  const folder = mkdtempSync(join(tmpdir(), "mento-node-"));
  try {
    const npm = join(ask("npm", ["root", "--global"]) ?? "", "npm");
    const { NODE_EXTRA_CA_CERTS: certificates } = process.env;
    copyFileSync(process.execPath, join(folder, "node"));
    cpSync(npm, join(folder, "npm"), { recursive: true });
    mkdirSync(join(folder, "certificates"));
    const hasOwn = certificates !== undefined && existsSync(certificates);
    if (hasOwn) copyFileSync(certificates, join(folder, "certificates/site.pem"));
    const lines = [
      `FROM ${MADE_HERE.DEBIAN_IMAGE}`,
      "COPY node /usr/local/bin/node",
      "COPY npm /usr/local/lib/node_modules/npm",
      "RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm",
      "COPY certificates /usr/local/share/certificates",
      ...(hasOwn ? ["ENV NODE_EXTRA_CA_CERTS=/usr/local/share/certificates/site.pem"] : []),
    ];
    writeFileSync(join(folder, "Dockerfile"), `${lines.join("\n")}\n`);
    await run("docker", [...BUILD, "--tag", MADE_HERE.NODE_IMAGE, folder], { log });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Where npm has its packages from here, if that is not its usual registry. */
export function npmRegistry() {
  const registry = process.env["NPM_CONFIG_REGISTRY"] ?? ask("npm", ["config", "get", "registry"]);
  const isUsual =
    registry === undefined || registry === "" || /^https:\/\/registry\.npmjs\.org\/?$/.test(registry);
  return isUsual ? {} : { NPM_CONFIG_REGISTRY: registry };
}

/**
 * Builds one of the Dockerfile's images.
 *
 * @param {Target} target
 * @param {string} tag
 * @param {Images} images
 * @param {(step: string) => void} say
 * @param {string} log
 */
export async function build(target, tag, images, say, log) {
  say(`building the image ${tag}`);
  const { NODE_IMAGE, DEBIAN_IMAGE } = images;
  const args = { NODE_IMAGE, DEBIAN_IMAGE, ...npmRegistry() };
  const given = Object.entries(args).flatMap(([name, value]) => ["--build-arg", `${name}=${value}`]);
  await run("docker", [...BUILD, "--target", target, "--tag", tag, ...given, PROJECT], { log });
}

/**
 * What tests start their facilities in.
 *
 * @param {(step: string) => void} say
 * @param {string} log
 * @param {Images} [images] of {@link baseImages}
 * @returns {Promise<string>} its tag
 */
export async function buildFacility(say, log, images) {
  const tag = "mento-facility";
  await build("servers", "mento-servers", images ?? (await baseImages(say, log)), say, log);
  say(`building the image ${tag}`);
  const file = join(PROJECT, "containers/facility.Dockerfile");
  await run("docker", [...BUILD, "--tag", tag, "--file", file, join(PROJECT, "containers")], { log });
  return tag;
}
