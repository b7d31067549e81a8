// Drives openid-client through refresh, introspection and revocation. Reads one JSON object from
// stdin and writes one to stdout.
import { text } from 'node:stream/consumers'
import * as client from 'openid-client'

const { issuer, refresh_token, id, secret } = JSON.parse(await text(process.stdin))
const discover = (name, authentication) =>
  client.discovery(new URL(issuer), name, undefined, authentication, {
    algorithm: 'oauth2',
    execute: [client.allowInsecureRequests],
  })
const refusal = async (promise) => {
  try {
    return { accepted: await promise }
  } catch ({ code, error, error_description, status }) {
    return { code, error, error_description, status }
  }
}

const app = await discover('any', client.None())
const refused = await refusal(client.refreshTokenGrant(app, 'art_x'))
const renewed = await client.refreshTokenGrant(app, refresh_token)
const by_basic = await discover(id, client.ClientSecretBasic(secret))
const by_post = await discover(id, client.ClientSecretPost(secret))
const wrong = await refusal(
  client.tokenIntrospection(await discover(id, client.ClientSecretPost('wrong')), 'x'),
)
const before = [
  await client.tokenIntrospection(by_basic, renewed.access_token),
  await client.tokenIntrospection(by_post, renewed.refresh_token),
]
await client.tokenRevocation(app, renewed.refresh_token)
const after = await client.tokenIntrospection(by_basic, renewed.access_token)
console.log(
  JSON.stringify({
    server: app.serverMetadata(),
    ...{ refused, renewed, before, wrong, after },
  }),
)
