"""The HTTP layer: middleware, gates, routes, schemas, pages, error responses and OpenAPI."""
