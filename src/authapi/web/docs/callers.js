// Who is signed in: by the cookie of this browser, and by what Authorize has. Nothing is stored.

import { call } from "./requests.js";

const LABELS = { session: "Session cookie", token: "Token", jwt: "JWT", basic: "Password" };
const METHODS = { pwd: "password", otp: "code of the app", recovery: "recovery code", pop: "passkey" };

export class Callers {
  #known = new Map();
  #headers = new Map();
  #listeners = new Set();

  constructor(api, prefix) {
    this.schemes = api.components?.securitySchemes ?? {};
    const names = Object.keys(this.schemes);
    this.cookie = names.find((name) => this.schemes[name].in === "cookie");
    const alternatives = api.paths[`${prefix}/me`]?.get?.security ?? [];
    this.accepted = alternatives.flatMap((item) => Object.keys(item));
    this.hasAccounts = this.accepted.length > 0;
  }

  // The scheme of a strategy. An application that has a scheme of the same name gets another one.
  schemeOf(strategy) {
    return [`authapi_${strategy}`, strategy].find((name) => name in this.schemes);
  }

  labelOf(name) {
    return LABELS[name.replace(/^authapi_/, "")] ?? name;
  }

  // Returns a function that removes the listener.
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get(name) {
    return this.#known.get(name);
  }

  // In the order in which the service reads them: it looks at the cookie last.
  list() {
    return [...this.#known.values()].sort((one, other) => (one.name === this.cookie) - (other.name === this.cookie));
  }

  // The one that sends a request with this header.
  sender(authorization) {
    return this.list().find((caller) => caller.authorization === authorization);
  }

  async refreshCookie() {
    if (this.cookie && this.hasAccounts) await this.#identify(this.cookie);
  }

  forget(name) {
    if (this.#known.delete(name)) this.#changed();
  }

  // `authorized` are the credentials of Authorize, by scheme.
  async follow(authorized) {
    const headers = new Map();
    for (const [name, entry] of Object.entries(authorized)) {
      if (name !== this.cookie) headers.set(name, headerOf(entry));
    }
    for (const name of this.#headers.keys()) if (!headers.has(name)) this.forget(name);
    const added = [...headers].filter(([name, header]) => header && this.#headers.get(name) !== header);
    this.#headers = headers;
    await Promise.all(added.map(([name, header]) => this.#identify(name, header)));
  }

  async #identify(name, authorization) {
    const caller = { name, label: this.labelOf(name), authorization, isCookie: name === this.cookie };
    if (this.accepted.includes(name)) {
      try {
        const [user, identity] = await Promise.all(["me", "me/identity"].map((path) => call("GET", path, { authorization })));
        Object.assign(caller, { user, identity });
      } catch (refusal) {
        if (caller.isCookie && refusal.status === 401) return this.forget(name);
        caller.problem = refusal.status === 401 ? "The service does not accept it." : refusal.message;
      }
    } else {
      caller.claims = claimsOf(authorization);
    }
    if (authorization && this.#headers.get(name) !== authorization) return; // replaced meanwhile
    this.#known.set(name, caller);
    this.#changed();
  }

  #changed() {
    for (const listener of this.#listeners) listener();
  }
}

// The facts of a caller, as parts of a line: texts, and times as dates.
export function facts({ identity, claims, problem }) {
  if (problem) return [problem];
  if (claims) {
    return [claims.sub && `subject ${claims.sub}`, claims.iss && `of ${claims.iss}`, claims.exp && ["until", new Date(claims.exp * 1000)]];
  }
  if (!identity) return [];
  const methods = identity.amr.map((name) => METHODS[name]).filter(Boolean);
  return [
    methods.length ? `by ${methods.join(" and ")}` : "personal access token",
    identity.amr.includes("mfa") && "two factors",
    methods.length > 0 && ["since", new Date(identity.auth_time)],
    identity.expires_at && ["until", new Date(identity.expires_at)],
    identity.scopes.length > 0 && `scopes ${identity.scopes.join(", ")}`,
  ].filter(Boolean);
}

function headerOf({ schema, value, token }) {
  const { type, scheme } = schema;
  if (type === "oauth2") return token?.access_token && `Bearer ${token.access_token}`;
  if (type !== "http") return undefined;
  if (scheme.toLowerCase() === "bearer") return value && `Bearer ${value}`;
  return `Basic ${btoa(unescape(encodeURIComponent(`${value?.username ?? ""}:${value?.password ?? ""}`)))}`;
}

// What a JWT says of itself. Nothing depends on it: only the service verifies tokens.
function claimsOf(authorization) {
  try {
    const payload = authorization.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (byte) => byte.charCodeAt(0))));
  } catch {
    return {};
  }
}
