// Makes the commands few files, dist/cli: Node loads these in half the time of the library's many, and each command is a
// process of its own. They find package.json and schemas where the library does: two folders up.
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const OUT = "dist/cli";
/** They load parts of their own at run time, or are CommonJS, which gains nothing. */
const EXTERNAL = ["amqplib", "pino", "pino-pretty", "ssh2"];

process.chdir(new URL("..", import.meta.url).pathname);
rmSync(OUT, { recursive: true, force: true });
const { metafile } = await build({
  entryPoints: ["src/main.ts", "src/facility/mirror-daemon.ts", "src/facility/mirror-session.ts"],
  entryNames: "[name]",
  outdir: OUT,
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node20.19",
  external: EXTERNAL,
  banner: {
    js: 'import { createRequire as requireOf } from "node:module"; const require = requireOf(import.meta.url);',
  },
  logLevel: "warning",
  metafile: true,
});

const packages = Object.keys(metafile.inputs).flatMap((file) => {
  const [, name] = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file) ?? [];
  return name ?? [];
});
const licences = [...new Set(packages)].map((name) => {
  const folder = `node_modules/${name}`;
  const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
  if (file === undefined) throw new Error(`${folder} has no licence`);
  const { version } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  return `${name} ${version}\n\n${readFileSync(`${folder}/${file}`, "utf8").trim()}\n`;
});
writeFileSync(`${OUT}/LICENSES`, licences.join(`\n${"-".repeat(80)}\n\n`));
