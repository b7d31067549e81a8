// Logs in, refreshes, lists and ends a session with the client of @hey-api/openapi-ts.
import { endSession, listSessions, login, refreshToken } from "./generated/hey-api/index.js";

const begun = await login({
  body: { email: "alice@example.com", password: "correct horse battery staple", strategy: "jwt" },
  throwOnError: true,
});
if (begun.data.strategy !== "jwt") throw new Error(JSON.stringify(begun.data));
const body = { grant_type: "refresh_token" as const, refresh_token: begun.data.refresh_token };
const renewed = await refreshToken({ body, throwOnError: true });
const auth = renewed.data.access_token;
const listed = await listSessions({ auth, throwOnError: true });
const current = listed.data.find((session) => session.current);
if (!current) throw new Error("no session of this login");
const ended = await endSession({ auth, path: { session_id: current.id } });
const after = await listSessions({ auth });
console.log(JSON.stringify({ sessions: listed.data.length, ended: ended.response?.status, after: after.response?.status }));
