// Runs oauth4webapi as a client and as a resource server of an issuer. Reads one JSON object from
// stdin and writes one to stdout.
import { text } from 'node:stream/consumers'
import * as oauth from 'oauth4webapi'

const { issuer, algorithm, access_token, refresh_token, id, secret } = JSON.parse(
  await text(process.stdin),
)
const http = { [oauth.allowInsecureRequests]: true }
const url = new URL(issuer)
const server = await oauth.processDiscoveryResponse(
  url,
  await oauth.discoveryRequest(url, { ...http, algorithm: 'oauth2' }),
)
const resource = await oauth.processResourceDiscoveryResponse(
  url,
  await oauth.resourceDiscoveryRequest(url, http),
)

const client = { client_id: 'any' }
const refresh = async (token) =>
  oauth.processRefreshTokenResponse(
    server,
    client,
    await oauth.refreshTokenGrantRequest(server, client, oauth.None(), token, http),
  )
const introspect = async (token, gateway, authentication) =>
  oauth.processIntrospectionResponse(
    server,
    gateway,
    await oauth.introspectionRequest(server, gateway, authentication, token, http),
  )
const refusal = async (promise) => {
  try {
    return { accepted: await promise }
  } catch ({ code, error, error_description, status, cause }) {
    return { code, error, error_description, status, challenges: Array.isArray(cause) ? cause : [] }
  }
}

const claims = await oauth.validateJwtAccessToken(
  server,
  new Request(issuer, { headers: { authorization: `Bearer ${access_token}` } }),
  'authapi',
  { ...http, signingAlgorithms: [algorithm] },
)
const refused = await refusal(refresh('art_x'))
const renewed = await refresh(refresh_token)
const gateway = { client_id: id }
const by_basic = await introspect(renewed.access_token, gateway, oauth.ClientSecretBasic(secret))
const by_post = await introspect(renewed.access_token, gateway, oauth.ClientSecretPost(secret))
const wrong = await refusal(introspect('x', gateway, oauth.ClientSecretBasic('wrong')))
await oauth.processRevocationResponse(
  await oauth.revocationRequest(server, client, oauth.None(), renewed.refresh_token, http),
)
const after = await introspect(renewed.access_token, gateway, oauth.ClientSecretBasic(secret))
console.log(
  JSON.stringify({ server, resource, claims, refused, renewed, by_basic, by_post, wrong, after }),
)
