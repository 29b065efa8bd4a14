/** Output of a command beyond this is a mistake, not an answer: 16 MiB. */
export const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
/** What a shell that has exited printed last may still be on its way, but no longer than this after what came before. */
export const REST_MS = 2_000;

/** What a program has printed, in one piece: what comes byte by byte takes no more room than what comes at once. */
export class Output {
  #buffer = Buffer.alloc(0);
  #length = 0;

  add(chunk: Buffer): void {
    const length = this.#length + chunk.length;
    if (length > this.#buffer.length) {
      const larger = Buffer.alloc(Math.max(length, 2 * this.#buffer.length));
      this.bytes.copy(larger);
      this.#buffer = larger;
    }
    chunk.copy(this.#buffer, this.#length);
    this.#length = length;
  }

  /** Whether the last chunk has brought a word, or its end. */
  hasJustGot(word: string, chunk: Buffer): boolean {
    return this.bytes.subarray(-chunk.length - word.length).includes(word);
  }

  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }
}
