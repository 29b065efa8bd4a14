import type { Stats } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { DIES_WITH_PARENT, runChecked } from "./processes.ts";

const PIECE_BYTES = 1024 * 1024;
const NOTHING = Buffer.alloc(PIECE_BYTES);
/** What is smaller is read faster than a program starts. */
const SPARSE_BYTES = 16 * PIECE_BYTES;
const LONGEST_COPY_SECONDS = 3600;

/** Copies what the source has now, and no more; holes, which cost their owner no room, stay holes. */
export async function copyContent(
  source: FileHandle,
  partial: string,
  { size, blocks }: Stats,
): Promise<void> {
  if (size > SPARSE_BYTES && blocks * 512 < size) await copySparse(source, partial, size);
  else await copyDense(source, partial, size);
}

async function copyDense(source: FileHandle, partial: string, bytes: number): Promise<void> {
  const target = await open(partial, "wx", 0o600);
  try {
    const piece = Buffer.alloc(Math.min(PIECE_BYTES, bytes));
    for (let at = 0; at < bytes;) {
      const { bytesRead } = await source.read(piece, 0, Math.min(PIECE_BYTES, bytes - at), at);
      if (bytesRead === 0) break;
      const read = piece.subarray(0, bytesRead);
      if (!read.equals(NOTHING.subarray(0, bytesRead))) await writeAll(target, read, at);
      at += bytesRead;
    }
    await target.truncate(bytes);
  } finally {
    await target.close();
  }
}

async function writeAll(target: FileHandle, bytes: Buffer, at: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    done += (await target.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  }
}

/** By cp(1), which asks the file system where the holes end; Node cannot. It fails if the file grows meanwhile. */
async function copySparse(source: FileHandle, partial: string, bytes: number): Promise<void> {
  const [program, ...args] = DIES_WITH_PARENT;
  const copy = ["cp", "--sparse=always", "--", `/proc/${process.pid}/fd/${source.fd}`, partial];
  await runChecked(program, [...args, "prlimit", `--fsize=${bytes}`, ...copy], {
    timeoutSeconds: LONGEST_COPY_SECONDS,
  });
}
