// Drives simple-oauth2 through the password grant, a refresh and a revocation. Reads one JSON object
// from stdin and writes one to stdout.
import { text } from 'node:stream/consumers'
import { ResourceOwnerPassword } from 'simple-oauth2'

const { issuer, username, password } = JSON.parse(await text(process.stdin))
const client = new ResourceOwnerPassword({
  client: { id: 'any', secret: 'any' },
  auth: { tokenHost: issuer, tokenPath: '/token', revokePath: '/token/revoke' },
})
const alive = async ({ token }) =>
  (await fetch(`${issuer}/me`, { headers: { authorization: `Bearer ${token.access_token}` } })).status
const refusal = async (promise) => {
  try {
    return { accepted: await promise }
  } catch (error) {
    return { status: error.output?.statusCode, error: error.data?.payload?.error }
  }
}

const refused = await refusal(client.getToken({ username, password: 'wrong' }))
const first = await client.getToken({ username, password, scope: 'reports:read' })
const second = await first.refresh()
const before = await alive(second)
await second.revoke('refresh_token')
console.log(
  JSON.stringify({
    refused,
    scope: first.token.scope,
    rotated: second.token.refresh_token !== first.token.refresh_token,
    before,
    after: await alive(second),
    dead: await refusal(second.refresh()),
  }),
)
