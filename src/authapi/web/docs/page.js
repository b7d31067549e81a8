// The docs page: Swagger UI, and a panel that signs in with a cookie, which Swagger UI cannot do.

"use strict";

const $ = (id) => document.getElementById(id);
const panel = $("panel");
const form = $("account");
const dark = matchMedia("(prefers-color-scheme: dark)");
let swagger;
let schemes;
let changing = false;

// Swagger UI has a dark theme, but the page must enable it.
const applyTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", applyTheme);
applyTheme();

showPasskeyHost($("passkey-host"));

start().catch(() => { $("swagger-ui").textContent = "The documentation could not be loaded."; });

async function start() {
  const { href, dataset: { base, prefix } } = document.querySelector("link[rel=service-desc]");
  const api = await (await fetch(href)).json();
  schemes = api.components?.securitySchemes ?? {};
  document.title = `${api.info.title}: documentation`;
  resolveURLs(api, new URL(base, document.baseURI));
  showAvailableControls(api, prefix);
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

// Swagger UI resolves token URLs against the server URL without its last segment, which would remove a path that a proxy adds.
function resolveURLs(api, application) {
  for (const scheme of Object.values(schemes)) {
    for (const flow of Object.values(scheme.flows ?? {})) {
      if (flow.tokenUrl) flow.tokenUrl = new URL(flow.tokenUrl, application).href;
    }
  }
  const { pathname } = application;
  if (pathname !== "/") api.servers ??= [{ url: pathname.slice(0, -1) }];
}

// Browsers refuse passkeys at an IP address.
function showPasskeyHost(notice) {
  const { host } = notice.dataset;
  if (!host || !/^\[|^[\d.]+$/.test(location.hostname)) return;
  const url = new URL(location);
  url.hostname = host;
  url.search = url.hash = "";
  const link = notice.querySelector("a");
  link.href = link.textContent = url.href;
  notice.hidden = false;
}

function showAvailableControls(api, prefix) {
  const available = new Set(api.paths[`${prefix}/login`] ? Object.keys(schemes) : []);
  if (api.paths[`${prefix}/register`]) available.add("register");
  for (const element of document.querySelectorAll("[data-needs]")) {
    // Removed, because Enter submits with the first button of the form even if it is hidden.
    if (!element.dataset.needs.split(" ").some((need) => available.has(need))) element.remove();
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
  run(async () => {
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

$("sign-out").addEventListener("click", () => run(async () => {
  try {
    await call("POST", "logout");
  } finally {
    await showCaller();
    form.elements.email.focus();
  }
  return "Signed out.";
}));

// Only one scheme is authorized at a time: several could set the same header.
function authorize(name, issued) {
  const { authActions, authSelectors } = swagger;
  const schema = schemes[name];
  const authorized = authSelectors.authorized();
  if (authorized.size) authActions.logout([...authorized.keys()]);
  if (schema.type === "oauth2") {
    authActions.authorizeOauth2({ auth: { name, schema, flow: "password" }, token: issued });
  } else {
    swagger.preauthorizeApiKey(name, issued.access_token);
  }
}

async function showCaller() {
  const caller = $("caller");
  if (caller === null) return;
  let text = "Not signed in.";
  let signedIn = false;
  try {
    const user = await call("GET", "me");
    text = `${user.email}, by the session cookie`;
    signedIn = true;
  } catch (error) {
    if (error.status !== 401) text = "The service is not available.";
  }
  caller.textContent = text;
  caller.classList.toggle("signed-in", signedIn);
  $("sign-out").hidden = !signedIn;
}

// Requests that are executed in Swagger UI may sign in or out.
function beforeRequest(request) {
  changing = request.method !== "GET";
  return request;
}

function afterResponse(response) {
  if (changing) showCaller();
  return response;
}

// Swagger UI would ask for the value of the cookie, but pages cannot set the header Cookie.
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
  const result = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new ProblemError(result);
  return result;
}

class ProblemError extends Error {
  constructor(problem) {
    const errors = problem.errors?.map(({ loc, message }) => `${loc.at(-1)}: ${message}`);
    super(errors?.join("; ") || problem.detail);
    this.status = problem.status;
  }
}

// The buttons stay enabled while an action runs: disabling the pressed button would remove its focus.
async function run(action) {
  if (panel.ariaBusy === "true") return;
  panel.ariaBusy = "true";
  showStatus("");
  try {
    showStatus(await action(), "done");
  } catch (error) {
    showStatus(error instanceof ProblemError ? error.message : "The service does not answer.", "error");
  } finally {
    panel.ariaBusy = "false";
  }
}

function showStatus(text, kind = "") {
  $("status").textContent = text;
  $("status").className = kind;
}
