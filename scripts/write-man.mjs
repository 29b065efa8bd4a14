// Writes the manual pages, dist/man, from the commands themselves. Run by `npm run build`.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { wholeProgram } from "../dist/commands/command-line.js";
import { manPages } from "../dist/commands/man-page.js";

const folder = new URL("../dist/man/", import.meta.url);
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder);
for (const [file, page] of manPages(await wholeProgram())) writeFileSync(new URL(file, folder), page);
