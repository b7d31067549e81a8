// better-auth in Express as in its documentation, with its adapter of pg and its plugin `bearer`. One process.
//
// With COOKIE_CACHE=1, its signed cookie cache is enabled, with which a request needs no query.

import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { fromNodeHeaders, toNodeHandler } from "better-auth/node";
import { bearer } from "better-auth/plugins";
import express from "express";
import pg from "pg";

const BODY = { id: "01a20698-e353-7f96-9181-5ccc2ce09c9c", email: "alice@example.com", plan: "basic" };
const { BASE_URL, COOKIE_CACHE, DATABASE_URL, PORT } = process.env;

const options = {
  secret: "only for a benchmark on loopback, 32+",
  baseURL: BASE_URL,
  database: new pg.Pool({ connectionString: DATABASE_URL }),
  emailAndPassword: { enabled: true },
  session: { cookieCache: { enabled: COOKIE_CACHE === "1" } },
  plugins: [bearer()],
  // The default of three logins in ten seconds is too low for the benchmark.
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
};
const { runMigrations } = await getMigrations(options);
await runMigrations();
const auth = betterAuth(options);

const app = express();
app.all("/api/auth/*splat", toNodeHandler(auth));
app.get("/plain", (request, response) => response.json(BODY));
app.get("/guarded", async (request, response) => {
  const session = await auth.api.getSession({ headers: fromNodeHeaders(request.headers) });
  if (session === null) return response.sendStatus(401);
  return response.json(BODY);
});

app.listen(Number(PORT), "127.0.0.1");
