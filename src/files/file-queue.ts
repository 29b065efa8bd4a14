import { posix } from "node:path";

/**
 * Operations under way at the same time. Each holds one of the four threads that Node has for files, host names and
 * keys, until the kernel answers; on a file system that hangs that is never.
 */
const MOST_AT_ONCE = 3;

/** A file system that works answers within this. */
export const ANSWER_WITHIN_MS = 5_000;

/** A file system did not answer. */
export class NoAnswer extends Error {
  constructor(tree: string, milliseconds: number) {
    super(
      `the file system of ${tree} has not answered for ${Math.max(1, Math.round(milliseconds / 1000))} s`,
    );
    this.name = "NoAnswer";
  }
}

interface Task {
  work: () => Promise<unknown>;
  answer: Promise<unknown>;
  settle: { resolve: (value: unknown) => void; reject: (error: unknown) => void };
}

interface Tree {
  /** Of the operation under way, milliseconds. */
  since: number | undefined;
  /** By what they do: who wants the same before it has begun shares it. */
  waiting: Map<string, Task>;
}

/**
 * Takes operations on files one after the other in each tree (`/gpfs`, `/asap3`, `/etc`: near enough to one file
 * system). When one hangs, it costs one thread, those on the same tree fail in time, and other trees go on.
 */
export class FileQueue {
  readonly #within: number;
  readonly #trees = new Map<string, Tree>();
  #running = 0;

  /** @param within milliseconds that a caller waits, its turn included */
  constructor(within = ANSWER_WITHIN_MS) {
    this.#within = within;
  }

  /** Whether an operation has hung for so long that nobody waits for it any more. */
  get isStuck(): boolean {
    return [...this.#trees.values()].some((tree) => this.#hungFor(tree) !== undefined);
  }

  /**
   * @param what the operation: of those with the same file and name that have not begun, one is done for all
   * @throws NoAnswer
   */
  async run<T>(file: string, what: string, work: () => Promise<T>): Promise<T> {
    const name = treeOf(file);
    const tree = this.#trees.get(name) ?? { since: undefined, waiting: new Map<string, Task>() };
    this.#trees.set(name, tree);
    const hung = this.#hungFor(tree);
    if (hung !== undefined) throw new NoAnswer(name, hung);
    const key = `${what} ${file}`;
    const task = tree.waiting.get(key) ?? newTask(work);
    tree.waiting.set(key, task);
    this.#begin();
    return this.#inTime(name, task.answer as Promise<T>, () => {
      if (tree.waiting.get(key) === task) tree.waiting.delete(key);
    });
  }

  #hungFor({ since }: Tree): number | undefined {
    const time = since === undefined ? 0 : performance.now() - since;
    return time > this.#within ? time : undefined;
  }

  #begin(): void {
    for (const [name, tree] of this.#trees) {
      if (this.#running >= MOST_AT_ONCE) return;
      if (tree.since !== undefined) continue;
      const [first] = tree.waiting;
      if (first === undefined) {
        this.#trees.delete(name);
        continue;
      }
      const [key, task] = first;
      tree.waiting.delete(key);
      tree.since = performance.now();
      this.#running += 1;
      const ended = () => {
        tree.since = undefined;
        this.#running -= 1;
        this.#begin();
      };
      task.work().then(task.settle.resolve, task.settle.reject).finally(ended);
    }
  }

  async #inTime<T>(name: string, answer: Promise<T>, giveUp: () => void): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        giveUp();
        reject(new NoAnswer(name, this.#within));
      }, this.#within);
    });
    return Promise.race([answer, late]).finally(() => clearTimeout(timer));
  }
}

function newTask(work: () => Promise<unknown>): Task {
  let settle: Task["settle"] | undefined;
  const answer = new Promise<unknown>((resolve, reject) => (settle = { resolve, reject }));
  // Of one that everybody has given up nobody wants to know.
  answer.catch(() => undefined);
  if (settle === undefined) throw new Error("a promise has not run its executor");
  return { work, answer, settle };
}

/** `/gpfs/current/x` → `/gpfs` */
function treeOf(file: string): string {
  const [, top = ""] = posix.resolve(file).split("/", 2);
  return `/${top}`;
}
