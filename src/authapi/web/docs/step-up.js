// The dialog that proves a factor again, when a route asks for a recent or a stronger login.

import { emptyFactor, removeFactors, showFactors } from "./factor-form.js";
import { runIn } from "./panel.js";
import { askForPasskey, canAsk } from "./passkeys.js";
import { call } from "./requests.js";

const $ = (id) => document.getElementById(id);
const CODES = ["insufficient_authentication", "stale_authentication"];
const PHISHING_RESISTANT = "phr";

export class StepUp {
  #callers;
  #names;
  #done;
  #pages;

  // `done` is called with a sentence when the factor was proved.
  constructor(api, prefix, callers, { done, pages }) {
    this.#callers = callers;
    this.#done = done;
    this.#pages = pages;
    const alternatives = api.paths[`${prefix}/me/reauthenticate`]?.post?.security ?? [];
    this.#names = alternatives.flatMap((item) => Object.keys(item));
    $("step-up").addEventListener("close", () => removeFactors($("proof")));
  }

  // Whether this refusal of a route can be answered by a proof.
  static concerns(problem) {
    return CODES.includes(problem?.code);
  }

  async offer(problem, authorization) {
    const caller = this.#callers.sender(authorization);
    const needs = needed(problem);
    $("step-up-status").textContent = $("step-up-status").className = "";
    $("step-up-reason").textContent = `This operation asks for ${needs}.`;
    const cancel = () => $("step-up").close();
    if (!caller || !this.#names.includes(caller.name)) {
      $("step-up-reason").append(" This credential cannot be renewed: sign in again at the top of the page.");
      showFactors($("proof"), [], { cancel });
      $("step-up").showModal();
      return;
    }
    const methods = await this.#methods(problem, authorization);
    if (!methods.length) this.#leadToFactors();
    const finish = async (body) => {
      try {
        await call("POST", "me/reauthenticate", { body, authorization });
      } catch (refusal) {
        emptyFactor($("proof"));
        throw refusal;
      }
      $("step-up").close();
      if (caller.isCookie) await this.#callers.refreshCookie();
      this.#done("Proved. Execute the operation again.");
      return "";
    };
    showFactors($("proof"), methods, {
      send: (proof) => this.#run(() => finish(proof)),
      passkey: () => this.#run(async () => finish({ passkey: await askForPasskey("me/reauthenticate/options", { authorization }) })),
      cancel,
    });
    $("step-up").showModal();
    $("proof").querySelector("input:enabled, button")?.focus();
  }

  // What the account has, and what is strong enough.
  async #methods({ acr_values: acr }, authorization) {
    let factors = null;
    try {
      factors = await call("GET", "me/factors", { authorization });
    } catch {
      return acr ? [] : ["password"];
    }
    const methods = [];
    if (!acr) methods.push("password");
    if (acr !== PHISHING_RESISTANT) {
      if (acr && factors.totp) methods.push("totp");
      if (acr && factors.recovery_codes?.left) methods.push("recovery");
    }
    if (factors.passkeys.length && canAsk) methods.push("passkey");
    return methods;
  }

  #leadToFactors() {
    const reason = $("step-up-reason");
    const { security } = this.#pages;
    if (!security) {
      reason.append(" The account has no such factor: add one by the operations at me/factors.");
      return;
    }
    const link = Object.assign(document.createElement("a"), { href: security, textContent: "add one at the page of the account" });
    reason.append(" The account has no such factor: ", link, ".");
  }

  #run(action) {
    const show = (text, kind = "") => Object.assign($("step-up-status"), { textContent: text, className: kind });
    return runIn($("step-up"), show, action);
  }
}

function needed({ acr_values: acr, max_age: age }) {
  const parts = [];
  if (acr) parts.push(acr === PHISHING_RESISTANT ? "a login with a passkey" : "a login with two factors");
  if (age !== undefined) parts.push(`${acr ? "proved" : "a login"} at most ${age} seconds ago`);
  return parts.join(", ") || "a stronger login";
}
