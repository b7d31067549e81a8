// Protects a route of Express with express-oauth2-jwt-bearer in its strict mode (RFC 9068), and requests
// it with each token. Reads one JSON object from stdin and writes one to stdout.
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import express from 'express'
import { auth, requiredScopes } from 'express-oauth2-jwt-bearer'

const { issuer, algorithm, tokens } = JSON.parse(await text(process.stdin))
const app = express()
app.use(
  auth({
    issuerBaseURL: issuer,
    audience: 'authapi',
    tokenSigningAlg: algorithm,
    strict: true,
  }),
)
app.get('/claims', (request, response) => response.json(request.auth.payload))
app.get('/scoped', requiredScopes('reports:read'), (_, response) => response.json({}))
app.use((error, _request, response, _next) =>
  response.status(error.status ?? 500).json({ code: error.code, message: error.message }),
)
const listening = app.listen(0, '127.0.0.1')
await once(listening, 'listening')

const told = []
for (const token of tokens) {
  const found = {}
  for (const path of ['claims', 'scoped']) {
    const answer = await fetch(`http://127.0.0.1:${listening.address().port}/${path}`, {
      headers: { authorization: `Bearer ${token}` },
    })
    found[path] = { status: answer.status, body: await answer.json() }
  }
  told.push(found)
}
console.log(JSON.stringify(told))
listening.close()
listening.closeAllConnections()
