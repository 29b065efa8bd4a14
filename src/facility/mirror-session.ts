import { logLine } from "../text/terminal.ts";
import { BeamtimeMirror } from "./mirror-beamtime.ts";

/**
 * The program that copies one session: `node mirror-session.js BEAMLINE CORE PARTIAL JOURNAL DELAY-SECONDS`. It ends
 * with 0 when it was sent a message, and has then copied the last; and with its supervisor, of which the channel tells.
 */

const [beamline = "", core = "", partial = "", journal = "", delay = "0"] = process.argv.slice(2);

process.once("disconnect", () => process.exit(1));
const mirror = new BeamtimeMirror({ beamline, core, partial }, journal, Number(delay), logLine);
process.once("message", () => mirror.finish());
await mirror.run();
process.exit(0);
