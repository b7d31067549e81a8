// Passkeys: asks the browser for one, with options of the service.

import { call, Refusal } from "./requests.js";

// Browsers refuse passkeys at an address, and old ones cannot read the options as JSON.
export const canAsk = typeof globalThis.PublicKeyCredential?.parseRequestOptionsFromJSON === "function"
  && !/^\[|^[\d.]+$/.test(location.hostname);

export async function askForPasskey(path, request) {
  const options = await call("POST", path, request);
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  try {
    return (await navigator.credentials.get({ publicKey })).toJSON();
  } catch (error) {
    const text = error.name === "NotAllowedError" ? "No passkey was used." : "The browser refuses passkeys here.";
    throw new Refusal(text, { status: 0 });
  }
}
