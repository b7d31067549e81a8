// Improves pages that also work without it. Each attribute below is one improvement.
const all = (selector) => document.querySelectorAll(selector);
const make = (name, text, attributes = {}) => {
  const element = document.createElement(name);
  element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};

// data-show, data-hide: a button that shows the typed password. Sending the form hides it again.
for (const input of all("input[data-show]")) {
  const { show, hide } = input.dataset;
  const box = make("div", "", { class: "secret" });
  const button = make("button", show, { type: "button", "aria-pressed": "false", "aria-controls": input.id });
  const focused = document.activeElement === input;
  const set = (visible) => {
    input.type = visible ? "text" : "password";
    button.textContent = visible ? hide : show;
    button.setAttribute("aria-pressed", String(visible));
  };
  button.setAttribute("aria-label", `${show}: ${input.labels[0]?.textContent.trim() ?? ""}`);
  button.addEventListener("click", () => {
    set(input.type === "password");
    input.focus();
  });
  input.form?.addEventListener("submit", () => set(false));
  input.replaceWith(box);
  box.append(input, button);
  if (focused) input.focus();
}

// data-count, data-count-text: how many characters of the least number are typed.
for (const input of all("input[data-count]")) {
  const line = make("span", "", { class: "count" });
  document.getElementById(`${input.id}-hint`)?.append(line);
  const least = Number(input.dataset.count);
  input.addEventListener("input", () => {
    const typed = [...input.value].length;
    const text = input.dataset.countText.replace("{n}", typed).replace("{min}", least);
    line.textContent = typed && typed < least ? text : "";
  });
}

// data-confirm, data-confirm-no: asks in a dialog before the form of the button is sent.
for (const button of all("button[data-confirm]")) {
  button.addEventListener("click", (event) => {
    if (button.dataset.sure) return;
    event.preventDefault();
    const dialog = make("dialog", "");
    const yes = make("button", button.textContent, { type: "button", class: button.className });
    const no = make("button", button.dataset.confirmNo, { type: "button", class: "plain" });
    yes.addEventListener("click", () => {
      button.dataset.sure = "yes";
      dialog.close();
      button.form.requestSubmit(button);
    });
    no.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      dialog.remove();
      button.focus();
    });
    dialog.append(make("p", button.dataset.confirm), yes, no);
    document.body.append(dialog);
    dialog.showModal();
    no.focus();
  });
}

// data-once: a form is sent once, and its button says that it is being sent.
for (const form of all("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (form.dataset.sent) return event.preventDefault();
    form.dataset.sent = "yes";
    if (!button?.dataset.once) return;
    button.dataset.label = button.textContent;
    button.setAttribute("aria-busy", "true");
    button.textContent = button.dataset.once;
  });
}
// A page that "Back" shows again is as it was before its form was sent.
addEventListener("pageshow", () => {
  for (const form of all("form[data-sent]")) delete form.dataset.sent;
  for (const button of all("button[aria-busy]")) {
    button.removeAttribute("aria-busy");
    button.textContent = button.dataset.label;
  }
});

// data-time: a time in the zone of the reader, with the distance in words; "short" shows only these.
const units = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];
for (const time of all("time[data-time]")) {
  const at = new Date(time.dateTime);
  const language = document.documentElement.lang;
  const exact = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(at);
  const seconds = (at - Date.now()) / 1000;
  const [unit, length] = units.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", Infinity];
  const words = new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(Math.round(seconds / length), unit);
  time.title = exact;
  time.textContent = time.dataset.time ? words : `${exact} (${words})`;
  if (time.dataset.time) time.append(make("span", ` (${exact})`, { class: "sr" }));
}

// data-copy, data-copied: a button that copies the value of the field with this id. Only pages with
// a secure origin may copy. The focus selects the value.
for (const button of all("button[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  source.addEventListener("focus", () => source.select());
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(source.value);
    button.textContent = button.dataset.copied;
  });
}

// data-wait: a button that works after so many seconds.
for (const button of all("button[data-wait]")) {
  button.disabled = true;
  setTimeout(() => (button.disabled = false), button.dataset.wait * 1000);
}

// data-submit: a choice that takes effect at once, so its button is not needed.
for (const select of all("select[data-submit]")) {
  const button = select.form.querySelector("button");
  button.hidden = true;
  select.addEventListener("change", () => select.form.requestSubmit());
}

// The list of pages scrolls on a phone: its current page is in view.
for (const link of all(".rail [aria-current]")) link.scrollIntoView({ block: "nearest", inline: "center" });
