import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { MentoConfig } from "../../src/config/config-schema.ts";
import { brokerCredentials, configFile, loadConfig, openSecret } from "../../src/config/config.ts";
import { parseConfig } from "../../src/config/config-file.ts";
import { Misconfigured } from "../../src/errors.ts";

const mistakesOf = (text: string, environment = {}) =>
  parseConfig(text, environment).mistakes.map(
    ({ line, place, message }) => `${line ?? "env"} ${place}: ${message}`,
  );

describe("parseConfig", () => {
  it("has a default for everything", () => {
    expect(parseConfig("", {}).config).toMatchObject({
      broker: { prefix: "mento" },
      worker: { group: "default", concurrency: 8 },
      site: { gpfs: "/gpfs", beamline: "/beamline", core: "/asap3" },
      triggers: [],
    });
  });

  it("knows which triggers can have arrays, and how large", () => {
    const trigger = (more: string) => `triggers:\n  - name: a\n    run: [prog]\n    ${more}\n`;
    const parsed = parseConfig(trigger("array: {}"), {}).config?.triggers[0]?.array;
    expect(parsed).toEqual({ size: 200, window: 2 });
    expect(mistakesOf(trigger("array: { size: 1001, limit: 10 }"))[0]).toMatch(
      /^4 triggers\.0\.array\.size: /,
    );
    expect(mistakesOf(trigger("array: { window: 2s }"))[0]).toMatch(/^4 triggers\.0\.array\.window: /);
    expect(mistakesOf(trigger("array: {}\n    method: remote-command"))).toEqual([
      "4 triggers.0.array: remote-command has no arrays; remote-sbatch-script and local-sbatch-script have",
    ]);
  });

  it("reports every mistake at once, each with its line and what would be right", () => {
    const text = `broker:
  url: http://localhost
worker:
  concurency: 4
  concurrency: 1000
ssh:
  knownHosts: known_hosts
triggers:
  - name: a
    run: [prog, "{{ pth }}"]
  - name: a
    run: []
    slurm: { time: soon }
  - nam: x
    run: [prog]
`;
    const mistakes = mistakesOf(text);
    expect(mistakes).toEqual([
      "2 broker.url: must begin with amqp:// or amqps://",
      "4 worker.concurency: unknown key; did you mean concurrency?",
      expect.stringMatching(/^5 worker\.concurrency: .*64/),
      '7 ssh.knownHosts: must be a list, not the text "known_hosts"',
      "10 triggers.0.run.1: {{ pth }} names no known value; did you mean path?",
      '11 triggers.1.name: "a" is the name of another trigger; names must differ',
      expect.stringMatching(/^12 triggers\.1\.run: /),
      expect.stringMatching(/^13 triggers\.1\.slurm\.time: .*00:20:00/),
      expect.stringMatching(/^14 triggers\.2\.name: /),
      "14 triggers.2.nam: unknown key; did you mean name?",
    ]);
  });

  it("says where the YAML itself is broken", () => {
    expect(mistakesOf("broker:\n  url: [\nworker: {}\n")[0]).toMatch(/^\d+ : not YAML/);
  });

  it.each([
    ["worker: {}\nworker: {}\n", "2 worker: stands on line 1 already: keep one of them"],
    ["worker: { a: 1,\n  a: 2 }\n", "2 a: stands on line 1 already: keep one of them"],
    ["worker:\n\tgroup: a\n", "2 : a tab indents this line: use spaces"],
    ["worker: {}\n---\nworker: {}\n", "2 : a second document begins here (---): a configuration is one"],
    ["worker:\n  group: !!js/function x\n", "2 : !!js/function has no meaning here: leave it out"],
    ["worker:\n  group: !!binary YQ==\n", "2 : !!binary has no meaning here: leave it out"],
    ["worker:\n  keys: !!set {a, b}\n", "2 : !!set has no meaning here: leave it out"],
    ["worker: !mine\n  keys: []\n", "2 : !mine has no meaning here: leave it out"],
    ["%FOO bar\n---\nworker: {}\n", "1 : not YAML: Unknown directive %FOO"],
    ["worker:\n  group: a\0b\n", "2 : holds the character U+0000, which no text has: remove it"],
    ["worker:\n  group: a\u001bb\n", "2 : holds the character U+001B, which no text has: remove it"],
    ['site:\n  gpfs: "/a\\0b"\n', "2 : holds the character U+0000, which no text has: remove it"],
    ["worker:\n  group: caf\uFFFD\n", "2 : is not UTF-8 text: save the file in that encoding"],
    ["\uFFFD\uFFFDw\0o\0", "1 : is not UTF-8 text: save the file in that encoding"],
    [
      "worker: {}\rsite: {}\r",
      "1 : a carriage return alone ends this line: save the file with line feeds (Unix)",
    ],
  ])("says in words what is wrong with %j", (text, words) => {
    expect(mistakesOf(text)).toEqual([words]);
  });

  it("is of a bounded size", () => {
    const text = `# ${"x".repeat(1024 * 1024)}\n`;
    expect(mistakesOf(text)).toEqual(["1 : is larger than 1 MiB: a configuration is not"]);
    const many = Array.from({ length: 1001 }, (_, n) => `- { name: t${n}, run: [x] }\n`).join("");
    expect(mistakesOf(`triggers:\n${many}`)).toEqual(["1 triggers: must have at most 1000"]);
  });

  it("takes tags that change nothing, lines that end as in Windows, and an alias for each of many triggers", () => {
    const text = "worker:\r\n  group: !!str 1\r\n  keys: !!seq [a]\r\n";
    expect(parseConfig(text, {}).config?.worker).toMatchObject({ group: "1", keys: ["a"] });
    const many = Array.from({ length: 900 }, (_, n) => `  - { name: t${n}, run: [x], slurm: *s }\n`).join("");
    const config = `triggers:\n  - name: a\n    run: [x]\n    slurm: &s { time: "00:01:00" }\n${many}`;
    expect(mistakesOf(config)).toEqual([]);
  });

  it("is done with anything of its largest size in a reasonable time", () => {
    const fill = (line: (n: number) => string) => {
      const times = Math.floor(200_000 / line(99_999).length);
      return Array.from({ length: times }, (_, n) => line(n)).join("");
    };
    expect(mistakesOf(fill((n) => `k${n}: 1\n`)).length).toBeGreaterThan(10_000);
    expect(mistakesOf(`triggers:\n${fill(() => "- { name: a, run: [x] }\n")}`).length).toBeGreaterThan(0);
    expect(mistakesOf(`a: &a 1\nb: [${fill(() => "*a,")}]\n`)).toEqual([
      "2 : more than 5000 aliases: write out what they stand for",
    ]);
    const chain = (n: number) =>
      `- { name: t${n}, on: { type: job.completed, trigger: t${n + 1} }, run: [x] }\n`;
    const chained = Array.from({ length: 400 }, (_, n) => chain(n)).join("");
    expect(mistakesOf(`triggers:\n${chained}`)).toEqual([expect.stringMatching(/no trigger .* is t400/)]);
  }, 120_000);

  it("names numbers that JSON does not have", () => {
    expect(mistakesOf("worker: { concurrency: .inf }")).toEqual([
      "1 worker.concurrency: must be a number, not Infinity",
    ]);
  });

  it("says where a value stands inside of itself, or is repeated beyond all measure", () => {
    expect(mistakesOf("worker: {}\ntriggers: &a\n  - *a\n")).toEqual([
      "3 : *a stands inside of what it stands for",
    ]);
    expect(mistakesOf("triggers:\n  - &a\n    on: { parameters: { x: [1, { y: *a }] } }\n")).toEqual([
      "3 : *a stands inside of what it stands for",
    ]);
    const ten = (one: string) => `[${Array.from({ length: 10 }, () => one).join(",")}]`;
    const bomb = `a: &a ${ten("x")}\nb: &b ${ten("*a")}\nc: &c ${ten("*b")}\nd: &d ${ten("*c")}\ne: ${ten("*d")}\n`;
    expect(mistakesOf(bomb)).toEqual([expect.stringMatching(/^5 : its aliases stand for too much/)]);
    for (const inItself of ["&a [*a]", "&a { b: *a }"]) {
      expect(mistakesOf("", { MENTO_WORKER_KEYS: inItself })[0]).toMatch(/^env worker\.keys: /);
    }
    const tooDeep = ["2 : not YAML: nested too deeply"];
    for (const depth of [500, 3_000, 20_000]) {
      expect(mistakesOf(`worker: {}\ntriggers: ${"[".repeat(depth)}`)).toEqual(tooDeep);
      expect(mistakesOf(`worker: {}\ntriggers: ${"[".repeat(depth)}${"]".repeat(depth)}`)).toEqual(tooDeep);
      expect(mistakesOf(`triggers:\n  ${"- ".repeat(depth)}`)).toEqual(tooDeep);
    }
    const hundred = `${"[".repeat(90)}${"]".repeat(90)}`;
    expect(mistakesOf(`triggers: ${hundred}`)).not.toContainEqual(expect.stringContaining("nested"));
  });

  it("a session of the configuration has a name that messages can have", () => {
    const session = (id: string, beamline: string) =>
      mistakesOf(
        `site:\n  sessions:\n    - id: "${id}"\n      beamline: "${beamline}"\n      paths: { beamline: /d, core: /d }\n` +
          "      account: x\n      privateKey: /k\n      reservations: [{ partition: p, nodes: [n] }]\n",
      );
    expect(session("2024-1", "id13")).toEqual([]);
    expect(session("2024.1", "Beam line 9")).toEqual([
      "3 site.sessions.0.id: must be an id like 11010000 or c20210823_000_MAA",
      "4 site.sessions.0.beamline: must be a beamline's name like p11 or p02.1",
    ]);
  });

  it("says that a glob needs quotes, which is the likeliest mistake", () => {
    const text =
      "worker:\n  keys: [*.p11.#]\ntriggers:\n  - name: a\n    on: { path: **/raw/** }\n    run: [x]\n";
    expect(mistakesOf(text)).toContainEqual(
      expect.stringMatching(/^5 : \*.* begins with \*: put it in quotes/),
    );
    expect(mistakesOf("", { MENTO_WORKER_KEYS: "*.data.ready" })[0]).toMatch(/^env worker\.keys: /);
  });

  it("refuses a broker url that is none", () => {
    expect(mistakesOf('broker: { url: "amqp://host:99999" }')[0]).toMatch(/^1 broker\.url: has a port/);
  });

  it("takes several broker urls, and says which of them is wrong", () => {
    const both = ["amqp://a", "amqps://b:1/vhost"];
    expect(parseConfig(`broker: { url: [${both.join(", ")}] }`, {}).config?.broker.url).toEqual(both);
    const fromEnvironment = parseConfig("", { MENTO_BROKER_URL: `[${both.join(", ")}]` });
    expect(fromEnvironment.config?.broker.url).toEqual(both);
    expect(mistakesOf("broker:\n  url:\n    - amqp://a\n    - http://b")).toEqual([
      "4 broker.url.1: must begin with amqp:// or amqps://",
    ]);
    expect(mistakesOf("broker: { url: [] }")[0]).toMatch(/^1 broker\.url: /);
    expect(mistakesOf("broker: { url: 5672 }")[0]).toMatch(
      /^1 broker\.url: must be text, or a list, not 5672/,
    );
  });

  it("lets the environment win, and says so when its value is wrong", () => {
    const environment = {
      MENTO_BROKER_URL: "amqp://other",
      MENTO_WORKER_KEYS: '["p11.#"]',
      MENTO_SSH_MAX_CHANNELS: "3",
    };
    expect(parseConfig("broker: { url: amqp://one }", environment).config).toMatchObject({
      broker: { url: "amqp://other" },
      worker: { keys: ["p11.#"] },
      ssh: { maxChannels: 3 },
    });
    expect(mistakesOf("", { MENTO_SSH_MAX_CHANNELS: "many" })[0]).toMatch(/^env ssh\.maxChannels: /);
  });
});

describe("slurmRest", () => {
  const token = "slurmRest: { url: https://slurm/sapi, tokenFile: /etc/mento/token }\n";

  it("is left out where nobody wants it", () => {
    expect(parseConfig("", {}).config?.slurmRest).toBeUndefined();
    expect(parseConfig(token, {}).config?.slurmRest).toEqual({
      url: "https://slurm/sapi",
      tokenFile: "/etc/mento/token",
      timeoutMs: 30_000,
    });
  });

  it("comes from the environment too, alone or over the file", () => {
    const environment = {
      MENTO_SLURM_REST_URL: "http://127.0.0.1:6820",
      MENTO_SLURM_REST_TOKEN_COMMAND: "[scontrol, token]",
      MENTO_SLURM_REST_TIMEOUT_MS: "5000",
      MENTO_SLURM_REST_VERSION: "v0.0.40",
    };
    expect(parseConfig("", environment).config?.slurmRest).toEqual({
      url: "http://127.0.0.1:6820",
      tokenCommand: ["scontrol", "token"],
      timeoutMs: 5000,
      version: "v0.0.40",
    });
    expect(parseConfig(token, { MENTO_SLURM_REST_USER: "bt1" }).config?.slurmRest?.user).toBe("bt1");
  });

  it("needs a url and exactly one source of tokens", () => {
    expect(mistakesOf("slurmRest: { tokenFile: /t }")).toEqual([
      expect.stringMatching(/^1 slurmRest\.url: /),
    ]);
    const either = "slurmRest: needs either tokenFile or tokenCommand";
    expect(mistakesOf("slurmRest: { url: https://slurm }")).toEqual([`1 ${either}`]);
    expect(mistakesOf("slurmRest: { url: https://slurm, tokenFile: /t, tokenCommand: [t] }")).toEqual([
      `1 ${either}`,
    ]);
    expect(mistakesOf("slurmRest: { url: https://me:secret@slurm, tokenFile: /t }")[0]).toContain(
      "without a password",
    );
    expect(mistakesOf("slurmRest: { url: https://slurm, tokenFile: /t, version: v0.0.12 }")[0]).toMatch(
      /v0\.0\.38.*v0\.0\.44/,
    );
  });
});

describe("configFile", () => {
  it("takes the option, then MENTO_CONFIG, then the usual places", () => {
    expect(configFile("a", { MENTO_CONFIG: "b" }, () => true)).toBe("a");
    expect(configFile(undefined, { MENTO_CONFIG: "b" }, () => true)).toBe("b");
    expect(configFile(undefined, {}, () => true)).toBe("./mento.yaml");
    expect(configFile(undefined, {}, (file) => file.startsWith("/etc"))).toBe("/etc/mento/mento.yaml");
    expect(() => configFile(undefined, {}, () => false)).toThrow("There is no configuration");
  });

  it("names a file that cannot be read", () => {
    expect(() => loadConfig("/nonexistent.yaml", {})).toThrow(Misconfigured);
  });
});

describe("a configuration that others can read", () => {
  const withPassword = (broker: object) => MentoConfig.parse({ broker });

  it.each([
    [{ password: "x" }, 0o644, true],
    [{ url: "amqp://u:x@h" }, 0o640, true],
    [{ url: ["amqp://h", "amqp://u:x@h"] }, 0o604, true],
    [{ password: "x" }, 0o600, false],
    [{ url: "amqp://h", passwordFile: "/run/secret" }, 0o644, false],
  ])("with %j and mode %i warns: %s", (broker, mode, warns) => {
    const warning = openSecret("/etc/mento/mento.yaml", mode, withPassword(broker));
    expect(warning?.includes("chmod 600 /etc/mento/mento.yaml") ?? false).toBe(warns);
  });

  it("warns of a password's own file as well, and says that an empty one is", () => {
    const folder = mkdtempSync(join(tmpdir(), "mento-password-"));
    const passwordFile = join(folder, "password");
    writeFileSync(passwordFile, "secret\n", { mode: 0o644 });
    chmodSync(passwordFile, 0o644);
    const config = withPassword({ passwordFile });
    expect(openSecret("/etc/mento/mento.yaml", 0o600, config)).toContain(`chmod 600 ${passwordFile}`);
    chmodSync(passwordFile, 0o600);
    expect(openSecret("/etc/mento/mento.yaml", 0o644, config)).toBeNull();
    expect(brokerCredentials(config.broker).password).toBe("secret");
    writeFileSync(passwordFile, "\n");
    expect(() => brokerCredentials(config.broker)).toThrow("it is empty");
    rmSync(folder, { recursive: true });
  });
});
