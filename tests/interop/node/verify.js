// Verifies JWTs with npm's jose: the issuer is the first argument, the tokens come one a line, and
// for each one line of JSON goes back, its claims or the code of the error. The key set is read from
// where the metadata of the issuer say, once, as long as it has every key that is asked for.
import { createInterface } from 'node:readline'
import { createRemoteJWKSet, customFetch, jwtVerify } from 'jose'

const [issuer, algorithm] = process.argv.slice(2)
const metadata = await (await fetch(`${issuer}/.well-known/oauth-authorization-server`)).json()
if (metadata.issuer !== issuer) throw new Error('the metadata are of another issuer')

let reads = 0
const keys = createRemoteJWKSet(new URL(metadata.jwks_uri), {
  [customFetch]: (...request) => ((reads += 1), fetch(...request)),
})
const options = { issuer, audience: 'authapi', typ: 'at+jwt', algorithms: [algorithm] }

for await (const token of createInterface({ input: process.stdin })) {
  let told
  try {
    const { payload, protectedHeader } = await jwtVerify(token, keys, options)
    told = { claims: payload, header: protectedHeader, reads }
  } catch (error) {
    told = { error: error.code ?? String(error), reads }
  }
  console.log(JSON.stringify(told))
}
