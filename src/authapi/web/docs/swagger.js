// Swagger UI: a filter, the cookie in Authorize, and names for what screen readers could not name.

const FILTER_DELAY = 150;
const COOKIE_VALUE = "YOUR_SESSION_COOKIE";

// Swagger UI with the panel between the title and the operations. `callers` tells who is signed in.
export function createSwagger(api, { callers, panel, signIn, signOut, beforeRequest, afterResponse }) {
  const swagger = SwaggerUIBundle({
    spec: api,
    domNode: document.getElementById("swagger-ui"),
    layout: "DocsLayout",
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    filter: true,
    persistAuthorization: false,
    // The curl command has the cookie, which no script can read, as a placeholder.
    showMutatedRequest: false,
    syntaxHighlight: { theme: "tomorrow-night" },
    tryItOutEnabled: true,
    validatorUrl: null,
    plugins: [layout(panel), cookie(callers, signIn, signOut), filter, names],
    requestInterceptor: (request) => {
      // Browsers send the cookie themselves, and forbid this header.
      delete request.headers.Cookie;
      beforeRequest(request);
      return request;
    },
    responseInterceptor: (response) => {
      afterResponse(response);
      return response;
    },
  });
  return swagger;
}

// Padlocks and curl commands take the cookie for any other credential.
export function showCookie(swagger, name, isSignedIn) {
  const { authActions, authSelectors } = swagger;
  if (isSignedIn === authSelectors.authorized().has(name)) return;
  if (isSignedIn) swagger.preauthorizeApiKey(name, COOKIE_VALUE);
  else authActions.logout([name]);
}

function layout(panel) {
  return ({ getSystem }) => ({
    components: {
      DocsLayout: ({ getComponent, specSelectors }) => {
        const create = getSystem().React.createElement;
        const [Svg, Errors, Info, Servers, Authorize, Filter, Operations, Models] = [
          ["SvgAssets"], ["errors", true], ["InfoContainer", true], ["ServersContainer", true],
          ["AuthorizeBtnContainer", true], ["FilterContainer", true], ["operations", true], ["Models", true],
        ].map((name) => getComponent(...name));
        // Moving the panel again would take the focus from it.
        const place = (slot) => slot?.contains(panel) || slot?.append(panel);
        const hasServers = specSelectors.servers()?.size > 0;
        return create("div", { className: "swagger-ui" },
          create(Svg), create(Errors),
          create("div", { className: "wrapper" }, create(Info)),
          create("div", { className: "wrapper", ref: place }),
          create("div", { className: "wrapper toolbar" },
            create("h2", null, "Operations"), create(Filter),
            hasServers && create(Servers), specSelectors.securityDefinitions() && create(Authorize)),
          create("div", { className: "wrapper" }, create(Operations), create(Models)));
      },
    },
  });
}

// Swagger UI would ask for the value of the cookie, but pages cannot set the header Cookie.
function cookie(callers, signIn, signOut) {
  return ({ getSystem }) => {
    const Cookie = ({ name }) => {
      const { React, authActions } = getSystem();
      const create = React.createElement;
      const [, update] = React.useState(0);
      React.useEffect(() => callers.onChange(() => update((count) => count + 1)), []);
      const caller = callers.get(name);
      const leave = () => {
        authActions.showDefinitions(false);
        signIn();
      };
      return create("div", { className: "docs-cookie" },
        create("h4", null, create("code", null, name), " (cookie)"),
        create("p", null, caller
          ? `Signed in as ${caller.user?.email ?? "an account"}: this browser sends the cookie by itself.`
          : "Not signed in. Sign in at the top of this page: this browser then sends the cookie by itself."),
        create("div", { className: "auth-btn-wrapper" }, caller
          ? create("button", { type: "button", className: "btn modal-btn auth", onClick: signOut }, "Sign out")
          : create("button", { type: "button", className: "btn modal-btn auth authorize", onClick: leave }, "Sign in")));
    };
    const wrap = (Original, { React }) => (props) => (
      props.schema.get("in") === "cookie"
        ? React.createElement(Cookie, { name: props.name }) : React.createElement(Original, props));
    return { wrapComponents: { apiKeyAuth: wrap } };
  };
}

const textOf = (tag, operation) => [
  tag, operation.get("method"), operation.get("path"), operation.getIn(["operation", "summary"]),
].join(" ").toLowerCase();

// Every word must be in the tag, the method, the path or the summary.
export const matching = (tagged, phrase) => {
  const words = phrase.toLowerCase().split(/\s+/).filter(Boolean);
  return tagged
    .map((entry, tag) => entry.update("operations", (all) => (
      all.filter((operation) => words.every((word) => textOf(tag, operation).includes(word))))))
    .filter((entry) => entry.get("operations").size > 0);
};

function filter({ getSystem }) {
  const FilterContainer = ({ layoutActions, layoutSelectors, specSelectors }) => {
    const { React } = getSystem();
    const create = React.createElement;
    const [phrase, setPhrase] = React.useState("");
    React.useEffect(() => {
      // Swagger UI renders all operations again.
      const timer = setTimeout(() => layoutActions.updateFilter(phrase.trim() || true), FILTER_DELAY);
      return () => clearTimeout(timer);
    }, [phrase]);
    const isFiltered = typeof layoutSelectors.currentFilter() === "string";
    const count = specSelectors.taggedOperations().reduce((sum, entry) => sum + entry.get("operations").size, 0);
    return create("div", { className: "docs-filter" },
      create("label", { htmlFor: "filter" }, "Filter"),
      create("input", {
        id: "filter", type: "search", value: phrase, autoComplete: "off", spellCheck: false,
        "aria-describedby": "filter-count", onChange: (event) => setPhrase(event.target.value),
      }),
      create("span", { id: "filter-count", role: "status" }, isFiltered
        ? `${count} operation${count === 1 ? "" : "s"}` : "by path, method, tag or summary"));
  };
  return { components: { FilterContainer }, fn: { opsFilter: matching } };
}

function names() {
  // A link within the button of an operation could not be reached; the fragment is set all the same.
  const DeepLink = (_, { React }) => ({ path, text }) => React.createElement("span", { "data-fragment": path }, text);
  const TextArea = (Original, { React }) => (props) => (
    React.createElement(Original, { "aria-label": "Request body", ...props }));
  // The name of a button must contain its text, or it cannot be chosen by voice.
  const Button = (Original, { React }) => (props) => {
    const { "aria-label": label, children } = props;
    const hidesText = label && typeof children === "string" && !label.includes(children);
    return React.createElement(Original, hidesText ? { ...props, "aria-label": `${children}: ${label}` } : props);
  };
  const CloseIcon = (Original, { React }) => (props) => React.createElement(React.Fragment, null,
    React.createElement(Original, props), React.createElement("span", { className: "unseen" }, "Close"));
  // Each field of the dialog asks for the focus, and the last one would get it.
  const Input = (Original, { React }) => ({ autoFocus, ...props }) => React.createElement(Original, props);
  const authorizationPopup = (Original, { React }) => (props) => {
    const dialog = React.useRef();
    React.useEffect(() => holdFocus(dialog.current), []);
    const described = { ref: dialog, role: "dialog", "aria-modal": true, "aria-label": "Available authorizations" };
    return React.createElement("div", described, React.createElement(Original, props));
  };
  const ExamplesSelect = (Original, { React }) => (props) => {
    const name = (place) => place?.querySelector("select")?.setAttribute("aria-label", "Example");
    return React.createElement("div", { ref: name }, React.createElement(Original, props));
  };
  // Each open operation has such a region.
  const responses = (Original, { React }) => (props) => {
    const name = (place) => place?.querySelector("table[role=region]")?.setAttribute("aria-label", `Responses of ${props.method} ${props.path}`);
    return React.createElement("div", { ref: name }, React.createElement(Original, props));
  };
  const Select = (Original, { React }) => (props) => {
    const name = (place) => {
      const field = place?.querySelector("select");
      if (field && !field.labels.length) field.ariaLabel = field.closest("[data-param-name]")?.dataset.paramName ?? "Value";
    };
    return React.createElement("span", { ref: name }, React.createElement(Original, props));
  };
  // A text that scrolls must be reached with the keyboard.
  const HighlightCode = (Original, { React }) => (props) => {
    const reach = (place) => place?.querySelectorAll("pre").forEach((text) => { text.tabIndex = 0; });
    return React.createElement("div", { ref: reach }, React.createElement(Original, props));
  };
  const own = { DeepLink, TextArea, Button, CloseIcon, Input, Select, HighlightCode, ExamplesSelect };
  return { wrapComponents: { ...own, authorizationPopup, responses } };
}

// Keeps the focus in the dialog until it is closed, and returns it then.
function holdFocus(dialog) {
  const opener = document.activeElement;
  const fields = () => [...dialog.querySelectorAll("button, input, select, a[href]")].filter((field) => field.offsetParent);
  const onKey = (event) => {
    if (event.key !== "Tab") return;
    const all = fields();
    const [from, to] = event.shiftKey ? [all[0], all.at(-1)] : [all.at(-1), all[0]];
    if (document.activeElement !== from) return;
    event.preventDefault();
    to.focus();
  };
  dialog.addEventListener("keydown", onKey);
  fields()[0]?.focus();
  // Its fields have asked for the focus, and were scrolled to.
  dialog.querySelector(".modal-ux-content").scrollTop = 0;
  return () => {
    // An action that closes the dialog may have moved the focus already.
    if (document.activeElement === document.body) opener?.focus();
  };
}
