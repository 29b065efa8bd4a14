import { randomUUID } from "node:crypto";
import { facility } from "./site.ts";

/** Which names a login may make, publish to, and consume: regular expressions. */
export interface Permissions {
  configure: string;
  write: string;
  read: string;
}

export interface BrokerLogin {
  url: string;
  remove: () => Promise<void>;
}

/** A login of RabbitMQ's that is no administrator, on the tests' broker. */
export async function brokerLogin(permissions: Permissions): Promise<BrokerLogin> {
  const { url, managementUrl, user, password } = facility.broker;
  const name = `login-${randomUUID().slice(0, 8)}`;
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
  const vhost = encodeURIComponent(decodeURIComponent(new URL(url).pathname.slice(1)) || "/");
  await ask("PUT", `permissions/${vhost}/${name}`, permissions);
  const own = new URL(url);
  own.username = name;
  own.password = "secret";
  return { url: own.href, remove: () => ask("DELETE", `users/${name}`) };
}
