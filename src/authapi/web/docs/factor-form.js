// A form that asks for one of several proofs, and shows one at a time.

const template = document.getElementById("factor-fields");
const FIELDS = { password: "password", totp: "code", recovery: "recovery_code" };

// Fills `form`. `methods` are in the order of preference; `send` gets the member of the body.
export function showFactors(form, methods, { send, passkey, cancel }) {
  form.replaceChildren(template.content.cloneNode(true));
  const typed = methods.filter((method) => method in FIELDS);
  const button = (value) => form.querySelector(`button[value=${value}]`);
  for (const label of form.querySelectorAll("label")) if (!typed.includes(label.dataset.method)) label.remove();
  if (!methods.includes("passkey")) button("passkey").remove();
  if (!typed.length) button("send").remove();

  const show = (chosen) => {
    for (const label of form.querySelectorAll("label")) {
      const isShown = label.dataset.method === chosen;
      label.hidden = !isShown;
      label.querySelector("input").disabled = !isShown;
    }
    for (const method of Object.keys(FIELDS)) button(method).hidden = method === chosen || !typed.includes(method);
    form.dataset.chosen = chosen ?? "";
    form.querySelector("input:enabled, button")?.focus();
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    const name = FIELDS[form.dataset.chosen];
    const { value } = form.elements[name];
    send({ [name]: name === "password" ? value : value.trim() });
  };
  form.onclick = ({ target }) => {
    const chosen = target.closest("button[type=button]")?.value;
    if (chosen in FIELDS) show(chosen);
    if (chosen === "passkey") passkey();
    if (chosen === "cancel") cancel();
  };
  form.hidden = false;
  show(typed[0]);
}

// Empties the field after a refusal.
export function emptyFactor(form) {
  const field = form.querySelector("input:enabled");
  if (field) field.value = "";
  field?.focus();
}

// Removes what was typed, too.
export function removeFactors(form) {
  form.replaceChildren();
  form.hidden = true;
}
