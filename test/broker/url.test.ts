import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { brokerUrlMistake, readBrokerUrl } from "../../src/broker/url.ts";
import { parseConfig } from "../../src/config/config-file.ts";
import { MentoError } from "../../src/errors.ts";

describe("a url of RabbitMQ", () => {
  it.each([
    ["amqp://user:50%off@host/", /a % itself is written %25/],
    ["amqp://user:50%@host/", /a % itself is written %25/],
    ["amqp://user:50%ab@host/", /a % itself is written %25/],
    ["amqp://host/v%", /a % itself is written %25/],
    ["amqp://user:a b@host/", /space is written %20/],
    [" amqp://host/", /must begin with amqp/],
    ["amqp://host/\n", /space is written %20/],
    ["amqp://user:a@b@host/", /@; in a password it is written %40/],
    ["amqp://user:1/2@host/", /written %2F, %3F and %23/],
    ["amqp://user:1?2@host/", /written %2F, %3F and %23/],
    ["amqp://user:1#2@host/", /written %2F, %3F and %23/],
    ["amqp://user:p@host/a#b", /#, which is written %23/],
    ["amqp://host/v?heartbeat=0", /a heartbeat that is no number of seconds from 1 to 999/],
    ["amqp://host/v?heartbeat=1e3", /heartbeat/],
    ["amqp://user:p@host/a/b", /\/ in its virtual host, which is written %2F/],
    ["amqp://", /names no host/],
    ["amqp:///v", /names no host/],
    ["amqp://user:p@/v", /names no host/],
    ["amqp://:5672", /names no host/],
    ["http://host/", /must begin with amqp/],
    ["host:5672", /must begin with amqp/],
    ["amqp://host:0", /port that is no number from 1 to 65535/],
    ["amqp://host:65536", /port that is no number from 1 to 65535/],
    ["amqp://host:", /port that is no number from 1 to 65535/],
    ["amqp://user:secret", /port that is no number from 1 to 65535/],
    ["amqp://::1:5672/", /an IPv6 address stands in brackets/],
    ["amqp://[::1%25eth0]/", /neither a name nor an address/],
    ["amqp://[1:2/", /IPv6 address stands in brackets/],
    ["amqp://[:::::]/", /is not a url/],
    ["amqp://a,b/", /give a list of urls/],
  ])("%s: says how it is written", (url, mistake) => {
    expect(brokerUrlMistake(url)).toMatch(mistake);
    expect(brokerUrlMistake(url)).not.toContain("secret");
    const { mistakes } = parseConfig(`worker: {}\nbroker:\n  url: ${JSON.stringify(url)}\n`, {});
    expect(mistakes).toEqual([{ line: 3, column: 3, place: "broker.url", message: brokerUrlMistake(url) }]);
  });

  it.each([
    ["amqp://h", { host: "h", port: 5672, virtualHost: undefined, username: undefined, password: undefined }],
    ["amqps://h/", { host: "h", port: 5671, virtualHost: undefined }],
    ["amqp://u:50%25off@h:1/%2F", { port: 1, virtualHost: "/", username: "u", password: "50%off" }],
    ["amqp://u:a%40%2F%23%3F%20ü@my_rabbit.p11/v?heartbeat=5", { password: "a@/#? ü", virtualHost: "v" }],
    ["amqp://[::1]:5672", { host: "[::1]", port: 5672 }],
  ])("%s: is read", (url, expected) => {
    expect(brokerUrlMistake(url)).toBeUndefined();
    expect(readBrokerUrl(url)).toMatchObject(expected);
    expect(readBrokerUrl(url).href).not.toContain("off");
  });

  it("takes any user, password and virtual host that is encoded", () => {
    const text = fc.string({ unit: "grapheme", minLength: 1 });
    fc.assert(
      fc.property(text, text, text, (username, password, virtualHost) => {
        const [u, p, v] = [username, password, virtualHost].map(encodeURIComponent);
        const read = readBrokerUrl(`amqp://${u}:${p}@h/${v === "." || v === ".." ? `a${v}` : v}`);
        expect(read).toMatchObject({ username, password });
      }),
    );
  });

  it("is read or refused in words, whatever it is", () => {
    const part = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.constantFrom("%", "@", ":", "/", "[", "]", "#", "?", "%zz", "%ff"),
    );
    fc.assert(
      fc.property(fc.array(part), (parts) => {
        const url = `amqp://${parts.join("")}`;
        try {
          expect(readBrokerUrl(url).host).not.toBe("");
        } catch (error) {
          expect(error).toBeInstanceOf(MentoError);
        }
      }),
      { numRuns: 3000 },
    );
  });
});
