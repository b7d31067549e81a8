// An OpenID provider that issues JWT access tokens in every algorithm; its port is the first argument.
// A client gets them with the grant client_credentials (RFC 6749, section 4.4), for a resource whose
// name ends in the algorithm (RFC 8707), such as urn:orders:PS256. Tokens for urn:unusual:ALGORITHM
// have no kid, and have header members that no standard defines.
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import Provider from 'oidc-provider'

const port = process.argv[2]
const pairs = {
  rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  p256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  p384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  p521: generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  ed25519: generateKeyPairSync('ed25519'),
}
const keys = Object.entries(pairs).map(([kid, { privateKey }]) => ({
  ...privateKey.export({ format: 'jwk' }),
  kid,
  use: 'sig',
}))
const secret = randomBytes(64)

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: 'shop',
      client_secret: 'the-secret-of-the-shop',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
  ],
  jwks: { keys },
  scopes: ['orders:read'],
  formats: {
    customizers: {
      jwt: (_, token, jwt) => {
        if (!token.resourceServer.identifier().startsWith('urn:unusual:')) return
        jwt.header = { kid: undefined, cat: 'any', nonce: 'any', cty: 'any' }
      },
    },
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => {
        const alg = resource.split(':').at(-1)
        const symmetric = alg.startsWith('HS') ? { key: secret } : {}
        return {
          scope: 'orders:read',
          audience: resource,
          accessTokenFormat: 'jwt',
          accessTokenTTL: 600,
          jwt: { sign: { alg, ...symmetric } },
        }
      },
    },
  },
})
provider.listen(port, '127.0.0.1')
