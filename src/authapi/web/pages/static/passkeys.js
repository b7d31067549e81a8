// Passkeys: a button with data-passkey asks the browser for one, and sends its form with the answer.
const EXPIRED = Symbol("the options of autofill are about to expire");
const LOCALHOST = "http://localhost";
let pending = new AbortController();

// A page has one request at a time: one that waits for autofill would block the next one.
const begin = () => {
  pending.abort();
  pending = new AbortController();
  return pending.signal;
};

async function optionsOf(button) {
  const headers = { "content-type": "application/json" };
  const response = await fetch(button.dataset.options, { method: "POST", headers, body: "{}" });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.code), { code: answer.code });
  return answer;
}

async function ask(button, mediation = "optional") {
  const signal = begin();
  const options = await optionsOf(button);
  const credential = button.dataset.passkey === "create"
    ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options), signal })
    : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options), mediation, signal });
  const { form } = button;
  form.elements.credential.disabled = false;
  form.elements.credential.value = JSON.stringify(credential.toJSON());
  form.noValidate = true;
  form.requestSubmit();
}

async function autofill(button) {
  if (!(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
  for (;;) {
    // The options are valid for five minutes, and the page may be open for longer.
    const timer = setTimeout(() => pending.abort(EXPIRED), 240_000);
    try {
      return await ask(button, "conditional");
    } catch (error) {
      if (error !== EXPIRED) return explain(button, error, true);
    } finally {
      clearTimeout(timer);
    }
  }
}

const statusOf = (button) => button.parentElement.querySelector("[role=status]");

// Browsers refuse passkeys at an address, and the API does at an origin that it does not know.
const origins = document.querySelector("meta[name=passkey-origins]")?.content.split(" ");
const isKnown = (origin) => !origins || origins.includes(origin);
const worksHere = isKnown(location.origin) || (isKnown(LOCALHOST) && /^http:\/\/localhost:\d+$/.test(location.origin));

function leadAway(button) {
  const { elsewhere, failed, passkey } = button.dataset;
  if (!elsewhere || !isKnown(LOCALHOST)) {
    if (passkey !== "get") statusOf(button).textContent = failed;
    return;
  }
  const url = new URL(location);
  url.hostname = "localhost";
  const link = document.createElement("a");
  link.href = url.href;
  link.textContent = url.origin;
  const [before, after] = elsewhere.split("{url}");
  statusOf(button).append(before, link, after);
}

function explain(button, error, isQuiet = false) {
  const { none, exists, failed, prove } = button.dataset;
  if (error.name === "AbortError") return;
  if (error.code === "passkeys_unavailable" || error.name === "SecurityError") {
    button.hidden = true;
    button.form.querySelector("[data-passkeys]")?.setAttribute("hidden", "");
    isQuiet ||= button.dataset.passkey === "get";
  }
  if (prove && /_authentication$/.test(error.code)) return location.assign(prove);
  if (error.code === "login_expired") return location.reload();
  if (isQuiet) return;
  const text = { NotAllowedError: none, InvalidStateError: exists }[error.name] ?? (error.code ? failed : none);
  statusOf(button).textContent = text;
  if ("autofill" in button.dataset) autofill(button);
}

if (window.PublicKeyCredential?.parseRequestOptionsFromJSON) {
  for (const text of document.querySelectorAll("[data-no-passkeys]")) text.remove();
  for (const button of document.querySelectorAll("button[data-passkey]")) {
    if (!worksHere) {
      leadAway(button);
      continue;
    }
    button.hidden = false;
    button.form.querySelector("[data-passkeys]")?.removeAttribute("hidden");
    button.addEventListener("click", () => {
      // A field such as the name of a new passkey is required; those of a password are not.
      if (button.dataset.passkey === "create" && !button.form.reportValidity()) return;
      ask(button).catch((error) => explain(button, error));
    });
    if ("autofill" in button.dataset) autofill(button);
  }
  // No account has this passkey, so the browser need not offer it again.
  for (const { dataset } of document.querySelectorAll("[data-unknown]")) {
    PublicKeyCredential.signalUnknownCredential?.({ rpId: dataset.rp, credentialId: dataset.unknown });
  }
}
