// The address comes from `servers` of the document.
module.exports = {
  authapi: {
    input: "openapi.json",
    output: { target: "generated/orval.ts", client: "fetch", baseUrl: { getBaseUrlFromSpecification: true } },
  },
};
