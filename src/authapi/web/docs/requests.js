// Requests of the docs page, and what their refusals say in words.

const BYTES = { "content-type": "application/json" };

export class Refusal extends Error {
  constructor(message, response, problem = {}) {
    super(message);
    this.status = response.status;
    this.code = problem.code;
    this.problem = problem;
  }
}

// Paths are relative to the page, which is beside the routes.
export async function call(method, path, { body, authorization } = {}) {
  const headers = { ...(body && BYTES), ...(authorization && { authorization }) };
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Refusal("The service does not answer.", { status: 0 });
  }
  const text = await response.text();
  const result = parsed(text);
  if (response.ok) return result;
  const after = Number(response.headers.get("retry-after"));
  throw new Refusal(words(result, response.status, after), response, result ?? {});
}

export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function words(problem, status, retryAfter) {
  const errors = problem?.errors?.map(({ loc, message }) => `${loc.at(-1)}: ${message}`).join("; ");
  const text = errors || [problem?.detail, problem?.title].find((item) => typeof item === "string")
    || `The service answers with status ${status}.`;
  const parts = [sentence(text)];
  if (Number.isInteger(problem?.attempts_left)) parts.push(`${counted(problem.attempts_left, "attempt")} left.`);
  if (retryAfter > 0) parts.push(`Try again in ${waiting(retryAfter)}.`);
  return parts.join(" ");
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const waiting = (seconds) => (seconds < 90 ? counted(seconds, "second") : counted(Math.ceil(seconds / 60), "minute"));
