// Verifies JWTs with jose (npm). The issuer is the first argument. Each line of stdin is a token; each
// line of stdout is JSON with its claims or the error code. The key set is read from the `jwks_uri` in
// the metadata, once as long as it contains every requested key.
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
