// Installs Debian packages where it is called: node install-packages.mjs PACKAGE …
import { installPackages } from "../../dist/facility/packages.js";

await installPackages(process.argv.slice(2), (step) => console.error(`test facility: ${step}`));
