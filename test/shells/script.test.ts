import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { framed, newMark, readFramed } from "../../src/shells/script.ts";

/** As a login shell starts it, which may print before and after. */
function run(script: string, { before = "", after = "", env = {}, sh = "/bin/sh" } = {}) {
  const mark = newMark();
  const path = process.env["PATH"] ?? "";
  const { stdout, stderr, status } = spawnSync(
    "sh",
    ["-c", `${before}\n${sh}\ncode=$?\n${after}\nexit $code`],
    {
      input: framed(script, mark),
      env: { PATH: path, ...env },
    },
  );
  return { status, stdout: readFramed(stdout, mark), stderr: readFramed(stderr, mark) };
}

const printed = (end: ReturnType<typeof run>) => [end.stdout.output.toString(), end.stderr.output.toString()];

describe("what a login shell prints around a command", () => {
  it.each([
    "",
    "echo Welcome; echo 'try --help' >&2",
    "printf '\\033]0;node\\007'; printf 'no line end' >&2",
    "printf 'mento:submitted 1\\n'; printf 'mento-ends\\nmento-begins\\n'",
  ])("is no output of the command: %s", (greeting) => {
    for (const where of [{ before: greeting }, { after: greeting }]) {
      expect(printed(run("echo out; echo err >&2", where))).toEqual(["out\n", "err\n"]);
      expect(printed(run(":", where))).toEqual(["", ""]);
    }
  });

  it("leaves the command's bytes and exit code as they are, whatever they are", () => {
    const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array));
    fc.assert(
      fc.property(bytes, fc.integer({ min: 0, max: 255 }), (output, code) => {
        const octal = [...output].map((byte) => `\\0${byte.toString(8).padStart(3, "0")}`).join("");
        const end = run(`printf '%b' '${octal}'; exit ${code}`, { before: "echo hello", after: "echo bye" });
        expect(end.stdout).toEqual({ output, isWhole: true });
        expect(end.status).toBe(code);
      }),
      { numRuns: 20 },
    );
  });

  it("is not whole, of a command that was killed or cut off", () => {
    expect(run("echo out; kill -KILL $$", { before: ":" }).stdout.isWhole).toBe(false);
    const mark = newMark();
    const cut = framed("echo one\necho two", mark).replace(/echo two[^]*/, "");
    const { stdout } = spawnSync("sh", { input: cut });
    expect(readFramed(stdout, mark)).toEqual({ output: Buffer.alloc(0), isWhole: false });
  });
});

describe.each(
  ["/bin/sh", "bash --posix"].filter(
    (sh) => spawnSync(sh.split(" ")[0] ?? "", ["--version"]).error === undefined,
  ),
)("the environment of our commands (%s)", (sh) => {
  it("has none of Slurm's options, whatever they are called and whatever is in them", () => {
    const name = fc
      .tuple(
        fc.constantFrom("SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_", "SCONTROL_", "SLURM_"),
        fc.stringMatching(/^[A-Z][A-Z_0-9]{0,20}$/),
      )
      .map((parts) => parts.join(""));
    const value = fc.string({ unit: "binary" }).filter((text) => !text.includes("\0"));
    fc.assert(
      fc.property(fc.dictionary(name, value, { maxKeys: 8 }), value, (slurm, other) => {
        const env = { ...slurm, OTHER: other, SLURM_CONF: "/c", SLURM_JWT: "t" };
        const { stdout } = run("env -0", { env, sh });
        const left = new Map(
          stdout.output
            .toString()
            .split("\0")
            .map((one) => [one.split("=", 1)[0], one.slice(one.indexOf("=") + 1)]),
        );
        expect([...left.keys()].filter((one) => /^(SBATCH|SQUEUE|S[A-Z]+)_/.test(one ?? "")).sort()).toEqual([
          "SLURM_CONF",
          "SLURM_JWT",
        ]);
        expect(left.get("OTHER")).toBe(Buffer.from(other).toString());
      }),
      { numRuns: 25 },
    );
  });

  it("speaks English, and what is started as the account speaks its own language", () => {
    const env = {
      LC_ALL: "de_DE.UTF-8",
      TZ: "Asia/Tokyo",
      QUOTING_STYLE: "c",
      CDPATH: "/:/usr",
      BASH_ENV: "/x y'z",
      ENV: "",
      SBATCH_WAIT: "1",
    };
    const print = `env | grep -E '^(LC_ALL|TZ|QUOTING_STYLE|CDPATH|BASH_ENV|ENV|SBATCH_WAIT)=' | sort`;
    expect(printed(run(`cd tmp 2>/dev/null; cd /; ${print}`, { env, sh }))[0]).toBe("LC_ALL=C\n");
    const own = Object.entries({ ...env, SBATCH_WAIT: "" }).filter(([name]) => name !== "SBATCH_WAIT");
    expect(printed(run(`as_account sh -c '${print.replaceAll("'", `'\\''`)}'`, { env, sh }))[0]).toBe(
      own
        .map(([one, value]) => `${one}=${value}\n`)
        .sort()
        .join(""),
    );
    expect(printed(run(`${print}; as_account sh -c 'echo "$LC_ALL"; exit 7'; echo $?`, { sh }))[0]).toBe(
      "LC_ALL=C\n\n7\n",
    );
  });

  it("runs no start file of the account's, and traces nothing on stdout", () => {
    const folder = mkdtempSync(join(tmpdir(), "mento-env-"));
    const file = join(folder, "start");
    writeFileSync(file, `: > ${folder}/was-read\n`);
    const env = { BASH_ENV: file, ENV: file };
    run(`bash -c ':'`, { env, sh });
    const options = { ...env, SHELLOPTS: "xtrace:nounset:noglob:errexit" };
    const end = run(`false; for f in ${folder}/*; do echo "$f"; done; echo "$nothing"`, { env: options, sh });
    expect(printed(end)).toEqual([`${file}\n\n`, ""]);
    expect(existsSync(join(folder, "was-read"))).toBe(false);
    rmSync(folder, { recursive: true });
  });
});
