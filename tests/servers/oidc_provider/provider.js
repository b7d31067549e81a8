// An OpenID provider where people log in with any name. Its arguments are the port, and the addresses
// to which it leads back. The name of a person is the beginning of their address; that of a person
// whose name begins with "unverified" is not verified, and "mailless" has no address. The claims are at
// the userinfo endpoint, or in the ID token if CLAIMS_IN_ID_TOKENS is set.
import { generateKeyPairSync } from 'node:crypto'
import Provider from 'oidc-provider'

const [port, ...redirects] = process.argv.slice(2)
const algorithms = ['RS256', 'ES256', 'PS256', 'EdDSA']
const pairs = {
  rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  p256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ed25519: generateKeyPairSync('ed25519'),
}
const keys = Object.entries(pairs).map(([kid, { privateKey }]) => ({
  ...privateKey.export({ format: 'jwk' }),
  kid,
  use: 'sig',
}))
const client = (id, alg) => ({
  client_id: id,
  client_secret: 'the-secret-of-the-service',
  grant_types: ['authorization_code'],
  response_types: ['code'],
  redirect_uris: redirects,
  id_token_signed_response_alg: alg,
})

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: algorithms.map((name) => client(name.toLowerCase(), name)),
  conformIdTokenClaims: !process.env.CLAIMS_IN_ID_TOKENS,
  jwks: { keys },
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], auth_time: null },
  scopes: ['openid', 'email', 'profile'],
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      name: `${id} of the provider`,
      ...(id === 'mailless' ? {} : { email: `${id}@example.com`, email_verified: !id.startsWith('unverified') }),
    }),
  }),
  pkce: { required: () => true },
  cookies: { keys: ['a key of these tests'] },
  features: { devInteractions: { enabled: true } },
  enabledJWA: {
    idTokenSigningAlgValues: algorithms,
  },
})
provider.listen(port, '127.0.0.1')
