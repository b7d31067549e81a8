// The panel: who is signed in, and the forms to sign in with one factor or two.

import { facts } from "./callers.js";
import { emptyFactor, removeFactors, showFactors } from "./factor-form.js";
import { askForPasskey, canAsk } from "./passkeys.js";
import { call, Refusal } from "./requests.js";

const $ = (id) => document.getElementById(id);
const CLOCK = { timeStyle: "short", hourCycle: "h23" };
const TODAY = new Intl.DateTimeFormat("en", CLOCK);
const OTHER_DAY = new Intl.DateTimeFormat("en", { dateStyle: "medium", ...CLOCK });
const ORDER = ["totp", "passkey", "recovery"];

export class Panel {
  #callers;
  #pages;
  #login;
  #release;

  // `authorize` enters a token into Authorize, `release` removes one; `pages` are the pages there are.
  constructor(api, prefix, callers, { passkeys, pages, authorize, release, useToken }) {
    this.element = $("panel");
    this.#callers = callers;
    this.#pages = pages;
    this.#release = release;
    this.form = $("account");
    this.authorize = authorize;
    const schemas = api.components?.schemas ?? {};
    const strategies = ["session", "token", "jwt"].filter((name) => callers.schemeOf(name));
    const hasLogin = Boolean(api.paths[`${prefix}/login`]);
    const available = new Set(hasLogin ? strategies : []);
    if (hasLogin) this.#nameField(schemas.LoginRequest?.properties ?? {});
    if (api.paths[`${prefix}/register`] && this.#login === "email") available.add("register");
    if (available.has("session") && api.paths[`${prefix}/login/passkey`] && passkeys === "on" && canAsk) {
      available.add("passkey");
    }
    this.#keep(available);
    const { minLength } = schemas.Registration?.properties?.password ?? {};
    if (minLength && available.has("register")) this.form.elements.password.placeholder = `at least ${minLength} characters`;
    this.form.hidden = available.size === 0;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(event.submitter.value);
    });
    if (!hasLogin && callers.schemeOf("session") === undefined && Object.keys(callers.schemes).length) {
      $("elsewhere").hidden = false;
      $("use-token").addEventListener("click", useToken);
    }
    callers.onChange(() => this.#showCallers());
    this.element.hidden = this.form.hidden && $("elsewhere").hidden;
  }

  // Enter submits with the first button of a form even if it is hidden, so others are removed.
  #keep(available) {
    for (const element of document.querySelectorAll("[data-needs]")) {
      if (!element.dataset.needs.split(" ").some((need) => available.has(need))) element.remove();
    }
  }

  // The operator decides whether accounts log in with their address, their user name, or either.
  #nameField({ email, username }) {
    this.#login = username ? "username" : "email";
    if (!username) return;
    $("login-name").textContent = email ? "E-mail or user name" : "User name";
    this.form.elements.login.type = "text";
  }

  focus() {
    (this.form.hidden ? $("factor") : this.form).querySelector("input:enabled")?.focus();
    this.element.scrollIntoView({ block: "nearest" });
  }

  #submit(action) {
    const { login, password, name } = this.form.elements;
    const account = { [this.#login]: login.value.trim(), password: password.value };
    if (action === "register") return this.run(() => this.#register({ ...account, name: name.value.trim() || null }));
    if (action === "passkey") return this.run(() => this.#signInByPasskey());
    return this.run(async () => {
      try {
        return await this.#signedIn(action, await call("POST", "login", { body: { ...account, strategy: action } }));
      } catch (refusal) {
        return this.#goOn(action, refusal);
      }
    });
  }

  async #register(account) {
    const user = await call("POST", "register", { body: account });
    return user?.email ? `Registered ${user.email}.` : "If the address can have an account, a mail with a link is on its way.";
  }

  async #signInByPasskey() {
    const credential = await askForPasskey("login/passkey/options");
    try {
      return await this.#signedIn("session", await call("POST", "login/passkey", { body: { credential, strategy: "session" } }));
    } catch (refusal) {
      return this.#goOn("session", refusal);
    }
  }

  async #signedIn(strategy, issued) {
    this.#reset();
    if (issued.access_token) {
      this.authorize(this.#callers.schemeOf(strategy), issued);
      return `Requests below are now sent with a ${strategy === "jwt" ? "JWT" : strategy} of ${issued.user.email}.`;
    }
    await this.#callers.refreshCookie();
    return `Signed in as ${issued.user.email}.`;
  }

  // The first factor was right: the login waits for the second one, or for adding one.
  #goOn(strategy, refusal) {
    const { code, problem } = refusal;
    if (code === "second_factor_required") this.#askForFactor(strategy, problem);
    else if (code === "enrolment_required") this.#leadToEnrolment(strategy, problem);
    else throw refusal;
    return "";
  }

  #askForFactor(strategy, { ticket, methods }) {
    this.form.hidden = true;
    const possible = ORDER.filter((method) => methods.includes(method) && (method !== "passkey" || canAsk));
    const waiting = ticket ? { ticket } : {};
    const prove = async (proof) => {
      try {
        return await this.#signedIn(strategy, await call("POST", "login/second-factor", { body: { ...waiting, ...proof } }));
      } catch (refusal) {
        if (refusal.code === "login_expired") this.#reset();
        else emptyFactor($("factor"));
        throw refusal;
      }
    };
    showFactors($("factor"), possible, {
      send: (proof) => this.run(() => prove(proof)),
      passkey: () => this.run(async () => prove({ passkey: await askForPasskey("login/second-factor/options", { body: waiting }) })),
      cancel: () => {
        this.#reset();
        this.show("");
        this.focus();
      },
    });
    const lead = document.createElement("p");
    lead.textContent = "The password is right. This account has a second factor:";
    $("factor").prepend(lead);
  }

  #leadToEnrolment(strategy, { ticket }) {
    const { signIn } = this.#pages;
    const place = $("enrolment");
    place.replaceChildren();
    const lead = document.createElement("p");
    lead.textContent = "The password is right, but this account must add a second factor before it can sign in. ";
    if (signIn) {
      const link = document.createElement("a");
      link.href = strategy === "session" ? `${signIn}/enrol` : signIn;
      link.textContent = "Add it at the sign-in page";
      lead.append(link, ", then come back.");
    } else {
      lead.append("Send POST login/enrolment/totp below, then its confirmation", ticket ? ", with this ticket: " : ".");
      if (ticket) lead.append(Object.assign(document.createElement("code"), { textContent: ticket }));
    }
    place.append(lead);
    place.hidden = false;
  }

  #reset() {
    removeFactors($("factor"));
    $("enrolment").hidden = true;
    this.form.hidden = this.form.querySelector("button") === null;
  }

  #showCallers() {
    const callers = this.#callers.list();
    $("nobody").hidden = callers.length > 0;
    $("callers").replaceChildren(...callers.map((caller, place) => this.#row(caller, place === 0 && !caller.problem)));
  }

  #row(caller, isUsed) {
    const row = document.createElement("li");
    const who = document.createElement("p");
    const name = caller.user?.email ?? caller.user?.username;
    who.append(Object.assign(document.createElement("b"), { textContent: name ?? caller.label }));
    const parts = name ? [caller.label, ...facts(caller)] : facts(caller);
    const details = document.createElement("span");
    for (const part of parts) details.append(" · ", ...(Array.isArray(part) ? [`${part[0]} `, time(part[1])] : [part]));
    const use = document.createElement("span");
    use.className = isUsed ? "used" : "unused";
    use.textContent = isUsed ? "in use" : "not in use";
    who.append(details);
    row.append(who, use);
    if (!caller.claims) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = caller.isCookie ? "Sign out" : `End this ${caller.label === "JWT" ? "JWT" : "token"}`;
      button.addEventListener("click", () => this.run(() => this.signOut(caller)));
      row.append(button);
    }
    return row;
  }

  async signOut(caller) {
    const { name, authorization, isCookie } = caller;
    try {
      await call("POST", "logout", { authorization });
    } catch (refusal) {
      // It has ended already: there is nothing left to revoke.
      if (refusal.status !== 401) throw refusal;
    }
    if (isCookie) this.#callers.forget(name);
    else this.#release(name);
    this.focus();
    return isCookie ? "Signed out." : `The ${caller.label === "JWT" ? "JWT" : "token"} has ended.`;
  }

  show(text, kind = "") {
    $("status").textContent = text;
    $("status").className = kind;
  }

  run(action) {
    return runIn(this.element, (text, kind) => this.show(text, kind), action);
  }
}

// The buttons stay enabled while an action runs: disabling the pressed one would remove its focus.
export async function runIn(element, show, action) {
  if (element.ariaBusy === "true") return;
  element.ariaBusy = "true";
  show("");
  try {
    show(await action(), "done");
  } catch (error) {
    if (!(error instanceof Refusal)) console.error(error);
    show(error instanceof Refusal ? error.message : "The page has failed. Reload it.", "error");
  } finally {
    element.ariaBusy = "false";
  }
}

function time(date) {
  const isToday = date.toDateString() === new Date().toDateString();
  const textContent = (isToday ? TODAY : OTHER_DAY).format(date);
  return Object.assign(document.createElement("time"), { dateTime: date.toISOString(), textContent });
}
