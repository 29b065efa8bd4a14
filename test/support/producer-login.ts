import { randomUUID } from "node:crypto";
import { facility } from "./site.ts";

/** A login of RabbitMQ's that may do what docs/security.md gives a producer: write to one exchange, and nothing else. */
export async function producerLogin(
  prefix: string,
): Promise<{ url: string; name: string; remove: () => Promise<void> }> {
  const { url, managementUrl, user, password } = facility.broker;
  const name = `daq-${randomUUID().slice(0, 8)}`;
  const ask = async (method: string, path: string, body?: object) => {
    const answer = await fetch(`${managementUrl}/api/${path}`, {
      method,
      headers: {
        authorization: `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`,
        "content-type": "application/json",
      },
      ...(body && { body: JSON.stringify(body) }),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  };
  await ask("PUT", `users/${name}`, { password: "secret", tags: "" });
  const rights = { configure: "", write: `^${prefix}\\.data$`, read: "" };
  const vhost = encodeURIComponent(decodeURIComponent(new URL(url).pathname.slice(1)) || "/");
  await ask("PUT", `permissions/${vhost}/${name}`, rights);
  const own = new URL(url);
  own.username = name;
  own.password = "secret";
  return { url: own.href, name, remove: () => ask("DELETE", `users/${name}`) };
}
