// The docs page: Swagger UI, and a panel that signs in with a cookie, which Swagger UI cannot do.

import { Callers } from "./callers.js";
import { Panel } from "./panel.js";
import { call, parsed } from "./requests.js";
import { StepUp } from "./step-up.js";
import { createSwagger, showCookie } from "./swagger.js";

const METADATA = ".well-known/oauth-protected-resource";
const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");

// Swagger UI has a dark theme, but the page must enable it.
const applyTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", applyTheme);
applyTheme();

showPasskeyHost($("passkey-host"));

start().catch((error) => {
  console.error(error);
  $("swagger-ui").textContent = "The documentation could not be loaded.";
});

async function start() {
  const { href, dataset } = document.querySelector("link[rel=service-desc]");
  const { base, prefix, session, passkeys, publicUrl } = dataset;
  const api = await (await fetch(href)).json();
  const application = new URL(base, document.baseURI);
  document.title = `${api.info.title}: documentation`;
  const callers = new Callers(api, prefix);
  removeServer(api, publicUrl);
  resolveURLs(api, callers.schemes, application);
  const names = dataset.pages.split(" ");
  const pages = {
    signIn: names.includes("signin") && "account/sign-in",
    security: names.includes("account") && "account/security",
  };
  const panel = new Panel(api, prefix, callers, {
    passkeys,
    pages,
    authorize: (name, issued) => authorize(swagger, callers, name, issued),
    release: (name) => swagger.authActions.logout([name]),
    useToken: () => swagger.authActions.showDefinitions(swagger.authSelectors.definitionsToAuthorize()),
  });
  const stepUp = new StepUp(api, prefix, callers, { pages, done: (text) => panel.show(text, "done") });
  const sent = new Map();
  const swagger = createSwagger(api, {
    callers,
    panel: panel.element,
    signIn: () => panel.focus(),
    signOut: () => panel.run(() => panel.signOut(callers.get(callers.cookie))),
    beforeRequest: ({ url, method, headers }) => sent.set(url, { method, authorization: headers.Authorization }),
    afterResponse: (response) => follow(response, sent.get(response.url) ?? {}, { callers, stepUp, path: (name) => new URL(name, document.baseURI).href }),
  });
  watchAuthorize(swagger, callers);
  if (session) await callers.refreshCookie();
  if (!$("elsewhere").hidden) await showIssuers(api, application);
}

// The page may send requests only to its own origin, which need not be the public URL.
function removeServer(api, publicUrl) {
  const others = (api.servers ?? []).filter(({ url }) => url !== publicUrl);
  if (others.length) api.servers = others;
  else delete api.servers;
}

// Swagger UI resolves token URLs against the server URL without its last segment, which would remove a path that a proxy adds.
function resolveURLs(api, schemes, application) {
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

// Only one header is sent: another one that Authorize has would overwrite it.
function authorize({ authActions, authSelectors, preauthorizeApiKey }, callers, name, issued) {
  const others = [...authSelectors.authorized().keys()].filter((other) => other !== callers.cookie);
  if (others.length) authActions.logout(others);
  const schema = callers.schemes[name];
  if (schema.type === "oauth2") {
    authActions.authorizeOauth2({ auth: { name, schema, flow: "password" }, token: issued });
  } else {
    preauthorizeApiKey(name, issued.access_token);
  }
}

// The panel also shows what was typed into Authorize, and Authorize shows the cookie. Swagger UI knows the schemes only when
// it has read the document, so it is told at each of its changes.
function watchAuthorize(swagger, callers) {
  let seen;
  const look = () => {
    if (callers.cookie) showCookie(swagger, callers.cookie, callers.get(callers.cookie) !== undefined);
    const authorized = swagger.authSelectors.authorized();
    if (authorized === seen) return;
    seen = authorized;
    callers.follow(authorized.toJS());
  };
  swagger.getStore().subscribe(look);
  callers.onChange(look);
  look();
}

// Requests that are executed in Swagger UI may sign in or out, or ask for a stronger login.
function follow(response, { method, authorization }, { callers, stepUp, path }) {
  const { url, status } = response;
  if (status === 401) {
    const problem = parsed(response.text);
    if (StepUp.concerns(problem)) stepUp.offer(problem, authorization);
    else if (problem?.code === "unauthenticated" && !authorization) callers.forget(callers.cookie);
  } else if (status < 400 && method !== "GET") {
    const isLogout = url === path("logout");
    const sender = callers.sender(authorization);
    if (isLogout && sender) callers.forget(sender.name);
    else if (url.startsWith(path("login")) || sender?.isCookie) callers.refreshCookie();
  }
}

// Where the tokens of a resource server come from.
async function showIssuers(api, application) {
  const path = Object.keys(api.paths).find((item) => item.includes(METADATA));
  if (!path) return;
  const { authorization_servers: issuers = [] } = await call("GET", new URL(path.slice(1), application).href);
  if (issuers.length) $("issuers").textContent = `Its tokens come from ${issuers.join(", ")}.`;
}
