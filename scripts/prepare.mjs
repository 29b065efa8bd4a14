// Runs before `npm start`, `npm test` and `npm run bench`: on a clean clone, installs the packages of the lock file;
// whenever a source is newer than the build, builds. Needs Node and npm alone.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";

process.chdir(new URL("..", import.meta.url).pathname);

/** @param {string} folder */
function newest(folder) {
  const times = readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => statSync(`${entry.parentPath}/${entry.name}`).mtimeMs);
  return Math.max(0, ...times);
}

/** @param {string} file */
function mtime(file) {
  return existsSync(file) ? statSync(file).mtimeMs : 0;
}

/**
 * @param {string} what
 * @param {string} command
 * @param {string[]} parameters
 */
function run(what, command, ...parameters) {
  console.error(`${what} …`);
  execFileSync(command, parameters, { stdio: ["ignore", "ignore", "inherit"] });
}

if (mtime("node_modules/.package-lock.json") < mtime("package-lock.json")) {
  run("installing the npm packages", "npm", "ci", "--no-audit", "--no-fund");
}
const sources = Math.max(
  newest("src"),
  ...["tsconfig.json", "tsconfig.build.json", "scripts/bundle.mjs", "scripts/write-man.mjs"].map(mtime),
);
if (mtime("dist/cli/LICENSES") < sources) {
  run("building", "npm", "run", "--silent", "build");
}
