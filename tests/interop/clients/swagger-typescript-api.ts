// Logs in, refreshes, lists and ends a session with the client of swagger-typescript-api.
import { Api } from "./generated/swagger-typescript-api.js";

const api = new Api<string>({
  securityWorker: (token) => (token ? { headers: { authorization: `Bearer ${token}` } } : {}),
});
const begun = await api.login.login({
  email: "alice@example.com", password: "correct horse battery staple", strategy: "jwt",
});
if (begun.data.strategy !== "jwt") throw new Error(JSON.stringify(begun.data));
const renewed = await api.token.refreshToken({
  grant_type: "refresh_token", refresh_token: begun.data.refresh_token,
});
api.setSecurityData(renewed.data.access_token);
const listed = await api.me.listSessions();
const current = listed.data.find((session) => session.current);
if (!current) throw new Error("no session of this login");
const ended = await api.me.endSession(current.id);
const after = await api.me.listSessions().catch((refused: Response) => refused);
console.log(JSON.stringify({ sessions: listed.data.length, ended: ended.status, after: after.status }));
