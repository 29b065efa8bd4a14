import { posix } from "node:path";
import { Rejected } from "../errors.ts";
import { cut } from "../text/cut.ts";
import { normalPath } from "../messages/path-text.ts";

/**
 * Where one session's files are, in the three views of the same data
 * (docs.desy.de/asap3, directory structure): all absolute, without a trailing slash.
 */
export interface SessionRoots {
  /** As seen at the beamline, e.g. `/gpfs/current`. */
  beamline: string;
  /** On the core file system, e.g. `/asap3/petra3/gpfs/p11/2026/data/11010000`. */
  core: string;
  /** The beamline file system as mounted on a reserved node, e.g. `/beamline/p11/current`. */
  node: string;
}

/** Folders of a session that exist at the beamline only: they are never copied to the core file system. */
const NEVER_SYNCED = ["scratch_bl"];

/** The folder that exists on the core file system only. */
const CORE_ONLY = ["scratch_cc"];

/**
 * A path in any of the three views → the same file on the core file system.
 * Works by whole components after normalising; never touches a file.
 *
 * @throws Rejected `path-outside-beamtime`, `path-not-synced`
 */
export function toCorePath(path: string, roots: SessionRoots): string {
  return posix.join(roots.core, synced(path, roots));
}

/** The same file on the beamline file system as a reserved node sees it. Throws as {@link toCorePath}. */
export function toNodePath(path: string, roots: SessionRoots): string {
  return posix.join(roots.node, synced(path, roots));
}

/** The same file as the beamline sees it, or null for what is on the core file system only. */
export function toBeamlinePath(path: string, roots: SessionRoots): string | null {
  const inside = insideSession(path, roots);
  return CORE_ONLY.includes(firstComponent(inside)) ? null : posix.join(roots.beamline, inside);
}

/**
 * Where the results of a data file go by MENTO's rule (`prepare_results_filename`), in the same view as the path:
 * `<root>/raw/s/scan/data.h5` → `<root>/processed/onlineanalysis/s/scan/data_results.h5`. Makes no folder.
 *
 * @throws Rejected `path-outside-beamtime`, `path-not-synced`; the latter also for what does not lie in `raw`
 */
export function resultsPath(path: string, roots: SessionRoots): string {
  const inside = synced(path, roots);
  const view = [roots.core, roots.beamline, roots.node].find((root) => below(path, root) !== undefined);
  const { dir, name, ext } = posix.parse(inside);
  if (view === undefined || firstComponent(inside) !== "raw" || dir === "") {
    throw new Rejected({
      code: "path-not-synced",
      message: `${path} does not lie in the beamtime's raw folder.`,
      hint: "Results have a place for data files, which are in raw.",
    });
  }
  return posix.join(view, "processed/onlineanalysis", dir.slice("raw/".length), `${name}_results${ext}`);
}

/** True for an absolute path in the beamline's view of the session: templates map such arguments by themselves. */
export function isBeamlinePath(path: string, roots: SessionRoots): boolean {
  return below(path, roots.beamline) !== undefined;
}

/** Whether a path lies in the session, in any of its three views. */
export function isInSession(path: string, roots: SessionRoots): boolean {
  return [roots.core, roots.beamline, roots.node].some((root) => below(path, root) !== undefined);
}

function synced(path: string, roots: SessionRoots): string {
  const inside = insideSession(path, roots);
  const folder = firstComponent(inside);
  if (!NEVER_SYNCED.includes(folder)) return inside;
  throw new Rejected({
    code: "path-not-synced",
    message: `${cut(path, 500)} lies in ${folder}, which is never copied to the core file system.`,
    hint: "Write data that is to be analysed to raw, processed or shared.",
  });
}

/** The part of a path below the session's root, in whichever view it is given. */
function insideSession(path: string, roots: SessionRoots): string {
  for (const root of [roots.core, roots.beamline, roots.node]) {
    const inside = below(path, root);
    if (inside !== undefined) return inside;
  }
  const local = below(path, posix.join(posix.dirname(roots.beamline), "local"));
  if (local !== undefined) {
    throw new Rejected({
      code: "path-not-synced",
      message: `${cut(path, 500)} lies in the beamline's local folder, which is never copied to the core file system.`,
      hint: "Write data that is to be analysed below " + roots.beamline + ".",
    });
  }
  throw new Rejected({
    code: "path-outside-beamtime",
    message: `${cut(path, 500)} does not lie in this beamtime: neither below ${roots.beamline} nor below ${roots.core}.`,
    hint: "Send an absolute path inside the beamtime; data of another beamtime needs its beamtimeId.",
  });
}

/** `/a/b/../c` below `/a` → `c`; undefined if it is not below (the root itself is not). */
function below(path: string, root: string): string | undefined {
  if (!path.startsWith("/")) return undefined;
  const normal = normalPath(path);
  const prefix = root.endsWith("/") ? root : root + "/";
  if (!normal.startsWith(prefix)) return undefined;
  const inside = normal.slice(prefix.length).replace(/\/$/, "");
  return inside === "" ? undefined : inside;
}

function firstComponent(inside: string): string {
  return inside.split("/", 1)[0] ?? "";
}
