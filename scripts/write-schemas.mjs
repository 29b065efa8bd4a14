// Writes schemas/*.json from the zod source. Run by `npm run schemas`; a test holds the files to the source.
import { writeFileSync } from "node:fs";
import { generateSchemas } from "../dist/config/schemas.js";

for (const [file, schema] of Object.entries(generateSchemas())) {
  writeFileSync(new URL(`../schemas/${file}`, import.meta.url), JSON.stringify(schema, null, 2) + "\n");
}
