// Express + Passport as in their documentation: express-session with connect-pg-simple,
// passport-http-bearer with opaque tokens in a table, passport-jwt. One process.
//
// The session middleware applies only to the routes that need it, which favours the others.

import crypto from "node:crypto";
import { promisify } from "node:util";
import connectPgSimple from "connect-pg-simple";
import express from "express";
import session from "express-session";
import jwt from "jsonwebtoken";
import passport from "passport";
import { Strategy as BearerStrategy } from "passport-http-bearer";
import { ExtractJwt, Strategy as JwtStrategy } from "passport-jwt";
import { Strategy as LocalStrategy } from "passport-local";
import pg from "pg";

const SECRET = "only for a benchmark on loopback, 32+";
const BODY = { id: "01a20698-e353-7f96-9181-5ccc2ce09c9c", email: "alice@example.com", plan: "basic" };
const { DATABASE_URL, PORT } = process.env;

const pool = new pg.Pool({ connectionString: DATABASE_URL });
const pbkdf2 = promisify(crypto.pbkdf2);
const hash = (password, salt) => pbkdf2(password, salt, 310000, 32, "sha256");

await pool.query(`
  create table users (id serial primary key, email text unique, salt bytea, hash bytea, active boolean);
  create table tokens (token text primary key, user_id integer references users);
`);

async function one(sql, values) {
  return (await pool.query(sql, values)).rows[0] ?? false;
}

passport.use(
  new LocalStrategy({ usernameField: "email" }, async (email, password, done) => {
    try {
      const user = await one("select * from users where email = $1", [email]);
      const right = user && crypto.timingSafeEqual(user.hash, await hash(password, user.salt));
      done(null, right ? user : false);
    } catch (error) {
      done(error);
    }
  }),
);
passport.serializeUser((user, done) => done(null, user.id));
passport.deserializeUser((id, done) => {
  one("select * from users where id = $1", [id]).then((user) => done(null, user), done);
});
passport.use(
  new BearerStrategy((token, done) => {
    one("select users.* from tokens join users on users.id = user_id where token = $1", [token]).then(
      (user) => done(null, user),
      done,
    );
  }),
);
passport.use(
  new JwtStrategy(
    { jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(), secretOrKey: SECRET, algorithms: ["HS256"] },
    (claims, done) => {
      one("select * from users where id = $1", [claims.sub]).then((user) => done(null, user), done);
    },
  ),
);

const app = express();
const answer = (request, response) => response.json(BODY);
const PgStore = connectPgSimple(session);
const sessions = [
  session({
    store: new PgStore({ pool, createTableIfMissing: true }),
    secret: SECRET,
    resave: false,
    saveUninitialized: false,
    cookie: { maxAge: 3600_000, sameSite: "lax" },
  }),
  passport.session(),
];
const known = (request, response, next) =>
  request.isAuthenticated() ? next() : response.sendStatus(401);

app.get("/plain", answer);
app.get("/guarded/cookie", sessions, known, answer);
app.get("/guarded/token", passport.authenticate("bearer", { session: false }), answer);
app.get("/guarded/jwt", passport.authenticate("jwt", { session: false }), answer);
app.post("/register", express.json(), async (request, response) => {
  const { email, password } = request.body;
  const salt = crypto.randomBytes(16);
  const insert = "insert into users (email, salt, hash, active) values ($1, $2, $3, true)";
  await pool.query(insert, [email, salt, await hash(password, salt)]);
  response.sendStatus(201);
});
app.post("/login", express.json(), sessions, passport.authenticate("local"), async (request, response) => {
  const token = crypto.randomBytes(32).toString("base64url");
  await pool.query("insert into tokens (token, user_id) values ($1, $2)", [token, request.user.id]);
  const signed = jwt.sign({ sub: request.user.id }, SECRET, { expiresIn: "1h" });
  response.json({ token, jwt: signed });
});

app.listen(Number(PORT), "127.0.0.1");
