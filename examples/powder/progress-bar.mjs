/** A bar on the terminal's last line, with other lines scrolling above it; plain lines where there is no terminal. */
export class ProgressBar {
  #done = 0;
  #what = "";
  #total;
  #isTerminal = process.stdout.isTTY;

  constructor(/** @type {number} */ total) {
    this.#total = total;
  }

  /** One step further. */
  step(/** @type {string} */ what) {
    this.#done = Math.min(this.#done + 1, this.#total);
    this.#what = what;
    if (this.#isTerminal) this.#draw();
    else console.log(`[${this.#done}/${this.#total}] ${what}`);
  }

  /** A line above the bar. */
  say(/** @type {string} */ line) {
    this.#clear();
    console.log(line);
    this.#draw();
  }

  end() {
    this.#clear();
    this.#isTerminal = false;
  }

  #clear() {
    if (this.#isTerminal) process.stdout.write("\r\x1b[K");
  }

  #draw() {
    if (!this.#isTerminal) return;
    const width = 24;
    const full = Math.round((this.#done / this.#total) * width);
    const text = `${"█".repeat(full)}${"░".repeat(width - full)} ${this.#done}/${this.#total} ${this.#what}`;
    process.stdout.write(`\r\x1b[K${text.slice(0, (process.stdout.columns || 80) - 1)}`);
  }
}
