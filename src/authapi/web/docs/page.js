// The docs page: Swagger UI, and above it a panel for what Swagger UI cannot do, which is to be signed in by a cookie.

"use strict";

const $ = (id) => document.getElementById(id);
const panel = $("panel");
const form = $("account");
const dark = matchMedia("(prefers-color-scheme: dark)");
let swagger;
let schemes;
let changing = false;

// Swagger UI brings its dark colours, but leaves it to the page when to show them.
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

start().catch(() => { $("swagger-ui").textContent = "The documentation could not be loaded."; });

async function start() {
  const source = document.querySelector("link[rel=service-desc]").href;
  const api = await (await fetch(source)).json();
  schemes = api.components?.securitySchemes ?? {};
  document.title = `${api.info.title}: documentation`;
  resolve(api);
  offerWhatThereIs(api);
  swagger = SwaggerUIBundle({
    spec: api,
    domNode: $("swagger-ui"),
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    persistAuthorization: false,
    tryItOutEnabled: true,
    validatorUrl: null,
    plugins: [cookieSchemes],
    requestInterceptor: beforeRequest,
    responseInterceptor: afterResponse,
  });
  await showCaller();
}

// Relative to the server's address, which Swagger UI would cut at its last slash; below a prefix that loses the prefix.
function resolve(api) {
  for (const scheme of Object.values(schemes)) {
    for (const flow of Object.values(scheme.flows ?? {})) {
      if (flow.tokenUrl) flow.tokenUrl = new URL(flow.tokenUrl, document.baseURI).href;
    }
  }
  const { pathname } = new URL(".", document.baseURI);
  if (pathname !== "/") api.servers ??= [{ url: pathname.slice(0, -1) }];
}

function offerWhatThereIs(api) {
  const there = new Set(api.paths["/login"] ? Object.keys(schemes) : []);
  if (api.paths["/register"]) there.add("register");
  for (const element of document.querySelectorAll("[data-needs]")) {
    // Removed and not hidden: Enter presses the first button that there is, seen or not.
    if (!element.dataset.needs.split(" ").some((need) => there.has(need))) element.remove();
  }
  const { minLength } = api.components?.schemas?.Registration?.properties?.password ?? {};
  if (minLength) form.elements.password.placeholder = `at least ${minLength} characters`;
  panel.hidden = form.querySelector("button") === null;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const action = event.submitter.value;
  const fields = form.elements;
  const email = fields.email.value.trim();
  const password = fields.password.value;
  busy(async () => {
    if (action === "register") {
      const user = await call("POST", "register", { email, password, name: fields.name.value.trim() || null });
      return `Registered ${user.email}.`;
    }
    const issued = await call("POST", "login", { email, password, strategy: action });
    if (action === "session") {
      await showCaller();
      return `Signed in as ${issued.user.email}.`;
    }
    authorize(action, issued);
    return `Requests below are now sent with a ${action === "jwt" ? "JWT" : action} of ${issued.user.email}.`;
  });
});

$("sign-out").addEventListener("click", () => busy(async () => {
  try {
    await call("POST", "logout");
  } finally {
    await showCaller();
    form.elements.email.focus();
  }
  return "Signed out.";
}));

// One at a time: two schemes that want the same header would overwrite each other.
function authorize(name, issued) {
  const { authActions, authSelectors } = swagger;
  const schema = schemes[name];
  const held = authSelectors.authorized();
  if (held.size) authActions.logout([...held.keys()]);
  if (schema.type === "oauth2") {
    authActions.authorizeOauth2({ auth: { name, schema, flow: "password" }, token: issued });
  } else {
    swagger.preauthorizeApiKey(name, issued.access_token);
  }
}

async function showCaller() {
  const caller = $("caller");
  if (caller === null) return;
  let text = "Nobody is signed in.";
  let known = false;
  try {
    const user = await call("GET", "me");
    text = `${user.email}, by the session cookie`;
    known = true;
  } catch (error) {
    if (error.status !== 401) text = "The service does not say.";
  }
  caller.textContent = text;
  caller.classList.toggle("known", known);
  $("sign-out").hidden = !known;
}

// What is executed below may sign in or out.
function beforeRequest(request) {
  changing = request.method !== "GET";
  return request;
}

function afterResponse(response) {
  if (changing) showCaller();
  return response;
}

// Swagger UI would ask for the value of the cookie and then not be able to send it.
function cookieSchemes() {
  const wrap = (Original, { React }) => (props) => {
    if (props.schema.get("in") !== "cookie") return React.createElement(Original, props);
    return React.createElement("div", null,
      React.createElement("h4", null, React.createElement("code", null, props.name), " (cookie)"),
      React.createElement("p", null, "Sign in at the top of this page: the browser then sends the cookie by itself."));
  };
  return { wrapComponents: { apiKeyAuth: wrap } };
}

async function call(method, path, body) {
  const headers = body ? { "content-type": "application/json" } : {};
  const url = new URL(path, document.baseURI);
  const response = await fetch(url, { method, headers, body: JSON.stringify(body) });
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Refusal(answer);
  return answer;
}

class Refusal extends Error {
  constructor(problem) {
    const errors = problem.errors?.map(({ loc, message }) => `${loc.at(-1)}: ${message}`);
    super(errors?.join("; ") || problem.detail);
    this.status = problem.status;
  }
}

// Buttons are not disabled meanwhile: that would take the keyboard's focus away from the one just pressed.
async function busy(work) {
  if (panel.ariaBusy === "true") return;
  panel.ariaBusy = "true";
  say("");
  try {
    say(await work(), "done");
  } catch (error) {
    say(error instanceof Refusal ? error.message : "The service does not answer.", "error");
  } finally {
    panel.ariaBusy = "false";
  }
}

function say(text, kind = "") {
  $("status").textContent = text;
  $("status").className = kind;
}
