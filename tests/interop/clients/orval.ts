// Logs in, refreshes, lists and ends a session with the client of orval.
import { endSession, listSessions, login, refreshToken } from "./generated/orval.js";

const begun = await login({ email: "alice@example.com", password: "correct horse battery staple", strategy: "jwt" });
if (begun.status !== 200 || begun.data.strategy !== "jwt") throw new Error(JSON.stringify(begun));
const renewed = await refreshToken({ grant_type: "refresh_token", refresh_token: begun.data.refresh_token });
if (renewed.status !== 200) throw new Error(JSON.stringify(renewed));
const options = { headers: { authorization: `Bearer ${renewed.data.access_token}` } };
const listed = await listSessions(options);
if (listed.status !== 200) throw new Error(JSON.stringify(listed));
const current = listed.data.find((session) => session.current);
if (!current) throw new Error("no session of this login");
const ended = await endSession(current.id, options);
const after = await listSessions(options);
console.log(JSON.stringify({ sessions: listed.data.length, ended: ended.status, after: after.status }));
